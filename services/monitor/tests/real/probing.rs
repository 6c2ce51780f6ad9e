//! Probes against the real thing.

use std::{fs, sync::Arc, time::Duration};

use crate::kit::{Dir, Mood, Process, Server, eventually, every, process_target, unique};
use domain::{check::Check, span::Span, target::Target, wire::ProbeRequest};
use monitor::{
    answer::Answerer,
    host,
    instruments::Instruments,
    probes::{self, Question},
    sample::{Outcome, Sample},
};

async fn look(dir: &Dir, check: Check) -> Sample {
    let target = Arc::new(Target::named("it"));
    probes::look(&Question { target, check, instruments: dir.instruments() }).await
}

fn command(arguments: &[&str]) -> Check {
    Check { command: Some(arguments.iter().map(|it| (*it).to_owned()).collect()), ..Check::blank() }
}

#[tokio::test]
async fn a_command_is_well_when_it_ends_with_0() {
    let dir = Dir::new();
    let sample = look(&dir, command(&["sh", "-c", "echo all is well"])).await;
    assert_eq!(sample.finding.outcome, Outcome::Passed);
    assert_eq!(sample.finding.detail, "exit code 0: all is well");
    let sample = look(&dir, command(&["sh", "-c", "echo first; echo why >&2; exit 3"])).await;
    assert_eq!(sample.finding.outcome, Outcome::Failed);
    assert_eq!(sample.finding.detail, "exit code 3: why");
    assert_eq!(sample.finding.evidence["output"], "first\nwhy\n");
    let sample = look(&dir, command(&["/no/such/program"])).await;
    assert!(sample.finding.detail.contains("cannot start /no/such/program"));
}

#[tokio::test]
async fn a_monitor_without_a_list_runs_no_command_and_reads_no_foreign_log() {
    let dir = Dir::new();
    let ran = dir.path().join("ran");
    let instruments = Instruments::new(dir.path().to_path_buf());
    let check = command(&["touch", ran.to_str().unwrap()]);
    let target = Arc::new(Target::named("it"));
    let question = Question { target, check, instruments: instruments.clone() };
    let sample = probes::look(&question).await;
    assert_eq!(sample.finding.outcome, Outcome::NotAsked);
    let told = &sample.finding.detail;
    assert!(told.contains("--allow-file") && told.contains("SELFHEAL_MONITOR_ALLOW"), "{told}");
    assert!(!ran.exists());
    let mut target = process_target("it");
    target.process.as_mut().unwrap().log = Some("/etc/passwd".to_owned());
    assert_eq!(instruments.processes.log_tail(&target, 5).await, None);
    assert!(dir.instruments().processes.log_tail(&target, 5).await.is_some());
}

#[tokio::test]
async fn addresses_where_clouds_keep_credentials_are_not_asked() {
    let dir = Dir::new();
    let http = |url: &str| Check { http: Some(url.to_owned()), ..Check::blank() };
    let tcp = |address: &str| Check { tcp: Some(address.to_owned()), ..Check::blank() };
    for check in [
        http("http://169.254.169.254/latest/meta-data"),
        http("http://[::ffff:169.254.169.254]/"),
        http("http://2852039166/"),
        http("http://100.100.100.200/"),
        tcp("169.254.169.254:80"),
        tcp("[fe80::1]:80"),
    ] {
        let label = check.label();
        let sample = look(&dir, check).await;
        let told = &sample.finding.detail;
        assert_eq!(sample.finding.outcome, Outcome::NotAsked, "{label}: {told}");
        assert!(told.contains("--outgoing-allow"), "{label}: {told}");
    }
}

