//! What was looked at, for people.
//!
//! Sources named after what was looked at (`check`, `process`, `container`,
//! `dependency`) hold fresh looks only: the guards trust them. What others said is
//! `event`, `attempt`, `change`.

use domain::{
    measure::{Measure, MeasuredSeries},
    span::Span,
    target::Target,
    wire::{AttemptRecord, CheckResult, DiagnoseWork, Evidence, HostState, TargetProbe},
};
use serde_json::{Value, json};

use crate::{
    case::{self, Life},
    ending::Ending,
    findings::Findings,
};

/// Log lines that are kept, and the length of each: enough for a stack trace, and a report
/// stays far below the largest message.
const LOG_LINES_MAX: usize = 40;
const LOG_LINE_CHARS_MAX: usize = 400;

/// The largest detail of one piece of evidence, and the longest line: what others wrote
/// must not make the report too large for the inbox.
const DETAIL_BYTES_MAX: usize = 16 << 10;
const SUMMARY_CHARS_MAX: usize = 600;

/// Earlier attempts and changes that are told.
const PAST_MAX: usize = 5;

/// Returns everything that was looked at.
pub(crate) fn of(work: &DiagnoseWork, findings: &Findings) -> Vec<Evidence> {
    let mut evidence = vec![event(work)];
    let Some(target) = &work.target else {
        let named = work.event.target.as_deref().unwrap_or("nothing");
        let summary = format!("no configured target matches; the event names {named}");
        evidence.push(one("target", None, summary, Value::Null));
        return evidence;
    };
    match &findings.target {
        Some(probe) => look(target, probe, &mut evidence),
        None => evidence.push(one(
            "monitor",
            Some(&target.name),
            format!("no monitor of zone `{}` answered, so no evidence was collected", target.zone),
            Value::Null,
        )),
    }
    if let Some(summary) = incomplete(findings) {
        evidence.push(one("monitor", Some(&target.name), summary, Value::Null));
    }
    evidence.extend(work.measures.iter().map(|it| metric(&target.name, it, findings)));
    evidence.extend(findings.host.as_ref().map(host));
    evidence.extend(work.dependencies.iter().map(|it| dependency(it, work, findings)));
    for zone in findings.silent_zones.iter().filter(|zone| **zone != target.zone) {
        let summary = format!("no monitor of zone `{zone}` answered");
        evidence.push(one("monitor", None, summary, Value::Null));
    }
    evidence.extend(repeats(work));
    evidence.extend(last(&work.attempts).iter().map(attempt));
    for change in last(&work.changes) {
        let by =
            change.source.as_ref().map(|it| format!(" (reported by {it})")).unwrap_or_default();
        let summary = format!("{}: {}{by}", change.at, change.what);
        let detail = change.link.as_ref().map_or(Value::Null, |it| json!({ "link": it }));
        evidence.push(one("change", change.target.as_deref(), summary, detail));
    }
    evidence
}

/// Says what of the look at the target did not arrive in time, if anything.
pub(crate) fn incomplete(findings: &Findings) -> Option<String> {
    let probe = findings.target.as_ref()?;
    let checks = probe.unseen_checks.iter().map(|label| format!("check `{label}`"));
    let missing: Vec<String> = probe.unseen.iter().cloned().chain(checks).collect();
    let allowed = Span::from_millis(u64::try_from(findings.allowed.as_millis()).ok()?);
    let missing = missing.join(", ");
    (!missing.is_empty())
        .then(|| format!("evidence incomplete: {missing} did not answer within {allowed}"))
}

fn one(source: &str, target: Option<&str>, summary: String, detail: Value) -> Evidence {
    let summary = match summary.char_indices().nth(SUMMARY_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", summary.get(..cut).unwrap_or_default()),
        None => summary,
    };
    let bytes = detail.to_string().len();
    let detail = if DETAIL_BYTES_MAX < bytes { json!({ "left_out_bytes": bytes }) } else { detail };
    Evidence { source: source.to_owned(), target: target.map(str::to_owned), summary, detail }
}

fn last<T>(all: &[T]) -> &[T] {
    all.get(all.len().saturating_sub(PAST_MAX)..).unwrap_or_default()
}

fn event(work: &DiagnoseWork) -> Evidence {
    let event = &work.event;
    let said = event.payload.get("detail").and_then(Value::as_str);
    let said = said.map(|it| format!(": {it}")).unwrap_or_default();
    let summary = format!("{} reports `{}`{said}", event.source, event.kind);
    one("event", event.target.as_deref(), summary, event.payload.clone())
}

