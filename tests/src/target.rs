//! Real targets: the demo's store and shop, started as a user would have them.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::stack::binary;

/// A process that the system heals. It is no child of the system.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name in the configuration.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    state_dir: PathBuf,
    starts: PathBuf,
    command: Vec<String>,
}

/// Ports that no system gives to outgoing connections by itself: what is free there stays free
/// until somebody asks for that very port.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Returns an address of this host that nobody uses now, and that no outgoing connection of
/// another test takes before it is used.
///
/// # Panics
///
/// When the host has none.
#[must_use]
#[expect(clippy::unwrap_used, reason = "without a port there is no test")]
pub fn free_address() -> SocketAddr {
    let mut any = std::iter::repeat_with(|| {
        let [a, b, ..] = uuid::Uuid::new_v4().into_bytes();
        PORTS.start + u16::from_be_bytes([a, b]) % (PORTS.end - PORTS.start)
    });
    any.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap().local_addr().unwrap()
}

impl Target {
    /// Describes a Redis-like store named `database`, with more flags for its faults.
    #[must_use]
    pub fn store(dir: &Path, more: &[&str]) -> Self {
        let data = dir.join("store.aof");
        let mut command = vec!["--data".to_owned(), data.display().to_string()];
        command.extend(more.iter().map(|it| (*it).to_owned()));
        Self::new("database", "demo-store", dir, command)
    }

    /// Describes a shop named `shop` that needs a store.
    #[must_use]
    pub fn shop(dir: &Path, store: &Self) -> Self {
        let command = vec!["--store".to_owned(), store.address.to_string()];
        Self::new("shop", "demo-shop", dir, command)
    }

    fn new(name: &'static str, program: &str, dir: &Path, more: Vec<String>) -> Self {
        let address = free_address();
        let starts = dir.join(format!("{name}.starts"));
        let mut command = vec![
            binary(program).display().to_string(),
            "--listen".to_owned(),
            address.to_string(),
            "--starts-file".to_owned(),
            starts.display().to_string(),
        ];
        command.extend(more);
        Self { name, address, state_dir: dir.join("data/run"), starts, command }
    }

    /// Returns its handle, for the configuration.
    #[must_use]
    pub fn handle(&self) -> String {
        format!("process: {{command: {}}}", serde_json::json!(self.command))
    }

    fn pid_file(&self) -> PathBuf {
        self.state_dir.join(format!("{}.pid", self.name))
    }

    /// Starts it by hand, as somebody did before the system came, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[expect(clippy::unwrap_used, reason = "a target that cannot be started is no test")]
    pub async fn start(&self) {
        use std::os::unix::process::CommandExt as _;
        fs::create_dir_all(&self.state_dir).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.state_dir.join(format!("{}.log", self.name)))
            .unwrap();
        let (program, args) = self.command.split_first().unwrap();
        let mut child = Command::new(program)
            .args(args)
            .env("SELFHEAL_TARGET", self.name)
            .env("SELFHEAL_STATE_DIR", &self.state_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        fs::write(self.pid_file(), format!("{}\n", child.id())).unwrap();
        // Somebody must take its end, or it would stay as a zombie of ours.
        std::thread::spawn(move || child.wait());
        crate::eventually("the target answers", || async {
            if self.answers() { Ok(()) } else { Err("refused") }
        })
        .await;
    }

    /// Returns whether something accepts connections there.
    #[must_use]
    pub fn answers(&self) -> bool {
        TcpStream::connect_timeout(&self.address, Duration::from_millis(500)).is_ok()
    }

    /// Returns its process id, as in its pid file.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// Kills it with SIGKILL; says whether there was something to kill.
    #[must_use]
    pub fn kill(&self) -> bool {
        let pid = self.pid().and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
        })
    }

    /// Returns its starts as it has counted them itself, the oldest first.
    #[must_use]
    pub fn starts(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.starts).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns the attempts that started it, as (incident, attempt).
    #[must_use]
    pub fn attempts(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.to_string().trim_matches('"').to_owned();
        let starts = self.starts();
        let healed = starts.iter().filter(|it| it["incident"].is_string());
        healed.map(|it| (text(&it["incident"]), text(&it["attempt"]))).collect()
    }
}
