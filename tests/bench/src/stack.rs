//! A whole system of its own for one measurement: own ports, own directory, ended at the end.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bus::roles::Role;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Setting,
    proc::{self, Process},
};

/// The system must be ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(60);
const HTTP_LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(10);

/// A running system.
#[derive(Debug)]
pub struct Stack {
    up: Child,
    /// Where everything is.
    pub dir: PathBuf,
    /// The gateway.
    pub api: SocketAddr,
    /// The token of its owner.
    pub token: String,
    /// Time from the start of `selfheal up` to its `ready`.
    pub ready_after: Duration,
}

/// What a system is started with.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The text of `selfheal.yaml`.
    pub config: &'a str,
    /// How often the broker syncs, such as `always`.
    pub sync: &'a str,
    /// Where it is to be, if there is a store already.
    pub dir: Option<PathBuf>,
}

impl Stack {
    /// Starts a system and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn start(setting: &Setting, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let dir = match &wanted.dir {
            Some(dir) => dir.clone(),
            None => directory()?,
        };
        let config_file = dir.join("selfheal.yaml");
        std::fs::write(&config_file, wanted.config).context("cannot write the configuration")?;
        let (api, nats) = (free_address()?, free_address()?);
        let log = std::fs::File::create(dir.join("up.log")).context("cannot write up.log")?;
        let begun = Instant::now();
        let mut up = Command::new(setting.binaries.join("selfheal"))
            .args(["up", "--color", "never", "--nats-sync", wanted.sync, "--config"])
            .arg(&config_file)
            .args(["--listen", &api.to_string(), "--nats-port", &nats.port().to_string()])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .current_dir(&dir)
            .env("SELFHEAL_NATS_SERVER", &setting.server)
            .env_remove("SELFHEAL_NATS_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start selfheal up")?;
        let output = up.stdout.take().context("the output of selfheal up is not readable")?;
        let (tell, told) = channel();
        // It reads to the end, so that the system never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("ready http") {
                    tell.send(Instant::now()).ok();
                }
            }
        });
        let ready = told.recv_timeout(READY_LIMIT);
        let mut stack = Self { up, dir, api, token: String::new(), ready_after: Duration::ZERO };
        let Ok(at) = ready else {
            let log = stack.dir.join("up.log");
            std::mem::forget(std::mem::take(&mut stack.dir));
            bail!("the system was not ready; see {}", log.display());
        };
        stack.ready_after = at.duration_since(begun);
        stack.token = stack.of_owner("api-token")?;
        Ok(stack)
    }

    fn of_owner(&self, file: &str) -> anyhow::Result<String> {
        let path = self.dir.join("data/run").join(file);
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Returns the URL of the broker for a role, with the password.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn nats_url(&self, role: Role) -> anyhow::Result<String> {
        self.of_owner(&format!("nats/{}.url", role.as_str()))
    }

    /// Connects to the broker in a role.
    ///
    /// # Errors
    ///
    /// When it does not let us in.
    pub async fn nats(&self, role: Role) -> anyhow::Result<async_nats::Client> {
        let url = self.nats_url(role)?;
        let (login, address) =
            url.trim_start_matches("nats://").split_once('@').unwrap_or_default();
        let (user, password) = login.split_once(':').unwrap_or_default();
        let options = async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned())
            .custom_inbox_prefix(format!("_INBOX_{}", role.as_str()));
        options.connect(address).await.context("cannot reach the broker")
    }

    /// Returns all its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        proc::family(self.up.id())
    }

    /// Returns the process of one agent, such as `selfheal-supervisor`.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn process(&self, name: &str) -> anyhow::Result<Process> {
        let found = self.processes().into_iter().find(|it| it.name == name);
        found.with_context(|| format!("{name} does not run; see {}", self.dir.display()))
    }

    /// Returns the resident memory of each program, in MiB.
    #[must_use]
    pub fn memory(&self) -> Value {
        let processes = self.processes();
        let each = processes.iter().filter(|it| it.name != "selfheal");
        each.map(|it| (it.name.clone(), crate::rounded(it.rss_mib).into()))
            .collect::<serde_json::Map<String, Value>>()
            .into()
    }

    /// Kills a process of one program.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn kill(&self, name: &str) -> anyhow::Result<()> {
        let pid = i32::try_from(self.process(name)?.pid).unwrap_or(0);
        let pid = Pid::from_raw(pid).context("no process")?;
        kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {name}"))
    }

    /// Gets a path of the gateway and returns the body.
    ///
    /// # Errors
    ///
    /// When the answer is not 200 with JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        tokio::time::timeout(HTTP_LIMIT, get(self.api, &self.token, path))
            .await
            .context("no answer in time")?
    }

    /// Waits until the system has nothing to do: no process of it takes processor time.
    pub async fn until_idle(&self) {
        const QUIET: Duration = Duration::from_millis(300);
        const LIMIT: Duration = Duration::from_secs(60);
        const QUIET_CPU_S: f64 = 0.021;
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let before = self.processes();
            tokio::time::sleep(QUIET).await;
            let spent: f64 = proc::cpu_between(&before, &self.processes()).values().sum();
            if spent <= QUIET_CPU_S {
                return;
            }
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.up);
        let _gone = kill_process(pid, Signal::TERM);
        let _gone = self.up.wait();
        if !std::thread::panicking() && !self.dir.as_os_str().is_empty() {
            let _left_over = std::fs::remove_dir_all(&self.dir);
        }
    }
}

async fn get(api: SocketAddr, token: &str, path: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(api).await.context("cannot reach the gateway")?;
    // HTTP/1.0: the body is neither chunked nor kept open.
    let token = format!("authorization: Bearer {token}");
    let request = format!("GET {path} HTTP/1.0\r\nhost: {api}\r\n{token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    if !head.contains(" 200 ") {
        bail!("GET {path} answered {}: {body}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).with_context(|| format!("GET {path} answered no JSON"))
}

/// Waits until `look` returns something, at most `limit`.
///
/// # Errors
///
/// When it does not in time.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if limit <= begun.elapsed() {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        tokio::time::sleep(TICK).await;
    }
}

/// The configuration of a system that has one target, which is well and stays so.
///
/// # Errors
///
/// When there is no free port.
pub fn quiet_config() -> anyhow::Result<String> {
    let check = json!({"tcp": well()?, "every": "60s"});
    let config = json!({
        "targets": [{"name": "quiet", "checks": [check]}],
        "policy": {"autonomy": "auto"},
    });
    Ok(config.to_string())
}

/// Takes connections and closes them, until this process ends: a check that is always well.
///
/// # Errors
///
/// When there is no free port.
pub fn well() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(address)
}

/// Makes an empty directory for one measurement.
///
/// # Errors
///
/// When it cannot be made.
pub fn directory() -> anyhow::Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("selfheal-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Returns an address of this machine that nobody listens on.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    listener.local_addr().context("no free port")
}