fn look(target: &Target, probe: &TargetProbe, evidence: &mut Vec<Evidence>) {
    let name = Some(target.name.as_str());
    evidence.extend(probe.checks.iter().map(|result| check(&target.name, result)));
    if let Some(process) = &probe.process {
        let summary = match (case::life(target, probe), process.pid) {
            (Life::Alive, Some(pid)) => format!("process {pid} runs"),
            (Life::Alive, None) => "its process runs".to_owned(),
            (Life::Dead | Life::Unknown, _) => {
                format!("its process does not run: {}", Ending::of_process(process))
            }
        };
        evidence.push(one("process", name, summary, value(process)));
    }
    if let Some(container) = &probe.container {
        let summary = match (container.exists, case::life(target, probe)) {
            (false, _) => "the engine knows no such container".to_owned(),
            (true, Life::Alive) => format!("its container is {}", container.status),
            (true, Life::Dead | Life::Unknown) => {
                format!(
                    "its container is {}: {}",
                    container.status,
                    Ending::of_container(container)
                )
            }
        };
        evidence.push(one("container", name, summary, value(container)));
    }
    if 1 < probe.recent_starts.len() {
        let summary = format!("{} starts seen lately", probe.recent_starts.len());
        evidence.push(one("start", name, summary, value(&probe.recent_starts)));
    }
    evidence.extend(log(&target.name, &probe.log_tail));
}

fn value(it: &impl serde::Serialize) -> Value {
    // Plain data always has a form in JSON.
    serde_json::to_value(it).unwrap_or_default()
}

fn check(target: &str, result: &CheckResult) -> Evidence {
    let verdict = if result.ok { "passes" } else { "fails" };
    let summary = format!("check `{}` {verdict}: {}", result.check, result.detail);
    let detail = json!({"check": result.check, "ok": result.ok, "took_ms": result.took_ms});
    one(Evidence::CHECK, Some(target), summary, detail)
}

fn log(target: &str, lines: &[String]) -> Option<Evidence> {
    let cut = |line: &String| line.chars().take(LOG_LINE_CHARS_MAX).collect::<String>();
    let from = lines.len().saturating_sub(LOG_LINES_MAX);
    let lines: Vec<String> = lines.get(from..).unwrap_or_default().iter().map(cut).collect();
    let newest = lines.iter().rev().find(|line| !line.trim().is_empty())?;
    let summary = format!("its log ends with: {newest}");
    Some(one("log", Some(target), summary, json!(lines)))
}

/// Tells what a measure gave, also when it gave nothing: whoever decides shall not take its
/// silence for a good sign.
fn metric(target: &str, measure: &Measure, findings: &Findings) -> Evidence {
    let Measure { name, unit, prometheus, .. } = measure;
    let query = &prometheus.query;
    let found = findings.measured.iter().find(|it| it.name == *name);
    let failure = match found {
        Some(found) => found.failure.as_deref(),
        None if findings.target.is_none() => Some("no monitor answered"),
        None => Some("the monitor that answered measures nothing"),
    };
    let (Some(found), None) = (found, failure) else {
        let summary = format!("{name} could not be asked: {}", failure.unwrap_or_default());
        return one(Evidence::METRIC, Some(target), summary, json!({ "query": query }));
    };
    let value = |it: &MeasuredSeries| {
        let unit = unit.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
        let labels: Vec<_> =
            it.labels.iter().map(|(name, text)| format!("{name}={text}")).collect();
        let value = short(&it.value);
        // A single series needs nothing that tells it from others.
        if found.series.len() < 2 || labels.is_empty() {
            format!("{value}{unit}")
        } else {
            format!("{value}{unit} ({})", labels.join(", "))
        }
    };
    let mut values = found.series.iter().map(value).collect::<Vec<_>>().join("; ");
    if found.series.is_empty() {
        values = "no series fits the query".to_owned();
    }
    if 0 < found.n_left_out {
        values = format!("{values}; {} more series left out", found.n_left_out);
    }
    // An answer is as old as the last scrape at least: whoever reads it later must know.
    if let Some(at) = found.at {
        values = format!("{values} (at {})", at.format("%H:%M:%SZ"));
    }
    let detail = json!({
        "query": query, "unit": unit, "at": found.at, "series": found.series,
        "n_left_out": found.n_left_out,
    });
    one(Evidence::METRIC, Some(target), format!("{name}: {values}"), detail)
}

