//! The analyzer as a process, on a real broker, with a monitor that says what the test wants.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in what it calls as well"
)]

mod stage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bus::Served;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use domain::{
    measure::{Measure, Measured, MeasuredSeries, PrometheusQuery},
    span::Span,
    target::Target,
    wire::{DiagnoseWork, Evidence, ProbeReply, ProbeRequest, TargetProbe, WorkKind},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use stage::{
    Analyzer, Monitor, PATIENCE, Reports, dead, publish, result, runbooks, set_up, target, well,
    work,
};

#[tokio::test]
async fn a_dead_process_is_reported_with_its_cure_in_a_few_milliseconds() {
    let (broker, bus) = set_up().await;
    let monitor = Monitor::default();
    let _server = monitor.serve(&bus, "default", dead).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let mut took = Vec::new();
    for n in 1..12 {
        let work = work(n);
        publish(&bus, &work).await;
        let (_, report) = reports.next().await;
        assert_eq!(report.work, work.work);
        assert_eq!(report.hypotheses[0].cause, "process_exited");
        assert_eq!(runbooks(&report), ["restart-process"]);
        assert!(report.evidence.iter().any(|it| it.source == "process"), "{report:?}");
        took.push(report.took_ms);
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] <= 20, "median of {took:?} ms");
    let questions = monitor.questions.lock().unwrap();
    assert!(questions.iter().all(|it| it.logs && it.targets[0].name == "shop"));
}

/// A monitor of a former version measures nothing, and its answer is taken all the same.
#[tokio::test]
async fn measures_are_asked_once_and_told_whatever_became_of_them() {
    let (broker, bus) = set_up().await;
    let monitor = Monitor::default();
    // The doubtful sample makes it look twice.
    let doubtful = |target: &Target| TargetProbe {
        checks: vec![
            result("process", true, "process 7 runs"),
            result("http", false, "answered 503"),
        ],
        ..well(target)
    };
    let _server = monitor.serve(&bus, "default", doubtful).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let mut wanted = work(1);
    let (url, query) = ("http://prom:9090".to_owned(), "queue_length".to_owned());
    wanted.measures = vec![Measure {
        name: "queue length".to_owned(),
        prometheus: PrometheusQuery { url, query },
        unit: Some("messages".to_owned()),
        headers: std::collections::BTreeMap::new(),
        timeout: Span::from_secs(1),
    }];
    publish(&bus, &wanted).await;
    let (_, report) = reports.next().await;
    let told: Vec<_> = report.evidence.iter().filter(|it| it.source == Evidence::METRIC).collect();
    assert_eq!(told.len(), 1, "{report:#?}");
    assert!(told[0].summary.contains("measures nothing"), "{told:#?}");
    {
        let questions = monitor.questions.lock().unwrap();
        let n_asked: Vec<_> = questions.iter().map(|it| it.measures.len()).collect();
        assert_eq!(*n_asked, [1, 0], "twice looked, once measured");
        assert!(questions.iter().all(|it| it.targets.iter().all(|it| it.evidence.is_empty())));
    }

    let measured = Measured {
        name: "queue length".to_owned(),
        series: vec![MeasuredSeries { value: "12".to_owned(), ..MeasuredSeries::default() }],
        ..Measured::default()
    };
    monitor.measured.lock().unwrap().push(measured);
    publish(&bus, &DiagnoseWork { measures: wanted.measures.clone(), ..work(2) }).await;
    let (_, report) = reports.next().await;
    let told = report.evidence.iter().find(|it| it.source == Evidence::METRIC).unwrap();
    assert_eq!(told.summary, "queue length: 12 messages");
    assert_eq!(told.target.as_deref(), Some("shop"));
}

#[tokio::test]
async fn it_asks_again_until_a_monitor_is_there() {
    let (broker, bus) = set_up().await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    let silent = Monitor::default();
    let server = silent.serve_silence(&bus).await;
    silent.was_asked().await;
    drop(server);
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let (_, report) = reports.next().await;
    assert_eq!(runbooks(&report), ["restart-process"]);
}

#[tokio::test]
async fn without_any_monitor_it_says_so_in_time() {
    let (broker, bus) = set_up().await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let mut work = work(1);
    work.not_after = Utc::now() + TimeDelta::seconds(1);
    publish(&bus, &work).await;
    let (_, report) = reports.next().await;
    assert_eq!(report.hypotheses, []);
    assert!(report.evidence.iter().any(|it| it.summary.contains("no monitor of zone `default`")));
}

