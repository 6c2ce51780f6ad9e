//! A real Prometheus and a real Alertmanager, as Debian packages them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::target::free_address;

/// How alerts come to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From Prometheus to an Alertmanager, and from there by webhook.
    Webhook,
    /// Straight from Prometheus, which takes the gateway for an Alertmanager.
    Direct,
}

/// What Prometheus looks at: name of the job, and address.
pub type Job<'a> = (&'a str, SocketAddr);

/// Running programs. They end when this is dropped.
#[derive(Debug)]
pub struct Alerting {
    children: Vec<Child>,
    dir: PathBuf,
}

impl Alerting {
    /// Starts a Prometheus that raises `InstanceDown` for every job that is down, and what is
    /// needed to bring it to the gateway at `url`, which asks for a token.
    ///
    /// # Panics
    ///
    /// When a program is not there.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "what cannot be prepared fails the test")]
    pub fn start(dir: &Path, way: Way, (url, token): (&str, &str), jobs: &[Job<'_>]) -> Self {
        let gateway = url.strip_prefix("http://").unwrap_or(url);
        let (prometheus, alertmanager) = (free_address(), free_address());
        let raised_to = match way {
            Way::Webhook => alertmanager.to_string(),
            Way::Direct => gateway.to_owned(),
        };
        let scrapes: String = jobs
            .iter()
            .map(|(name, at)| {
                format!("  - job_name: {name}\n    static_configs: [{{targets: [\"{at}\"]}}]\n")
            })
            .collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             alerting:\n  alertmanagers:\n    - static_configs: [{{targets: [\"{raised_to}\"]}}]\n      \
             authorization: {{credentials: {token}}}\n\
             scrape_configs:\n{scrapes}"
        );
        let rules = "groups:\n  - name: up\n    rules:\n      - alert: InstanceDown\n        \
             expr: up == 0\n        labels: {severity: critical}\n        \
             annotations: {summary: \"{{ $labels.job }} is down\"}\n";
        let route = format!(
            "route: {{receiver: selfheal, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers:\n  - name: selfheal\n    webhook_configs:\n      \
             - {{url: \"{url}/integrations/alertmanager\", send_resolved: true, http_config: {{authorization: {{credentials: {token}}}}}}}\n"
        );
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        fs::write(dir.join("rules.yml"), rules).unwrap();
        fs::write(dir.join("alertmanager.yml"), route).unwrap();
        let mut this = Self { children: Vec::new(), dir: dir.to_owned() };
        if way == Way::Webhook {
            this.run(
                "prometheus-alertmanager",
                &[
                    "--config.file=alertmanager.yml".to_owned(),
                    format!("--web.listen-address={alertmanager}"),
                    "--cluster.listen-address=".to_owned(),
                    "--storage.path=alertmanager".to_owned(),
                ],
            );
        }
        this.run(
            "prometheus",
            &[
                "--config.file=prometheus.yml".to_owned(),
                format!("--web.listen-address={prometheus}"),
                "--storage.tsdb.path=prometheus".to_owned(),
            ],
        );
        this
    }

    #[expect(clippy::unwrap_used, clippy::panic, reason = "a missing partner fails the test")]
    fn run(&mut self, program: &str, arguments: &[String]) {
        let log = fs::File::create(self.dir.join(format!("{program}.log"))).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => self.children.push(child),
            Err(error) => panic!("cannot start {program}: {error}; `.ci/partners.sh` installs it"),
        }
    }
}

impl Drop for Alerting {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        if std::thread::panicking() {
            for program in ["prometheus", "prometheus-alertmanager"] {
                let path = self.dir.join(format!("{program}.log"));
                let text = fs::read_to_string(path).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(20).collect();
                #[expect(clippy::print_stderr, reason = "a failed test shows what they said")]
                {
                    eprintln!("--- {program}\n{}", last.join("\n"));
                }
            }
        }
    }
}