/// Writes a number with four digits that count; whole numbers, and what is none, as they are.
fn short(text: &str) -> String {
    let Some(value) = text.parse::<f64>().ok().filter(|it| it.is_finite() && it.fract() != 0.0)
    else {
        return text.to_owned();
    };
    let exponent = format!("{value:.3e}");
    let exponent = exponent.rsplit_once('e').and_then(|(_, it)| it.parse::<i32>().ok());
    match usize::try_from(3 - exponent.unwrap_or_default()) {
        Err(_) | Ok(0) => format!("{value:.0}"),
        Ok(decimals @ 1..=15) => {
            let digits = format!("{value:.decimals$}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Ok(_) => text.to_owned(),
    }
}

fn host(host: &HostState) -> Evidence {
    let full = host.disks_percent.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let full = full.map(|(mount, it)| format!(", disk {mount} {it:.0} % used")).unwrap_or_default();
    let summary = format!(
        "processors {:.0} % busy, load {:.1}, memory {:.0} % used{full}",
        host.cpu_percent, host.load_1m, host.memory_percent
    );
    one("host", None, summary, value(host))
}

fn dependency(dependency: &Target, work: &DiagnoseWork, findings: &Findings) -> Evidence {
    let name = &dependency.name;
    let incident =
        if work.sick_dependencies.contains(name) { ", has an open incident" } else { "" };
    let Some(probe) = findings.dependency(name) else {
        let summary = format!("{name}: no monitor could check it{incident}");
        return one("monitor", Some(name), summary, Value::Null);
    };
    let failed = case::failed(dependency, probe);
    let state = match failed.first() {
        Some(failed) => failed.say(),
        None if case::life(dependency, probe) == Life::Dead => "does not run".to_owned(),
        None if !case::is_complete(probe) => "its state did not arrive in time".to_owned(),
        None if probe.checks.is_empty() => "has no checks".to_owned(),
        None => format!("all {} checks pass", probe.checks.len()),
    };
    let detail = json!({"healthy": probe.healthy, "checks": value(&probe.checks)});
    one("dependency", Some(name), format!("{name}: {state}{incident}"), detail)
}

fn repeats(work: &DiagnoseWork) -> Option<Evidence> {
    let n = work.recent_incidents.len();
    let since = work.recent_incidents.first()?;
    let summary = format!("{n} incidents of this kind since {since}");
    (1 < n).then(|| one("incident", None, summary, value(&work.recent_incidents)))
}

fn attempt(record: &AttemptRecord) -> Evidence {
    let AttemptRecord { attempt, runbook, failure, .. } = record;
    let how = failure.as_deref().unwrap_or("under way");
    one("attempt", None, format!("attempt {attempt}, `{runbook}`: {how}"), value(record))
}

#[cfg(test)]
mod tests {
    use domain::measure::{Measured, PrometheusQuery};

    use super::*;
    use crate::testing::{HTTP, Scene};

    fn summaries(scene: &Scene) -> Vec<String> {
        let all = of(&scene.work, &scene.findings);
        all.into_iter().map(|it| format!("{}: {}", it.source, it.summary)).collect()
    }

    #[test]
    fn everything_that_was_looked_at_is_told() {
        let scene = Scene::process("all")
            .exited(70)
            .log(&["listening", "fatal: no more", ""])
            .fails(HTTP, "connection refused")
            .needs("db", &[])
            .failing_dependency("db", "timed out")
            .open_incident("db")
            .tried("restart-process", 1)
            .changed("configuration 7")
            .starts_s_ago(&[1, 2])
            .incidents_s_ago(&[1, 2])
            .cpu(12.0);
        let told = summaries(&scene);
        for wanted in [
            "event: test reports `service_down`",
            "check: check `process` fails",
            "connection refused",
            "process: its process does not run: ended with exit code 70",
            "start: 2 starts seen lately",
            "log: its log ends with: fatal: no more",
            "host: processors 12 % busy",
            "dependency: db: check `process` passes",
            "attempt: attempt 1, `restart-process`: in vain",
            "change: ",
            "incident: 2 incidents",
        ] {
            let wanted = wanted.replace("check `process` passes", "check `tcp 127.0.0.1:2` fails");
            assert!(told.iter().any(|it| it.contains(&wanted)), "{wanted} in {told:#?}");
        }
    }

    #[test]
    fn what_nobody_looked_at_is_told_and_is_no_fresh_look() {
        let scene = Scene::process("unseen").unseen().says("signal", 9);
        let evidence = of(&scene.work, &scene.findings);
        assert!(evidence.iter().any(|it| it.summary.contains("no monitor of zone")));
        let fresh = ["check", "process", "container", "dependency"];
        assert!(evidence.iter().all(|it| !fresh.contains(&it.source.as_str())), "{evidence:?}");
    }

    #[test]
    fn what_was_measured_is_told_and_is_no_fresh_look() {
        let series = |pairs: &[(&str, &str)], value: &str| MeasuredSeries {
            labels: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            value: value.to_owned(),
        };
        let mut scene = Scene::process("measured").unseen();
        let measured = |name: &str, series: Vec<MeasuredSeries>| Measured {
            name: name.to_owned(),
            series,
            ..Measured::default()
        };
        let queues = vec![series(&[("queue", "a")], "3"), series(&[("queue", "b")], "+Inf")];
        scene.findings.measured = vec![
            Measured {
                at: Some(scene.findings.now),
                ..measured("error rate", vec![series(&[("job", "web")], "0.26666666666666666")])
            },
            Measured { n_left_out: 4, ..measured("queue length", queues) },
            measured("free memory", Vec::new()),
            Measured { failure: Some("refused".to_owned()), ..measured("latency", Vec::new()) },
        ];
        for (name, unit) in [
            ("error rate", Some("/s")),
            ("queue length", None),
            ("free memory", None),
            ("latency", None),
            ("load", None),
        ] {
            scene.work.measures.push(measure(name, unit));
        }
        let told = summaries(&scene);
        for wanted in [
            "metric: error rate: 0.2667 /s (at 03:04:05Z)",
            "metric: queue length: 3 (queue=a); +Inf (queue=b); 4 more series left out",
            "metric: free memory: no series fits the query",
            "metric: latency could not be asked: refused",
            "metric: load could not be asked: no monitor answered",
        ] {
            assert!(told.iter().any(|it| it == wanted), "{wanted} in {told:#?}");
        }
        let evidence = of(&scene.work, &scene.findings);
        let rate = evidence.iter().find(|it| it.summary.starts_with("error rate")).unwrap();
        assert_eq!(rate.detail["series"][0]["value"], "0.26666666666666666", "the whole value");
        assert_eq!(rate.detail["query"], "up");
        scene.findings.target = Some(TargetProbe::default());
        let told = summaries(&scene);
        let silent = "metric: load could not be asked: the monitor that answered measures nothing";
        assert!(told.iter().any(|it| it == silent), "{told:#?}");
    }

    fn measure(name: &str, unit: Option<&str>) -> Measure {
        let prometheus =
            PrometheusQuery { url: "http://prom:9090".to_owned(), query: "up".to_owned() };
        Measure {
            name: name.to_owned(),
            prometheus,
            unit: unit.map(str::to_owned),
            headers: std::collections::BTreeMap::new(),
            timeout: Span::from_secs(1),
        }
    }

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        for (long, wanted) in [
            ("12", "12"),
            ("1234567.25", "1234567"),
            ("99.99999", "100"),
            ("-1.5", "-1.5"),
            ("0.26666666666666666", "0.2667"),
            ("0.00012345678", "0.0001235"),
            ("123.456", "123.5"),
            ("NaN", "NaN"),
            ("+Inf", "+Inf"),
            ("1e-300", "1e-300"),
            ("text", "text"),
        ] {
            assert_eq!(short(long), wanted);
        }
    }

    #[test]
    fn what_others_wrote_stays_small() {
        let mut scene = Scene::process("large").fails(HTTP, &"x".repeat(100_000));
        let detail = "y".repeat(200_000);
        scene.work.event.payload = json!({ "detail": detail, "service": "shop" });
        let size = serde_json::to_vec(&of(&scene.work, &scene.findings)).unwrap().len();
        assert!(size < 16 << 10, "{size}");
    }

    #[test]
    fn a_long_log_stays_small() {
        let line = "x".repeat(10_000);
        let lines: Vec<&str> = std::iter::repeat_n(line.as_str(), 1000).collect();
        let scene = Scene::process("long").log(&lines);
        let size = serde_json::to_vec(&of(&scene.work, &scene.findings)).unwrap().len();
        assert!(size < 64 << 10, "{size}");
    }
}