#[tokio::test]
async fn what_a_killed_analyzer_had_taken_another_one_reports_in_the_same_form() {
    let (broker, bus) = set_up().await;
    let silent = Monitor::default();
    let server = silent.serve_silence(&bus).await;
    let mut first = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let wanted = work(1);
    publish(&bus, &wanted).await;
    silent.was_asked().await;
    first.kill().await;
    drop(server);
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let _second = Analyzer::start(&broker);
    let (id, report) = reports.next().await;
    assert_eq!((report.work, runbooks(&report)), (wanted.work, vec!["restart-process"]));

    // Once more, as after a lost acknowledgement: the same id and the same causes.
    let payload = Bytes::from(serde_json::to_vec(&wanted).unwrap());
    bus.work().publish(WorkKind::Diagnose, "default", "again", payload).await.unwrap();
    let (id_again, again) = reports.next().await;
    assert_eq!((id_again, again.work), (id, report.work));
    assert_eq!(again.hypotheses, report.hypotheses);
}

#[tokio::test]
async fn ones_own_runbooks_are_followed_live() {
    let (broker, bus) = set_up().await;
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let config = |name: &str| {
        let runbook = serde_json::json!({
            "name": name, "title": "t", "when": {"causes": ["process_exited"]}, "risk": "low",
            "steps": [{"action": "command.run", "command": ["true"]}],
        });
        Bytes::from(serde_json::json!({ "runbooks": [runbook] }).to_string())
    };
    bus.config_store().put(config("mine"), 0).await.unwrap();
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    assert_eq!(runbooks(&reports.next().await.1), ["mine"]);
    // A copy may lag behind; what counts is that it comes without a restart.
    bus.config_store().put(config("another"), 0).await.unwrap();
    let begun = Instant::now();
    for n in 2.. {
        publish(&bus, &work(n)).await;
        if runbooks(&reports.next().await.1) == ["another"] {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the new configuration was never taken");
    }
}

#[tokio::test]
async fn dependencies_of_other_zones_are_asked_there() {
    let (broker, bus) = set_up().await;
    let (here, there) = (Monitor::default(), Monitor::default());
    let sick = |target: &Target| TargetProbe {
        healthy: false,
        checks: vec![result("http", false, "answered 503")],
        ..well(target)
    };
    let _here = here.serve(&bus, "default", sick).await;
    let _there = there.serve(&bus, "west", dead).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let mut work = work(1);
    let database = Target { zone: "west".to_owned(), ..target("database") };
    work.dependencies.push(database);
    work.target.as_mut().unwrap().depends_on.push("database".to_owned());
    publish(&bus, &work).await;
    let (_, report) = reports.next().await;
    assert_eq!(report.hypotheses[0].cause, "dependency_down");
    assert_eq!(report.hypotheses[0].elsewhere.as_deref(), Some("database"));
    let asked: Vec<_> = here.questions.lock().unwrap().iter().map(|it| it.targets.len()).collect();
    assert!(asked.iter().all(|n| *n == 1), "{asked:?}");
}

#[tokio::test]
async fn one_failed_sample_of_an_outside_event_is_taken_again() {
    let (broker, bus) = set_up().await;
    let monitor = Monitor::default();
    let questions = Arc::clone(&monitor.questions);
    let blip = move |target: &Target| {
        let is_first = questions.lock().unwrap().is_empty();
        let checks = vec![result("http", false, "answered 500")];
        if is_first { TargetProbe { healthy: false, checks, ..well(target) } } else { well(target) }
    };
    let _server = monitor.serve(&bus, "default", blip).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    let (_, report) = reports.next().await;
    assert_eq!(report.hypotheses[0].cause, "healthy", "{report:?}");
    assert_eq!(runbooks(&report), Vec::<&str>::new());
}

/// A busy host: the state of the process does not arrive in time, and then it does.
#[tokio::test]
async fn a_look_that_is_not_complete_is_taken_again_with_more_patience() {
    let (broker, bus) = set_up().await;
    let monitor = Monitor::default();
    let questions = Arc::clone(&monitor.questions);
    let busy = move |target: &Target| {
        let n_asked = questions.lock().unwrap().len();
        let unseen_checks = vec!["process".to_owned()];
        let incomplete = TargetProbe {
            checks: vec![result("process", false, "no answer within 2000 ms")],
            process: None,
            unseen: vec!["process".to_owned()],
            unseen_checks,
            ..dead(target)
        };
        if n_asked < 2 { incomplete } else { dead(target) }
    };
    let _server = monitor.serve(&bus, "default", busy).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    let (_, report) = reports.next().await;
    assert_eq!(runbooks(&report), ["restart-process"], "{report:#?}");
    let allowed: Vec<u64> =
        monitor.questions.lock().unwrap().iter().map(|it| it.timeout_ms).collect();
    assert_eq!(*allowed, [3000, 6000, 12000]);
}

#[tokio::test]
async fn what_is_missing_to_the_end_is_the_reason_and_no_cause() {
    let (broker, bus) = set_up().await;
    let blind = |target: &Target| TargetProbe {
        checks: vec![result("process", false, "no answer within 2000 ms")],
        process: None,
        unseen: vec!["process".to_owned()],
        unseen_checks: vec!["process".to_owned()],
        ..dead(target)
    };
    let _server = Monitor::default().serve(&bus, "default", blind).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    let (_, report) = reports.next().await;
    let causes: Vec<_> = report.hypotheses.iter().map(|it| it.cause.as_str()).collect();
    assert_eq!(causes, ["evidence_incomplete"], "{report:#?}");
    let told = &report.hypotheses[0].because[0];
    let wanted = "evidence incomplete: process, check `process` did not answer within 20s";
    assert_eq!(told, wanted);
    assert!(report.evidence.iter().any(|it| it.summary == wanted), "{report:#?}");
}

#[tokio::test]
async fn a_target_that_keeps_its_monitor_waiting_delays_no_other() {
    let (broker, bus) = set_up().await;
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, until) = (Arc::clone(&asked), Arc::clone(&go_on));
    let answer = move |served: Served| {
        let (told, until) = (Arc::clone(&told), Arc::clone(&until));
        async move {
            let request: ProbeRequest = serde_json::from_slice(&served.payload).unwrap();
            let [target] = request.targets.as_slice() else { panic!("{request:?}") };
            if target.name == "slow" {
                told.notify_one();
                until.notified().await;
            }
            let targets = vec![dead(target)];
            let reply = ProbeReply { targets, ..ProbeReply::default() };
            Ok(Bytes::from(serde_json::to_vec(&reply).unwrap()))
        }
    };
    let _server = bus.serve(bus.subjects().probe("default"), "monitors", answer).await.unwrap();
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let (slow, quick) = (DiagnoseWork { target: Some(target("slow")), ..work(1) }, work(2));
    publish(&bus, &slow).await;
    timeout(PATIENCE, asked.notified()).await.expect("nobody asked");
    publish(&bus, &quick).await;
    assert_eq!(reports.next().await.1.work, quick.work);
    go_on.notify_one();
    assert_eq!(reports.next().await.1.work, slow.work);
}

