//! What the agents tell about themselves, on real processes: metrics by the conventions of
//! Prometheus, and dashboards and rules that find what they ask for.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bus::testing::Broker;
use serde_json::{Value, json};
use service::{Metric, MetricKind};
use tests::{
    agents::Agent,
    eventually,
    fleet::{Fleet, KINDS},
    otlp::Collector,
    prometheus::{Prometheus, promtool},
    stack::{directory, reqwest_client},
    supervisor::publish,
    target::{Target, free_address},
};

/// Metrics that only trouble makes, which a test of well agents does not have.
const NEED_TROUBLE: [&str; 4] = [
    "selfheal_gateway_watchdog_total",
    "selfheal_supervisor_rejected_total",
    "selfheal_work_unreadable_total",
    "selfheal_supervisor_snapshots_total",
];

/// A target may be killed as often as a test wants, and somebody is told of escalations.
const POLICY: &str = "
policy:
  budget: {per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}
  soak: 500ms
  notify: [{log: true}]
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn config(store: &Target) -> String {
    let (name, handle, address) = (store.name, store.handle(), store.address);
    format!(
        "targets:\n  - name: {name}\n    {handle}\n    checks: [{{tcp: \"{address}\", every: 200ms}}]\n{POLICY}"
    )
}

/// Returns the table of one kind of agent.
fn table(kind: &str) -> BTreeMap<&'static str, Metric> {
    let own: &[Metric] = match kind {
        "supervisor" => &supervisor::METRICS,
        "monitor" => &monitor::METRICS,
        "analyzer" => &analyzer::METRICS,
        "fixer" => &fixer::METRICS,
        "gateway" => &gateway::METRICS,
        other => panic!("no agent is called {other}"),
    };
    let all = service::METRICS.iter().chain(&service::PROCESS_METRICS).chain(own);
    all.map(|it| (it.name, *it)).collect()
}

/// One series as it is scraped.
#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeSet<String>,
}

/// Reads the text format of Prometheus: the type of each metric, and all series.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Series>) {
    let mut types = BTreeMap::new();
    let mut series = Vec::new();
    for line in text.lines().filter(|it| !it.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (named, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = named.split_once('{').unwrap_or((named, ""));
        // No label of ours has a value with a quote or a comma before an equals sign.
        let labels = labels.trim_end_matches('}').split("\",").filter(|it| !it.is_empty());
        let labels = labels.map(|it| it.split_once('=').unwrap().0.to_owned()).collect();
        series.push(Series { name: name.to_owned(), labels });
    }
    (types, series)
}

/// Returns the metric that a series is part of: histograms have three kinds of series.
fn family<'a>(types: &BTreeMap<String, String>, name: &'a str) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|it| name.strip_suffix(it));
    let of = parts.into_iter().find(|it| types.get(*it).is_some_and(|it| it == "histogram"));
    of.unwrap_or(name)
}

fn value(text: &str, series: &str) -> Option<f64> {
    let found = text.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '))?;
    found.parse().ok()
}