#[tokio::test]
async fn a_command_gets_no_environment_of_ours_and_no_shell() {
    let dir = Dir::new();
    let sample = look(&dir, command(&["env"])).await;
    let output = sample.finding.evidence["output"].as_str().unwrap().to_owned();
    assert!(
        output
            .lines()
            .all(|line| { ["PATH=", "HOME=", "LANG="].iter().any(|name| line.starts_with(name)) }),
        "{output}"
    );
    let sample = look(&dir, command(&["echo", "$HOME; exit 1"])).await;
    assert_eq!(sample.finding.detail, "exit code 0: $HOME; exit 1");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let dir = Dir::new();
    let pids = dir.path().join("pids");
    let script = format!("sleep 3600 & echo $! > {}; wait", pids.display());
    let check = Check { timeout: Span::from_millis(500), ..command(&["sh", "-c", &script]) };
    let sample = look(&dir, check).await;
    assert_eq!(sample.finding.detail, "no answer within 500 ms");
    let grandchild = fs::read_to_string(&pids).unwrap().trim().to_owned();
    eventually("the grandchild is dead", || async {
        let stat = fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_command_that_leaves_something_behind_is_not_waited_for() {
    let dir = Dir::new();
    let pids = dir.path().join("pids");
    let script = format!("sleep 3600 & echo $! > {}; echo done", pids.display());
    let check = Check { timeout: Span::from_secs(20), ..command(&["sh", "-c", &script]) };
    let sample = look(&dir, check).await;
    assert_eq!(sample.finding.detail, "exit code 0: done");
    let left = fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
    let left = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_disk_is_judged_by_its_present_usage() {
    let dir = Dir::new();
    let path = dir.path().to_str().unwrap().to_owned();
    let used = host::disk_percent(&path).unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
    let floor = used.floor() as u8;
    let disk = |above, clear| Check {
        disk: Some(path.clone()),
        above: Some(above),
        clear: Some(clear),
        ..Check::blank()
    };
    assert!((2..98).contains(&floor), "the disk of the tests is {used} % full");
    for (above, clear, outcome) in [
        (floor - 1, floor - 2, Outcome::Failed),
        (floor + 2, floor + 2, Outcome::Passed),
        (floor + 2, floor - 1, Outcome::Between),
    ] {
        let sample = look(&dir, disk(above, clear)).await;
        assert_eq!(sample.finding.outcome, outcome, "{above} {clear}: {}", sample.finding.detail);
    }
}

/// A mistake of the configuration is no failure of the target, and no health either.
#[tokio::test]
async fn a_check_that_cannot_be_asked_says_nothing_about_its_target() {
    let dir = Dir::new();
    let blank = Check::blank;
    let server = Server::start().await;
    let header = ("a".to_owned(), "x\ny".into());
    for check in [
        Check { disk: Some("/no/such/place".to_owned()), ..blank() },
        Check { command: Some(vec!["no-such-program".to_owned()]), ..blank() },
        Check { command: Some(vec!["/etc/hostname".to_owned()]), ..blank() },
        Check { tcp: Some("127.0.0.1:99999".to_owned()), ..blank() },
        Check { http: Some("http://127.0.0.1:99999/".to_owned()), ..blank() },
        Check { http: Some(server.url()), headers: [header].into(), ..blank() },
        blank(),
    ] {
        let finding = look(&dir, check.clone()).await.finding;
        assert_eq!(finding.outcome, Outcome::NotAsked, "{check:?}: {}", finding.detail);
        assert!(finding.detail.starts_with("this check cannot be asked: "), "{}", finding.detail);
    }
}

#[tokio::test]
async fn memory_and_processors_are_judged_by_their_thresholds() {
    let dir = Dir::new();
    let memory = |above| Check { memory: Some(true), above: Some(above), ..Check::blank() };
    assert_eq!(look(&dir, memory(100)).await.finding.outcome, Outcome::Passed);
    let cpu = Check { cpu: Some(true), above: Some(100), clear: Some(100), ..Check::blank() };
    assert_eq!(look(&dir, cpu).await.finding.outcome, Outcome::Passed);
}

#[tokio::test]
async fn a_probe_tells_at_once_that_a_process_is_dead_and_what_is_known_of_it() {
    let dir = Dir::new();
    let mut server = Server::start().await;
    let http = Check { http: Some(server.url()), ..every(1000) };
    let living = Target { checks: vec![http], ..process_target(&unique("living")) };
    let dead = process_target(&unique("dead"));
    let hangs = Check { http: Some(server.url()), contains: None, ..every(1000) };
    let hanging = Target { checks: vec![hangs], ..Target::named("hanging") };
    let (_living, mut killed) = (Process::start(&dir, &living), Process::start(&dir, &dead));
    killed.kill();
    fs::write(dir.path().join(format!("{}.log", dead.name)), "one\ntwo\n").unwrap();
    let starts = "{\"pid\":1,\"at\":\"2026-01-02T03:04:05Z\",\"incident\":null,\"attempt\":null}\n";
    fs::write(dir.path().join(format!("{}.starts.jsonl", dead.name)), starts).unwrap();
    let answerer = Answerer {
        member: "monitor-test".into(),
        instruments: dir.instruments(),
        standings: Arc::default(),
        known: monitor::known::Known::default(),
    };
    let request =
        |targets| ProbeRequest { targets, measures: Vec::new(), logs: true, timeout_ms: 1000 };
    let reply = answerer.answer(request(vec![living, dead])).await;
    let [living, dead] = reply.targets.as_slice() else { panic!("{reply:#?}") };
    assert!(living.healthy && living.checks.len() == 2, "{living:#?}");
    let process = living.process.as_ref().unwrap();
    assert!(process.running && process.started_at.is_some());
    assert!(0 < process.rss_bytes.unwrap() && 0 < process.n_fds.unwrap());
    assert!(!dead.healthy);
    let process = dead.process.as_ref().unwrap();
    assert_eq!((process.running, process.pid), (false, Some(killed.pid())));
    assert_eq!(process.signal, Some(9), "the zombie tells its signal");
    assert_eq!(dead.log_tail, ["one", "two"]);
    assert_eq!(dead.recent_starts.len(), 1);
    assert!(0.0 < reply.host.memory_percent);

    server.set(Mood::Hang);
    server.after_requests(0).await;
    let short = ProbeRequest { timeout_ms: 200, ..request(vec![hanging]) };
    let reply = tokio::time::timeout(Duration::from_secs(20), answerer.answer(short)).await;
    let reply = reply.unwrap();
    let hanging = &reply.targets[0];
    assert_eq!(hanging.checks[0].detail, "no answer within 200 ms");
    assert_eq!(hanging.unseen_checks, [hanging.checks[0].check.clone()], "it was cut short");
}

#[tokio::test]
async fn what_answers_in_place_of_a_dead_target_is_named() {
    let dir = Dir::new();
    let server = Server::start().await;
    let tcp = Check { tcp: Some(server.address.to_string()), ..every(1000) };
    let target = Target { checks: vec![tcp], ..process_target(&unique("replaced")) };
    let mut process = Process::start(&dir, &target);
    let answerer = Answerer {
        member: "monitor-test".into(),
        instruments: dir.instruments(),
        standings: Arc::default(),
        known: monitor::known::Known::default(),
    };
    let request = || ProbeRequest {
        targets: vec![target.clone()],
        measures: Vec::new(),
        logs: false,
        timeout_ms: 5000,
    };
    let reply = answerer.answer(request()).await;
    assert!(reply.targets[0].answered_by.is_empty(), "it runs: {reply:#?}");
    process.kill();
    let reply = answerer.answer(request()).await;
    let [told] = reply.targets[0].answered_by.as_slice() else { panic!("{reply:#?}") };
    let (port, us) = (server.address.port(), std::process::id());
    assert!(told.contains(&format!("port {port} is answered by pid {us} (")), "{told}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_of_a_dead_target() {
    let dir = Dir::new();
    let mut target = process_target(&unique("undeployed"));
    target.process.as_mut().unwrap().command = vec!["/no/such/program".to_owned()];
    let answerer = Answerer {
        member: "monitor-test".into(),
        instruments: dir.instruments(),
        standings: Arc::default(),
        known: monitor::known::Known::default(),
    };
    let request =
        ProbeRequest { targets: vec![target], measures: Vec::new(), logs: false, timeout_ms: 5000 };
    let reply = answerer.answer(request).await;
    let told = reply.targets[0].program_missing.as_deref();
    assert_eq!(told, Some("the program /no/such/program does not exist"));
}
