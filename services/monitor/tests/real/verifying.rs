//! Verification: a blip is not health, and what is proven is newer than the fix.

use crate::kit::{Dir, Mood, Process, Server, every, process_target, unique};
use chrono::{TimeDelta, Utc};
use domain::{
    check::Check,
    id::IncidentId,
    span::Span,
    target::Target,
    wire::{VerificationReport, VerifyWork, WorkRef},
};
use monitor::{sample::Begun, verify};

fn work(target: Target, soak_ms: u64, within_ms: u64) -> VerifyWork {
    VerifyWork {
        work: WorkRef { incident: IncidentId::NONE, attempt: 1, revision: 4 },
        checks: target.all_checks(),
        target,
        neighbours: Vec::new(),
        passed_before: Vec::new(),
        since: Utc::now() - TimeDelta::hours(5),
        soak: Span::from_millis(soak_ms),
        within: Span::from_millis(within_ms),
        after_fix: true,
        not_after: Utc::now() + TimeDelta::hours(1),
    }
}

async fn verify(dir: &Dir, work: &VerifyWork) -> VerificationReport {
    let zones = ["default".to_owned()];
    verify::verify(work, &dir.instruments(), "monitor-test", &zones, Begun::now()).await
}

/// A target with a real process and a real server; the server tells when it is looked at.
async fn served(dir: &Dir, name: &str) -> (Target, Process, Server) {
    let server = Server::start().await;
    let http = Check { http: Some(server.url()), ..every(50) };
    let target = Target { checks: vec![http], ..process_target(&unique(name)) };
    let process = Process::start(dir, &target);
    (target, process, server)
}

#[tokio::test]
async fn a_target_that_stays_well_for_the_soak_time_is_proven() {
    let dir = Dir::new();
    let (target, _process, _server) = served(&dir, "stays").await;
    let work = work(target, 300, 5_000);
    let report = verify(&dir, &work).await;
    assert!(report.passed, "{report:#?}");
    assert!(3 <= report.n_samples, "{report:#?}");
    assert_eq!(report.checks.len(), 2);
    assert_eq!(report.work, work.work);
    assert!(report.broken_neighbours.is_empty());
}

#[tokio::test]
async fn samples_are_counted_from_the_end_of_the_fix_by_the_brokers_clock() {
    let dir = Dir::new();
    let (target, _process, server) = served(&dir, "clock").await;
    server.set(Mood::Answer(503, "starting"));
    let work = work(target, 50, 20_000);
    let healing = async {
        let mut server = server;
        server.after_requests(3).await;
        server.set(Mood::Answer(200, "fine"));
        server
    };
    let (report, _server) = tokio::join!(verify(&dir, &work), healing);
    assert!(report.passed, "{report:#?}");
    assert!(work.since < report.samples_from, "the first looks failed and do not count");
    assert!(report.samples_from < work.since + TimeDelta::minutes(1), "our own clock was used");
}

#[tokio::test]
async fn a_blip_is_not_health() {
    let dir = Dir::new();
    let (target, mut process, mut server) = served(&dir, "blip").await;
    let work = work(target, 2_000, 500);
    let dying = async {
        server.after_requests(2).await;
        process.kill();
    };
    let (report, ()) = tokio::join!(verify(&dir, &work), dying);
    assert!(!report.passed, "{report:#?}");
    assert!(report.summary.contains("process"), "{report:#?}");
}

#[tokio::test]
async fn a_failed_look_begins_the_soak_anew() {
    let dir = Dir::new();
    let (target, _process, mut server) = served(&dir, "anew").await;
    let work = work(target, 400, 20_000);
    let stumbling = async {
        server.after_requests(2).await;
        server.set(Mood::Answer(500, "no"));
        server.after_requests(2).await;
        let stumbled_at = Utc::now();
        server.set(Mood::Answer(200, "fine"));
        stumbled_at
    };
    let begun = Utc::now();
    let (report, stumbled_at) = tokio::join!(verify(&dir, &work), stumbling);
    assert!(report.passed, "{report:#?}");
    let first = report.samples_from - work.since;
    assert!(stumbled_at - begun - TimeDelta::milliseconds(100) < first, "{report:#?}");
}

