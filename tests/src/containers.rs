//! The system on containers: one compose project for one test, taken down at its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Containers get this long to end when the project is taken down.
const STOP_SECONDS: &str = "10";
/// The gateway answers within this time or the test fails.
const HTTP_LIMIT: Duration = Duration::from_secs(10);

/// What to do when there is no engine: the same words for every test that needs one.
const NO_ENGINE: &str = "this test needs a container engine and `docker compose`: \
    `cargo xtask test` leaves it out where none answers, and says how to get one";

/// A running compose project of the repository's `docker-compose.yml`.
///
/// It has its own name, ports, secrets and configuration, so that it meets no other project.
#[derive(Debug)]
pub struct Compose {
    project: String,
    dir: PathBuf,
    env: Vec<(String, String)>,
    /// What stands in the files of secrets.
    secrets: Vec<(String, String)>,
}

impl Compose {
    /// Starts the project with so many containers of each named service, and waits until all are healthy.
    ///
    /// # Errors
    ///
    /// When there is no engine, or a container does not become healthy.
    pub fn up(name: &str, scales: &[(&str, u32)]) -> anyhow::Result<Self> {
        Self::up_with_profiles(name, scales, "")
    }

    /// As [`Self::up`], also with what stands in these profiles, parted by commas.
    ///
    /// # Errors
    ///
    /// As [`Self::up`].
    pub fn up_with_profiles(
        name: &str,
        scales: &[(&str, u32)],
        profiles: &str,
    ) -> anyhow::Result<Self> {
        let project = format!("selfheal-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&project);
        std::fs::create_dir_all(&dir).context("cannot make a directory for the project")?;
        let config = std::fs::read_to_string(root().join("deploy/examples/compose.yaml"))
            .context("cannot read the configuration of the compose example")?;
        let config_file = dir.join("selfheal.yaml");
        std::fs::write(&config_file, config.replace("selfheal/", &format!("{project}/")))
            .context("cannot write the configuration")?;

        let (mut env, secrets) = secrets(&dir.join("secrets"))?;
        // 0: any free port; `port` tells which.
        for port in ["SELFHEAL_PORT", "SELFHEAL_NATS_PORT", "DEMO_SHOP_PORT"] {
            env.push((port.to_owned(), "0".to_owned()));
        }
        env.push(("COMPOSE_PROFILES".to_owned(), profiles.to_owned()));
        env.push(("SELFHEAL_CONFIG_FILE".to_owned(), config_file.display().to_string()));
        let compose = Self { project, dir, env, secrets };
        let scales: Vec<String> =
            scales.iter().map(|(service, n)| format!("--scale={service}={n}")).collect();
        let mut args = vec!["up", "--detach", "--wait", "--wait-timeout", "120"];
        args.extend(scales.iter().map(String::as_str));
        compose.run(&args).context(NO_ENGINE)?;
        Ok(compose)
    }

    /// Runs `docker compose` with these arguments on the project and returns what it prints.
    ///
    /// # Errors
    ///
    /// When it fails; the error holds what it wrote to standard error.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .args(["compose", "--project-name", &self.project])
            .args(args)
            .current_dir(root())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .output()
            .context("cannot run docker")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("docker compose {} failed: {}", args.join(" "), stderr.trim());
        }
        String::from_utf8(output.stdout).context("docker compose printed no text")
    }

    /// Returns a variable that the project was started with, or a secret: a password of the broker,
    /// or `SELFHEAL_API_TOKEN`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.secrets
            .iter()
            .chain(&self.env)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the address on this host at which a service's port is published.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn address(&self, service: &str, port: u16) -> anyhow::Result<String> {
        let address = self.run(&["port", service, &port.to_string()])?;
        Ok(address.trim().to_owned())
    }

    /// Gets a path of the gateway with the API token.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached, or answers anything but 200 and JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.request("GET", path, "", true)?;
        if status != 200 {
            bail!("GET {path} answered {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("GET {path} answered no JSON"))
    }

    /// Sends a request to the gateway and returns status and body.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached or does not answer HTTP.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: &str,
        with_token: bool,
    ) -> anyhow::Result<(u16, String)> {
        let address = self.address("gateway", 8080)?;
        let token = self.variable("SELFHEAL_API_TOKEN").filter(|_| with_token);
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(&address).context("cannot reach the gateway")?;
        stream.set_read_timeout(Some(HTTP_LIMIT))?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {address}\r\n{authorization}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the gateway did not answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        Ok((status.context("no status")?, body.to_owned()))
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.run(&["logs", "--no-color", "--tail", "60"]);
            drop(std::io::stderr().write_all(logs.unwrap_or_default().as_bytes()));
        }
        // Nothing more can be done about a project that cannot be taken down.
        drop(self.run(&["down", "--volumes", "--timeout", STOP_SECONDS]));
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Variables, or secrets, with their names.
type Pairs = Vec<(String, String)>;

/// Has `deploy/secrets.sh` make secrets in a directory, as a person would, and returns the variables
/// for compose, and what is in the files.
fn secrets(dir: &Path) -> anyhow::Result<(Pairs, Pairs)> {
    let output = Command::new(root().join("deploy/secrets.sh"))
        .arg("--print")
        .env("SELFHEAL_SECRETS_DIR", dir)
        .output()
        .context("cannot run deploy/secrets.sh")?;
    if !output.status.success() {
        bail!("deploy/secrets.sh failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("deploy/secrets.sh printed no text")?;
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name)).with_context(|| format!("no secret {name}"))
    };
    let mut secrets = pairs(&read("broker_passwords")?);
    secrets.push(("SELFHEAL_API_TOKEN".to_owned(), read("api_token")?.trim().to_owned()));
    Ok((pairs(&text), secrets))
}

fn pairs(text: &str) -> Pairs {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
