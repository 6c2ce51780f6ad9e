//! Whether a container engine answers, and `docker compose`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// An engine answers a ping within this time, or counts as absent.
const PING_LIMIT: Duration = Duration::from_secs(5);

const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// What a person can do when no engine answers.
pub(crate) const HOW_TO_GET: &str = "install Docker (https://docs.docker.com/engine/install, or \
    `apt-get install docker.io`), start it, and see that `docker version` shows a server";

/// Checks that an engine answers and that `docker compose` is there.
pub(crate) fn check() -> anyhow::Result<()> {
    let host = std::env::var_os("DOCKER_HOST");
    let host = host.map(|host| host.to_string_lossy().into_owned());
    let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
    ping(&host).with_context(|| format!("no container engine answers at {host}"))?;
    if runs(&["docker", "compose", "version"]) || runs(&["docker-compose", "version"]) {
        return Ok(());
    }
    bail!("an engine answers, but neither `docker compose` nor `docker-compose` is there")
}

fn ping(host: &str) -> anyhow::Result<()> {
    let request = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
    let answer = if let Some(path) = host.strip_prefix("unix://") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PING_LIMIT))?;
        ask(stream, request)?
    } else if let Some(address) = host.strip_prefix("tcp://") {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PING_LIMIT))?;
        ask(stream, request)?
    } else {
        bail!("DOCKER_HOST must begin with unix:// or tcp://");
    };
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("it answered: {}", answer.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn ask(mut stream: impl Read + Write, request: &[u8]) -> anyhow::Result<String> {
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

fn runs(words: &[&str]) -> bool {
    let Some((program, args)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
