//! Queries to a real Prometheus, as Debian packages it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::kit::{Dir, eventually};
use chrono::Utc;
use domain::{
    check::{Check, PrometheusCheck},
    measure::{Measure, MeasuredSeries, PrometheusQuery},
    span::Span,
    target::Target,
    wire::ProbeRequest,
};
use monitor::{
    answer::Answerer,
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

/// What is measured for a diagnosis, beside a target whose check fails.
async fn measured(dir: &Dir, url: &str) {
    let measure = |name: &str, url: &str, query: &str, timeout_ms| Measure {
        name: name.to_owned(),
        prometheus: PrometheusQuery { url: url.to_owned(), query: query.to_owned() },
        unit: None,
        headers: BTreeMap::new(),
        timeout: Span::from_millis(timeout_ms),
    };
    // Takes the connection and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let measures = vec![
        measure("jobs", url, "sort(up)", 5000),
        measure("both", url, "scalar(count(up))", 5000),
        measure("none", url, "up{job=\"unknown\"}", 5000),
        measure("mistake", url, "up{", 5000),
        measure("range", url, "up[1m]", 5000),
        measure("away", "http://127.0.0.1:1", "up", 5000),
        measure("silent", &silent, "up", 100),
    ];
    let answerer = Answerer {
        member: "monitor-test".into(),
        instruments: dir.instruments(),
        standings: Arc::default(),
        known: monitor::known::Known::default(),
    };
    let check = Check { tcp: Some("127.0.0.1:1".to_owned()), ..Check::blank() };
    let target = Target { checks: vec![check], ..Target::named("it") };
    let request = ProbeRequest { targets: vec![target], measures, logs: false, timeout_ms: 10_000 };
    let begun = Instant::now();
    let reply = answerer.answer(request).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "the silent one has its own time");
    drop(listener);
    assert_eq!(reply.targets[0].checks.len(), 1, "its checks are looked at all the same");
    let names: Vec<_> = reply.measured.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["jobs", "both", "none", "mistake", "range", "away", "silent"]);
    let series = |idx: usize| {
        let all = reply.measured[idx].series.iter();
        let job = |it: &MeasuredSeries| it.labels.get("job").cloned().unwrap_or_default();
        all.map(|it| (job(it), it.value.clone())).collect::<Vec<_>>()
    };
    let pair = |job: &str, value: &str| (job.to_owned(), value.to_owned());
    assert_eq!(series(0), [pair("nobody", "0"), pair("itself", "1")]);
    assert_eq!(series(1), [pair("", "2")]);
    assert_eq!(series(2), []);
    let age = Utc::now() - reply.measured[0].at.unwrap();
    assert!(age.num_seconds().abs() < 60, "{age}");
    for (idx, why) in
        [(3, "the query was refused"), (4, "matrix"), (5, "does not answer"), (6, "within 100ms")]
    {
        let failure = reply.measured[idx].failure.as_deref().unwrap_or_default();
        assert!(failure.contains(why), "{why}: {:?}", reply.measured[idx]);
    }
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
        ("up[5m]", Some("< 1"), Outcome::NotAsked, "instant vector"),
        ("up{", Some("< 1"), Outcome::NotAsked, "the query was refused: invalid parameter"),
    ] {
        let sample = ask(&dir, url, query, sick).await;
        assert_eq!(sample.finding.outcome, outcome, "{query}: {}", sample.finding.detail);
        assert!(sample.finding.detail.contains(told), "{query}: {}", sample.finding.detail);
    }
    measured(&dir, url).await;
    drop(prometheus);
    let sample = ask(&dir, "http://127.0.0.1:1", "up", Some("< 1")).await;
    assert_eq!(sample.finding.outcome, Outcome::Failed);
    assert!(sample.finding.detail.contains("does not answer"), "{}", sample.finding.detail);
}
