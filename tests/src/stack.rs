//! The whole system as a user starts it: `selfheal up`, with a broker of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long the system may take to become ready on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an HTTP request may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(15);

/// A running system. It and its targets end when this is dropped.
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    child: Child,
    url: String,
    client: reqwest::Client,
}

/// Returns the path of a binary of this workspace.
///
/// # Panics
///
/// When it was not built: neither cargo nor nextest builds binaries of other packages.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a test knows where it runs")]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo xtask test`, or `cargo build --workspace` first",
        path.display()
    );
    path
}

/// Makes a directory of its own for a test.
///
/// # Panics
///
/// When it cannot be made.
#[must_use]
#[expect(clippy::unwrap_used, reason = "without a directory there is no test")]
pub fn directory(name: &str) -> PathBuf {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let dir = std::env::temp_dir().join(format!("selfheal-{name}-{}", &unique[..8]));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Returns where the broker's program is: named, on the path, or fetched before.
#[must_use]
pub fn nats_server() -> PathBuf {
    let fetched = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/nats-server"));
    #[expect(clippy::disallowed_methods, reason = "tests have no flags")]
    let named = std::env::var("SELFHEAL_NATS_SERVER").ok().map(PathBuf::from);
    named.unwrap_or_else(|| if fetched.exists() { fetched.into() } else { "nats-server".into() })
}

impl Stack {
    /// Starts the system in `dir` and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    pub fn up(dir: &Path, config: &str) -> Self {
        Self::up_with(dir, config, &[])
    }

    /// As [`Self::up`], with more flags.
    ///
    /// # Panics
    ///
    /// As [`Self::up`].
    #[must_use]
    #[expect(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a system that does not start fails the test"
    )]
    pub fn up_with(dir: &Path, config: &str, more: &[&str]) -> Self {
        fs::write(dir.join("selfheal.yaml"), config).unwrap();
        let log = fs::File::options().create(true).append(true).open(dir.join("up.log")).unwrap();
        let mut child = Command::new(binary("selfheal"))
            .args(["up", "--config", "selfheal.yaml", "--data-dir", "data"])
            .args(["--listen", "127.0.0.1:0", "--nats-port", "0", "--color", "never"])
            .args(more)
            .env("SELFHEAL_NATS_SERVER", nats_server())
            .env("SELFHEAL_SECRETS_DIR", dir)
            .env_remove("SELFHEAL_NATS_URL")
            .env_remove("SELFHEAL_API_TOKEN")
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (tx, rx) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.trim().strip_prefix("ready ")
                    && tx.send(url.trim().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        // Reading its output must go on as long as it lives; here only the first line counts.
        let Ok(url) = rx.recv_timeout(READY_TIMEOUT) else {
            let text = fs::read_to_string(dir.join("up.log")).unwrap_or_default();
            let _gone = child.kill();
            panic!("the system did not become ready:\n{text}");
        };
        let client = reqwest_client();
        Self { dir: dir.to_owned(), child, url, client }
    }

    /// Returns the directory of the test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the gateway's address, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Gets a document.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer with one.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(self.token());
        let answer = request.send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }

    /// Sends a document, an event as anybody on this host and all else as its owner; returns the
    /// status and the answer.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        let request = match path {
            "/publish_event" | "/api/v1/events" => request,
            _ => request.bearer_auth(self.token()),
        };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.map_err(|error| error.to_string())?))
    }

    /// Returns the incidents that fit a filter, such as `status=resolved`.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer.
    pub async fn incidents(&self, filter: &str) -> Result<Vec<Value>, String> {
        let page = self.get(&format!("/api/v1/incidents?{filter}")).await?;
        page.get("incidents").and_then(Value::as_array).cloned().ok_or_else(|| page.to_string())
    }

    /// Waits until an incident of this target has one of these states, and returns it.
    ///
    /// # Panics
    ///
    /// When it does not come to that in time; tells all incidents then.
    pub async fn until(&self, target: &str, states: &[&str]) -> Value {
        crate::eventually(&format!("an incident of {target} is {states:?}"), || async {
            let all = self.incidents("").await?;
            let is_it = |it: &&Value| {
                it["target"] == target && states.iter().any(|state| it["status"] == **state)
            };
            let found = all.iter().find(is_it).cloned();
            found.ok_or_else(|| format!("{all:#?}"))
        })
        .await
    }

    /// Waits until no incident is open.
    ///
    /// # Panics
    ///
    /// When that does not come in time.
    pub async fn until_quiet(&self) {
        crate::eventually("no incident is open", || async {
            let open = self.incidents("open=true").await?;
            if open.is_empty() { Ok(()) } else { Err(format!("{open:#?}")) }
        })
        .await;
    }

    /// Returns the lines of the log, and checks that they have the five fields and are
    /// numbered without gap or duplicate.
    ///
    /// # Panics
    ///
    /// When they are not.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "a log that cannot be read fails the test")]
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("data/incident_logs.jsonl")).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (idx, line) in lines.iter().enumerate() {
            assert_eq!(
                line["seq"].as_u64(),
                u64::try_from(idx + 1).ok(),
                "gap or duplicate: {line}"
            );
            for field in ["incident_id", "timestamp", "incident_type", "analysis", "resolution"] {
                assert!(line.get(field).is_some(), "{field} is missing: {line}");
            }
        }
        lines
    }

    /// Returns what has been decided, by name, in order, about one target.
    #[must_use]
    pub fn decisions(&self, target: &str) -> Vec<String> {
        let lines = self.log();
        let about = lines.iter().filter(|it| it["target"] == target);
        about.map(|it| it["decision"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the ids of the living processes of one kind: `supervisor`, `monitor`,
    /// `analyzer`, `fixer`, `gateway`, or `nats-server`.
    #[must_use]
    pub fn pids(&self, kind: &str) -> Vec<i32> {
        let program =
            if kind == "nats-server" { kind.to_owned() } else { format!("selfheal-{kind}") };
        descendants(self.child.id().cast_signed(), &program)
    }

    /// Kills all processes of one kind with SIGKILL and says how many there were.
    #[must_use]
    pub fn kill(&self, kind: &str) -> usize {
        let pids = self.pids(kind);
        let killed = pids.iter().filter_map(|pid| Pid::from_raw(*pid));
        killed.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count()
    }

    /// Runs `selfheal` against this system and returns its exit code and output.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "the command is there")]
    pub fn cli(&self, args: &[&str]) -> (i32, String) {
        let output = Command::new(binary("selfheal"))
            .args(args)
            .args(["--data-dir", "data"])
            .env_remove("SELFHEAL_NATS_URL")
            .current_dir(&self.dir)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// Returns the token of its owner.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn token(&self) -> String {
        self.of_owner("api-token")
    }

    /// Returns the URL of its broker for a role, such as `publisher`, with the password.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn nats_url(&self, role: &str) -> String {
        self.of_owner(&format!("nats/{role}.url"))
    }

    #[expect(clippy::unwrap_used, reason = "what its owner cannot find fails the test")]
    fn of_owner(&self, file: &str) -> String {
        let text = private::read_secret(&self.dir.join("data/run").join(file)).unwrap();
        text.trim().to_owned()
    }

    /// Connects to its broker in a role.
    ///
    /// # Errors
    ///
    /// When the broker does not let us in.
    pub async fn nats(&self, role: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
        let url = self.nats_url(role);
        let (login, address) =
            url.trim_start_matches("nats://").split_once('@').unwrap_or_default();
        let (user, password) = login.split_once(':').unwrap_or_default();
        async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned())
            .custom_inbox_prefix(format!("_INBOX_{role}"))
            .connect(address)
            .await
    }

    /// Stops the system as Ctrl-C does, and returns its exit code.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[must_use]
    pub fn stop(mut self) -> i32 {
        self.interrupt()
    }

    /// Ends it as Ctrl-C does, and keeps its directory; returns its exit code.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[expect(clippy::unwrap_used, reason = "the child is ours")]
    pub fn interrupt(&mut self) -> i32 {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

/// Returns a client of HTTP that gives up in time.
#[must_use]
pub fn reqwest_client() -> reqwest::Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(HTTP_TIMEOUT).build().unwrap_or_default()
}

/// Returns the living descendants of a process that run a program of this name.
fn descendants(root: i32, program: &str) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the name, which is in brackets and may hold anything: state and parent.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next(), fields.next().and_then(|it| it.parse::<i32>().ok()));
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut idx = 0;
    while let Some(parent) = family.get(idx).copied() {
        family.extend(parents.iter().filter(|(_, it)| *it == parent).map(|(pid, _)| *pid));
        idx += 1;
    }
    let runs = |pid: &i32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        exe.file_name().is_some_and(|it| it == program)
    };
    family.into_iter().skip(1).filter(runs).collect()
}

/// Ends the targets of a test. They are no children of the system: they live on, as they should.
pub(crate) fn kill_targets(dir: &Path) {
    for entry in fs::read_dir(dir.join("data/run")).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|it| it == "pid") {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("up.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(80).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            #[expect(clippy::print_stderr, reason = "a failed test shows what the system said")]
            {
                eprintln!("--- {}\n{}", self.dir.display(), last.join("\n"));
            }
        }
        let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _gone = self.child.wait();
        kill_targets(&self.dir);
        if !std::thread::panicking() {
            let _left_over = fs::remove_dir_all(&self.dir);
        }
    }
}