async fn until_counted(fleet: &Fleet, kind: &str, series: &str, wanted: f64) {
    eventually(&format!("{kind} tells {series} {wanted}"), || async {
        let text = fleet.metrics(kind).await;
        let found = value(&text, series);
        if found.is_some_and(|it| (it - wanted).abs() < 1e-9) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn the_metrics_of_all_agents_follow_the_conventions_and_are_those_of_the_tables() {
    let dir = directory("metrics");
    let store = Target::store(&dir, &[]);
    store.start().await;
    // A collector that is not there: healing goes on, and what is lost is counted.
    let nowhere = format!("http://{}", free_address());
    let env =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", nowhere.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "200")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fleet = Fleet::start(&dir, &config(&store), &env).await;
    assert!(store.kill());
    fleet.until("database", "resolved", 1).await;
    let odd = json!({"type": "odd", "payload": {"service": "nobody"}});
    fleet.publish(&odd, &[]).await;
    fleet.until("nobody", "escalated", 1).await;
    until_counted(&fleet, "supervisor", "selfheal_notices_total{outcome=\"sent\"}", 1.0).await;

    for series in [
        "selfheal_supervisor_leading",
        "selfheal_incidents_ended_total{status=\"resolved\"}",
        "selfheal_incident_resolve_seconds_count{status=\"resolved\"}",
        "selfheal_incident_acknowledge_seconds_count",
        "selfheal_incident_detect_seconds_count",
        "selfheal_fixes_started_total{runbook=\"restart-process\"}",
        "selfheal_fixes_ended_total{runbook=\"restart-process\",outcome=\"healed\"}",
        "selfheal_escalations_total{reason=\"unknown_target\"}",
        "selfheal_incidents_open{status=\"escalated\",severity=\"error\"}",
        "selfheal_agents{kind=\"fixer\"}",
    ] {
        until_counted(&fleet, "supervisor", series, 1.0).await;
    }
    until_counted(&fleet, "supervisor", "selfheal_supervisor_inbox_lag_messages", 0.0).await;
    eventually("lost spans are counted", || async {
        let text = fleet.metrics("fixer").await;
        let lost = value(&text, "selfheal_spans_total{outcome=\"failed\"}");
        if lost.is_some() { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(fleet.said("fixer").matches("spans could not be sent").count(), 1, "told once");

    for kind in KINDS {
        let text = fleet.metrics(kind).await;
        let linted = promtool(&["check", "metrics"], &text);
        let said = [linted.stdout, linted.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(linted.status.success() && said.is_empty(), "{kind}: {said}\n{text}");

        let table = table(kind);
        let (types, all) = parse(&text);
        for series in &all {
            let name = family(&types, &series.name);
            let Some(metric) = table.get(name) else { panic!("{kind} has no {name} in its table") };
            assert_eq!(types.get(name).map(String::as_str), Some(metric.kind.as_str()), "{name}");
            let mut labels = series.labels.clone();
            labels.remove("le");
            let wanted: BTreeSet<String> =
                metric.labels.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(labels, wanted, "labels of {name}");
            let is_counter = metric.kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        }
        let told: BTreeSet<&str> = all.iter().map(|it| family(&types, &it.name)).collect();
        let constant = service::METRICS.iter().chain(&service::PROCESS_METRICS);
        let missing: Vec<_> = constant
            .map(|it| it.name)
            .filter(|it| !told.contains(it) && !NEED_TROUBLE.contains(it))
            .filter(|it| *it != "selfheal_spans_total")
            .collect();
        assert!(missing.is_empty(), "{kind} does not tell {missing:?}");
    }
}

/// Returns what all series of a metric add up to.
fn sum(text: &str, name: &str) -> f64 {
    let of = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<f64>().ok();
    text.lines().filter_map(of).sum()
}

async fn scrape(address: SocketAddr) -> Result<String, String> {
    let answer = reqwest_client().get(format!("http://{address}/metrics")).send().await;
    let text = answer.map_err(|error| error.to_string())?.text().await;
    text.map_err(|error| error.to_string())
}

/// Waits until each supervisor that answers tells so many incidents as opened by itself, and so
/// many as open.
async fn until_told(addresses: &[SocketAddr], wanted: &[(f64, f64)]) {
    eventually(&format!("supervisors tell {wanted:?}"), || async {
        let mut told = Vec::new();
        for address in addresses {
            let text = scrape(*address).await?;
            let opened = sum(&text, "selfheal_incidents_opened_total{");
            told.push((opened, sum(&text, "selfheal_incidents_open{")));
        }
        told.sort_by(|a, b| a.partial_cmp(b).unwrap());
        if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test]
async fn of_two_supervisors_the_leader_counts_and_the_next_one_does_not_count_again() {
    let dir = directory("counts");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let mut addresses = vec![free_address(), free_address()];
    let start = |address: &SocketAddr| {
        let listen = address.to_string();
        let flags = ["--data-dir", ".", "--health-listen", &listen];
        Agent::start("supervisor", &dir.join(address.port().to_string()), &broker.url(), &flags)
    };
    let mut agents: Vec<_> = addresses.iter().map(start).collect();
    publish(&bus, "first").await;
    until_told(&addresses, &[(0.0, 0.0), (1.0, 1.0)]).await;

    let mut leads = None;
    for (idx, address) in addresses.iter().enumerate() {
        let text = scrape(*address).await.unwrap();
        if 0.5 < sum(&text, "selfheal_supervisor_leading") {
            leads = Some(idx);
        }
    }
    let idx = leads.unwrap();
    agents[idx].kill();
    addresses.remove(idx);
    publish(&bus, "second").await;
    until_told(&addresses, &[(1.0, 2.0)]).await;
    drop(agents);
    fs::remove_dir_all(dir).unwrap();
}

/// Returns every expression of a dashboard, with the variables that Grafana would fill in.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|it| it["targets"].as_array().into_iter().flatten());
    let filled = |it: &str| it.replace("$__rate_interval", "1m").replace("$instance", ".*");
    targets.map(|it| filled(it["expr"].as_str().unwrap())).collect()
}

fn dashboards() -> BTreeMap<String, Value> {
    let dir = root().join("deploy/grafana/dashboards");
    let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    files.map(read).collect()
}

/// Returns the rules of a file: name and expression, of alerts and of records.
fn rules(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deploy/prometheus/rules").join(file)).unwrap();
    let parsed: Value = serde_saphyr::from_str(&text).unwrap();
    let groups = parsed["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|it| it["rules"].as_array().unwrap());
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    rules
        .map(|it| (text(it.get("alert").unwrap_or_else(|| &it["record"])), text(&it["expr"])))
        .collect()
}

/// Returns the metrics that an expression asks for.
fn metrics_of(expression: &str) -> BTreeSet<&str> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
    let words = expression.split(|it| !is_part(it));
    let ours = |it: &&str| ["selfheal_", "selfheal:", "process_"].iter().any(|p| it.starts_with(p));
    words.filter(ours).collect()
}

#[tokio::test]
async fn dashboards_and_rules_find_what_they_ask_for_in_a_real_prometheus() {
    let dir = directory("dashboards");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let collector = Collector::start().await;
    let fleet = Fleet::start(&dir, &config(&store), &collector.variables()).await;
    let scraped: Vec<_> = fleet.health().values().copied().collect();
    let rule_files = ["recording.yml", "alerting.yml"];
    let paths = rule_files.map(|it| root().join("deploy/prometheus/rules").join(it));
    let prometheus = Prometheus::start(&dir, &scraped, &paths).await;
    eventually("all agents are scraped", || async {
        let up = prometheus.query("sum(up)").await?;
        if up.first().is_some_and(|it| it["value"][1] == "5") {
            Ok(())
        } else {
            Err(format!("{up:?}"))
        }
    })
    .await;
    let odd = json!({"type": "odd", "payload": {"service": "nobody"}});
    fleet.publish(&odd, &[]).await;
    assert!(store.kill());
    fleet.until("database", "resolved", 1).await;
    // The same trouble again, so soon: the first heal was none.
    assert!(store.kill());
    fleet.until("database", "resolved", 2).await;

    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
        for expression in expressions(&dashboard) {
            let asked = metrics_of(&expression);
            let needs_trouble = asked.iter().any(|it| NEED_TROUBLE.contains(it));
            eventually(&format!("{name} has data for {expression}"), || async {
                let series = prometheus.query(&expression).await?;
                let is_enough = needs_trouble || !series.is_empty();
                if is_enough { Ok(()) } else { Err("no series".to_owned()) }
            })
            .await;
        }
    }
    for (name, expression) in rule_files.into_iter().flat_map(rules) {
        for metric in metrics_of(&expression) {
            let known = KINDS.into_iter().any(|kind| table(kind).contains_key(metric));
            if NEED_TROUBLE.contains(&metric) && known {
                continue;
            }
            eventually(&format!("{name} has data for {metric}"), || async {
                let series = prometheus.query(&format!("count({{__name__=\"{metric}\"}})")).await?;
                if series.is_empty() { Err("no series".to_owned()) } else { Ok(()) }
            })
            .await;
        }
    }
    let firing = eventually("the false heal is an alert", || async {
        let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await?;
        if firing.is_empty() { Err("none".to_owned()) } else { Ok(firing) }
    })
    .await;
    let names: BTreeSet<_> =
        firing.iter().map(|it| it["metric"]["alertname"].as_str().unwrap()).collect();
    assert_eq!(names, ["SelfhealFalseHeals"].into(), "nothing else is wrong");
}

#[test]
fn the_rules_are_right_and_each_alert_is_tested_and_explained() {
    let dir = root().join("deploy/prometheus");
    let path = |name: &str| dir.join(name).display().to_string();
    let recording = path("rules/recording.yml");
    let alerting = path("rules/alerting.yml");
    for args in [
        vec!["check", "rules", &recording, &alerting],
        vec!["check", "config", &path("prometheus.yml")],
        vec!["test", "rules", &path("tests/rules_test.yml")],
    ] {
        let checked = promtool(&args, "");
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said));
    }
    let tests = fs::read_to_string(path("tests/rules_test.yml")).unwrap();
    let document = fs::read_to_string(root().join("docs/observability.md")).unwrap();
    for (alert, _) in rules("alerting.yml") {
        let quiet = format!("alertname: {alert}\n        exp_alerts: []");
        let loud = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&quiet), "no test says when {alert} is quiet");
        assert!(tests.contains(&loud), "no test says when {alert} fires");
        assert!(document.contains(&format!("| `{alert}` |")), "{alert} is not explained");
    }
}
