//! The real Prometheus, and its tool.

#![expect(clippy::indexing_slicing, reason = "JSON has nothing where it has nothing")]

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::{eventually, stack::reqwest_client, target::free_address};

/// How often a Prometheus of a test scrapes and evaluates.
const INTERVAL: &str = "500ms";

/// Runs `promtool`, with a text as its input.
///
/// # Panics
///
/// When it is not there.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a tool that does not run fails the test")]
pub fn promtool(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program("promtool"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns where a program of Prometheus is: fetched before, or on the path.
///
/// # Panics
///
/// When it is nowhere.
fn program(name: &str) -> PathBuf {
    let fetched = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools")).join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|it| it.join(name));
    let found = std::iter::once(fetched).chain(places).find(|it| it.exists());
    assert!(
        found.is_some(),
        "{name} is neither in .tools nor on the path; .ci/partners.sh installs it, as `apt-get install prometheus` does"
    );
    found.unwrap_or_default()
}

/// A running Prometheus. Killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Prometheus {
    /// Starts one that scrapes these addresses as job `selfheal`, with these files of rules.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or does not become ready.
    #[expect(clippy::unwrap_used, reason = "without a Prometheus there is no test")]
    pub async fn start(dir: &Path, scraped: &[SocketAddr], rules: &[PathBuf]) -> Self {
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir).unwrap();
        let targets: Vec<String> = scraped.iter().map(|it| format!("\"{it}\"")).collect();
        let rules: Vec<String> = rules.iter().map(|it| format!("\"{}\"", it.display())).collect();
        let config = format!(
            "global: {{scrape_interval: {INTERVAL}, evaluation_interval: {INTERVAL}}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: selfheal\n    static_configs: [{{targets: [{}]}}]\n",
            rules.join(", "),
            targets.join(", ")
        );
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        let address = free_address();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(program("prometheus"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(&dir)
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self { child, address, client: reqwest_client() };
        eventually("prometheus is ready", || async {
            let ready = prometheus.client.get(format!("http://{address}/-/ready")).send().await;
            let status = ready.map_err(|error| error.to_string())?.status();
            if status.is_success() { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        prometheus
    }

    /// Asks a query, and returns the series of its answer.
    ///
    /// # Errors
    ///
    /// When it does not answer, or the query is wrong; in its words.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://{}/api/v1/query", self.address);
        let url = reqwest::Url::parse_with_params(&url, &[("query", query)]);
        let url = url.map_err(|error| error.to_string())?;
        let asked = self.client.get(url).send().await;
        let answer = asked.map_err(|error| error.to_string())?.json::<Value>().await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