#[tokio::test]
async fn work_that_cannot_be_read_does_not_stop_what_comes_after_it() {
    let (broker, bus) = set_up().await;
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    for (id, raw) in [("a", "no json"), ("b", "{}"), ("c", "[1]")] {
        let raw = Bytes::from_static(raw.as_bytes());
        bus.work().publish(WorkKind::Diagnose, "default", id, raw).await.unwrap();
    }
    publish(&bus, &work(1)).await;
    assert_eq!(runbooks(&reports.next().await.1), ["restart-process"]);
}

#[tokio::test]
async fn an_event_of_any_size_is_reported() {
    let (broker, bus) = set_up().await;
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    let mut work = work(1);
    work.event.payload = serde_json::json!({ "detail": "x".repeat(240_000) });
    publish(&bus, &work).await;
    assert_eq!(runbooks(&reports.next().await.1), ["restart-process"]);
}

#[tokio::test]
async fn after_a_restart_of_the_broker_work_goes_on() {
    let (mut broker, bus) = set_up().await;
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let _analyzer = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    reports.next().await;
    let mut made: watch::Receiver<u64> = bus.work_made();
    made.mark_unchanged();
    broker.restart().await;
    // The queues were in memory: what is pending is published again when they stand.
    timeout(PATIENCE, made.changed()).await.expect("queues").unwrap();
    publish(&bus, &work(2)).await;
    assert_eq!(runbooks(&reports.next().await.1), ["restart-process"]);
}

#[tokio::test]
async fn told_to_stop_it_gives_back_what_no_monitor_answers() {
    let (broker, bus) = set_up().await;
    let silent = Monitor::default();
    let server = silent.serve_silence(&bus).await;
    let mut first = Analyzer::start(&broker);
    let mut reports = Reports::of(&bus).await;
    publish(&bus, &work(1)).await;
    silent.was_asked().await;
    let begun = Instant::now();
    assert_eq!(first.terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the monitor");
    drop(server);
    let _server = Monitor::default().serve(&bus, "default", dead).await;
    let _second = Analyzer::start(&broker);
    assert_eq!(runbooks(&reports.next().await.1), ["restart-process"]);
}
