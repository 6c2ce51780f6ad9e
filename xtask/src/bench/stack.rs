//! A whole system of its own for one measurement: own ports, own directory, ended at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Setting;
use crate::process::end;

/// The system must be ready within this time.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const HTTP_LIMIT: Duration = Duration::from_secs(10);

/// A running system.
#[derive(Debug)]
pub(super) struct Stack {
    up: Child,
    data: PathBuf,
    /// The gateway.
    pub(super) api: SocketAddr,
    /// Time from the start of `selfheal up` to its `ready`.
    pub(super) ready_after: Duration,
}

impl Stack {
    /// Starts a system in `dir` with this configuration and waits until it is ready.
    pub(super) fn start(setting: &Setting, dir: &Path, config: &str) -> anyhow::Result<Self> {
        let config_file = dir.join("selfheal.yaml");
        std::fs::write(&config_file, config).context("cannot write the configuration")?;
        let (api, nats) = (free_address()?, free_address()?);
        let log = std::fs::File::create(dir.join("up.log")).context("cannot write up.log")?;
        let begun = Instant::now();
        let mut up = Command::new(setting.binaries.join("selfheal"))
            .arg("up")
            .arg("--config")
            .arg(&config_file)
            .args(["--listen", &api.to_string(), "--nats-port", &nats.port().to_string()])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .current_dir(dir)
            .env("SELFHEAL_NATS_SERVER", &setting.server)
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
        let data = dir.join("data");
        let mut stack = Self { up, data, api, ready_after: Duration::ZERO };
        match ready {
            Ok(at) => stack.ready_after = at.duration_since(begun),
            Err(_late) => {
                stack.stop()?;
                bail!("the system was not ready; see {}", dir.join("up.log").display());
            }
        }
        Ok(stack)
    }

    /// Returns the process id of `selfheal up`.
    pub(super) fn pid(&self) -> u32 {
        self.up.id()
    }

    /// Gets a path of the gateway and returns the body.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let mut stream = TcpStream::connect(self.api).context("cannot reach the gateway")?;
        stream.set_read_timeout(Some(HTTP_LIMIT))?;
        // HTTP/1.0: the body is neither chunked nor kept open.
        let token = std::fs::read_to_string(self.data.join("run/api-token"));
        let token = format!("authorization: Bearer {}", token.context("there is no token")?.trim());
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n{token}\r\n\r\n", self.api)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        if !head.contains(" 200 ") {
            bail!("GET {path} answered {}", head.lines().next().unwrap_or_default());
        }
        serde_json::from_str(body).with_context(|| format!("GET {path} answered no JSON"))
    }

    /// Ends the system.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        end(&mut self.up, STOP_LIMIT).map(|_status| ())
    }
}

/// Makes an empty directory for one measurement.
pub(super) fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("selfheal-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Returns an address of this machine that nobody listens on.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    listener.local_addr().context("no free port")
}
