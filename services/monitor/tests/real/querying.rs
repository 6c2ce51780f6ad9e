//! Queries to a real Prometheus, as Debian packages it.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use crate::kit::{Dir, eventually};
use domain::{
    check::{Check, PrometheusCheck},
    target::Target,
};
use monitor::{
    probes::{self, Question},
    sample::{Outcome, Sample},
};

/// Ends with the test.
struct Prometheus {
    child: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Prometheus {
    /// Starts one that scrapes itself, and an address where nobody listens.
    fn start(dir: &Dir) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (own, nobody) = (free(), free());
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n\
             - job_name: itself\n  static_configs: [{{targets: [\"{own}\"]}}]\n\
             - job_name: nobody\n  static_configs: [{{targets: [\"{nobody}\"]}}]\n"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={own}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("prometheus.log")).unwrap())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot start prometheus: {error}; `.ci/partners.sh` installs it")
        });
        Self { child, url: format!("http://{own}") }
    }
}

async fn ask(dir: &Dir, url: &str, query: &str, sick: Option<&str>) -> Sample {
    let asked = PrometheusCheck {
        url: url.to_owned(),
        query: query.to_owned(),
        sick: sick.map(str::to_owned),
    };
    let check = Check { prometheus: Some(asked), ..Check::blank() };
    check.probe().unwrap();
    let target = Arc::new(Target::named("it"));
    probes::look(&Question { target, check, instruments: dir.instruments() }).await
}

#[tokio::test]
async fn a_query_to_a_real_prometheus_is_well_or_sick_by_its_condition() {
    let dir = Dir::new();
    let prometheus = Prometheus::start(&dir);
    let url = prometheus.url.as_str();
    eventually("both jobs were scraped", || async {
        let sample = ask(&dir, url, "count(up)", Some("< 2")).await;
        (sample.finding.outcome == Outcome::Passed).then_some(())
    })
    .await;
    for (query, sick, outcome, told) in [
        ("up{job=\"itself\"}", Some("< 1"), Outcome::Passed, "up{"),
        ("up{job=\"nobody\"}", Some("< 1"), Outcome::Failed, "1 of 1 series"),
        ("up", Some("< 1"), Outcome::Failed, "1 of 2 series"),
        ("up == 0", None, Outcome::Failed, "job=\"nobody\""),
        ("up{job=\"itself\"} == 0", None, Outcome::Passed, "no series"),
        ("up{job=\"unknown\"}", Some("< 1"), Outcome::Failed, "no series"),
        ("scalar(count(up))", Some("!= 2"), Outcome::Passed, "2"),
        ("up[5m]", Some("< 1"), Outcome::Failed, "instant vector"),
        ("up{", Some("< 1"), Outcome::Failed, "the query was refused: invalid parameter"),
    ] {
        let sample = ask(&dir, url, query, sick).await;
        assert_eq!(sample.finding.outcome, outcome, "{query}: {}", sample.finding.detail);
        assert!(sample.finding.detail.contains(told), "{query}: {}", sample.finding.detail);
    }
    drop(prometheus);
    let sample = ask(&dir, "http://127.0.0.1:1", "up", Some("< 1")).await;
    assert_eq!(sample.finding.outcome, Outcome::Failed);
    assert!(sample.finding.detail.contains("does not answer"), "{}", sample.finding.detail);
}