#[tokio::test]
async fn one_restart_during_the_soak_begins_it_anew_and_too_many_mean_that_it_keeps_dying() {
    let dir = Dir::new();
    for (n_restarts, passed, told) in [(1, true, "restarted"), (3, false, "keeps dying")] {
        let (target, process, mut server) = served(&dir, "restarts").await;
        let work = work(target.clone(), 600, 30_000);
        let restarting = async {
            let mut process = process;
            let mut restarted_at = Utc::now();
            for _ in 0..n_restarts {
                server.after_requests(2).await;
                restarted_at = Utc::now();
                process = Process::start(&dir, &target);
            }
            (process, server, restarted_at)
        };
        let begun = Utc::now();
        let verified = verify(&dir, &work);
        tokio::pin!(verified);
        let mut kept = None;
        tokio::pin!(restarting);
        let report = loop {
            tokio::select! {
                report = &mut verified => break report,
                processes = &mut restarting, if kept.is_none() => kept = Some(processes),
            }
        };
        assert_eq!(report.passed, passed, "{report:#?}");
        assert!(report.summary.contains(told), "{report:#?}");
        let (_process, _server, restarted_at) = kept.unwrap();
        let first = report.samples_from - work.since;
        assert!(restarted_at - begun <= first, "looks from before the restart: {report:#?}");
    }
}

#[tokio::test]
async fn a_neighbour_that_is_sick_after_the_fix_is_told() {
    let dir = Dir::new();
    let (target, _process, _server) = served(&dir, "healed").await;
    let (well, _second, _serves) = served(&dir, "well").await;
    let (sick, _third, unwell) = served(&dir, "sick").await;
    unwell.set(Mood::Answer(500, "broken by the fix"));
    let elsewhere = Target { zone: "elsewhere".to_owned(), ..process_target("elsewhere") };
    let name = sick.name.clone();
    let work = VerifyWork { neighbours: vec![well, sick, elsewhere], ..work(target, 50, 5_000) };
    let report = verify(&dir, &work).await;
    assert!(report.passed, "{report:#?}");
    assert_eq!(report.broken_neighbours, [name]);
}

#[tokio::test]
async fn without_a_check_there_is_no_proof() {
    let dir = Dir::new();
    let report = verify(&dir, &work(Target::named("nothing"), 10, 10)).await;
    assert!(!report.passed);
    assert!(report.summary.contains("no check"), "{report:#?}");
}

#[tokio::test]
async fn a_check_that_passes_while_the_process_is_dead_is_no_proof() {
    let dir = Dir::new();
    let (target, mut process, _server) = served(&dir, "impostor").await;
    process.kill();
    let checks = target.checks.clone();
    let work = VerifyWork { checks, ..work(target, 50, 300) };
    let report = verify(&dir, &work).await;
    assert!(!report.passed, "another server answers on its port: {report:#?}");
}

#[tokio::test]
async fn a_disk_must_be_down_at_its_clearing_threshold() {
    let dir = Dir::new();
    let path = dir.path().to_str().unwrap().to_owned();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
    let used = monitor::host::disk_percent(&path).unwrap().floor() as u8;
    let disk = |above, clear| Check {
        disk: Some(path.clone()),
        above: Some(above),
        clear: Some(clear),
        ..every(50)
    };
    for (check, passed) in [(disk(used + 2, used - 1), false), (disk(used + 2, used + 2), true)] {
        let target = Target { checks: vec![check], ..Target::named("disk") };
        let report = verify(&dir, &work(target, 30, 100)).await;
        assert_eq!(report.passed, passed, "{report:#?}");
    }
}

/// The test's own server answers, as what outlived the target would.
#[tokio::test]
async fn a_check_that_passed_before_the_fix_proves_nothing_if_another_process_answers() {
    let dir = Dir::new();
    let (target, _process, server) = served(&dir, "outlived").await;
    let label = target.checks[0].label();
    let work = VerifyWork { passed_before: vec![label], ..work(target, 50, 500) };
    let report = verify(&dir, &work).await;
    assert!(!report.passed, "{report:#?}");
    let (port, us) = (server.address.port(), std::process::id());
    let wanted = format!("port {port} is answered by pid {us} (");
    assert!(report.summary.contains(&wanted), "{}", report.summary);
    assert!(report.summary.ends_with("not by the target's process"), "{}", report.summary);
}

#[tokio::test]
async fn a_check_that_cannot_be_asked_fails_no_verification_and_proves_nothing() {
    let dir = Dir::new();
    let (mut target, _process, _server) = served(&dir, "unasked").await;
    let unasked = Check { command: Some(vec!["no-such-program".to_owned()]), ..every(50) };
    target.checks.push(unasked.clone());
    let report = verify(&dir, &work(target, 50, 5_000)).await;
    assert!(report.passed, "the others decide: {report:#?}");
    assert_eq!(report.checks.len(), 2, "{report:#?}");
    let bare = Target { checks: vec![unasked], ..Target::named(&unique("nothing else")) };
    let report = verify(&dir, &work(bare, 50, 300)).await;
    assert!(!report.passed, "{report:#?}");
}
