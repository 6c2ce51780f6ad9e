//! What a start inherits, what it leaves alone, and what it refuses.

use std::{
    collections::BTreeSet, fs, net::TcpListener, os::unix::process::CommandExt as _,
    process::Command,
};

use crate::kit::{
    Place, Stranger, act, carry_out, handle, is_alive, order, order_of, plan_with, restart, script,
    signal, step, until,
};
use domain::{check::Check, target::ProcessHandle, wire::FixOutcome};
use fixer::Tools;
use rustix::process::Signal;

fn pid_of(place: &Place) -> i32 {
    place.read("run/shop.pid").trim().parse().unwrap()
}

/// Restarts a target that is to answer on a port; says how it ended.
async fn restart_on(tools: &Tools, process: &ProcessHandle, port: u16) -> FixOutcome {
    let tcp = Check { tcp: Some(format!("127.0.0.1:{port}")), ..Check::blank() };
    let plan = plan_with(vec![step("one", restart(process))], vec![Check::of_process(), tcp]);
    carry_out(tools, &order_of(plan)).await.outcome
}

#[tokio::test]
async fn a_start_inherits_no_descriptor_no_signal_and_has_a_session_of_its_own() {
    let place = Place::new();
    // As a fixer that was started by a careless shell.
    let inherited = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let fixer = env!("CARGO_BIN_EXE_selfheal-fixer");
    let careless = format!("trap '' HUP INT USR1; exec {fixer} \"$@\"");
    let wrapper = place.file("careless");
    fs::write(&wrapper, format!("#!/bin/sh\n{careless}\n")).unwrap();
    executable(&wrapper);
    let tools = place.tools_started_by(&wrapper);
    act(&tools, restart(&handle(&["sleep", "1000"]))).await.unwrap();
    let pid = pid_of(&place);
    until("the program runs", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "sleep\n")
    })
    .await;
    let fds: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(fds, ["0", "1", "2"].map(str::to_owned).into());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for field in ["SigBlk:", "SigIgn:"] {
        let value = status.lines().find_map(|it| it.strip_prefix(field)).unwrap().trim();
        // But for 32 and 33, which the C library keeps for itself.
        let signals = u64::from_str_radix(value, 16).unwrap() & !(0b11 << 31);
        assert_eq!(signals, 0, "{field} {value}");
    }
    let id = rustix::process::Pid::from_raw(pid);
    assert_eq!(rustix::process::getsid(id).unwrap(), id.unwrap());
}

fn executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn the_run_is_recorded_before_the_program_begins() {
    let place = Place::new();
    let record = place.text("run/shop.run.json");
    let process = script(&format!("cp {record} {}; exec sleep 1000", place.text("seen")));
    act(&place.tools(), restart(&process)).await.unwrap();
    until("the program has seen its own record", || place.read("seen").ends_with('}')).await;
    let seen: serde_json::Value = serde_json::from_str(&place.read("seen")).unwrap();
    assert_eq!(seen["pid"], pid_of(&place));
    assert!(0 < seen["start_ticks"].as_u64().unwrap());
}

#[tokio::test]
async fn a_port_that_a_stranger_holds_refuses_the_start_and_names_the_holder() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let outcome = restart_on(&place.tools(), &handle(&["sleep", "1000"]), port).await;
    let FixOutcome::Refused { reason, .. } = outcome else { panic!("{outcome:?}") };
    let own = std::process::id();
    assert!(reason.contains(&format!("port {port} is held by process {own} (")), "{reason}");
    assert!(!place.file("run/shop.starts.jsonl").exists(), "it was started");
    drop(listener);
    let outcome = restart_on(&place.tools(), &handle(&["sleep", "1000"]), port).await;
    assert_eq!(outcome, FixOutcome::Succeeded);
}

#[tokio::test]
async fn a_target_that_lives_is_not_stopped_when_a_stranger_holds_its_port() {
    let place = Place::new();
    let tools = place.tools();
    act(&tools, restart(&handle(&["sleep", "1000"]))).await.unwrap();
    let pid = pid_of(&place);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let outcome = restart_on(&tools, &handle(&["sleep", "1000"]), port).await;
    assert!(matches!(outcome, FixOutcome::Refused { .. }), "{outcome:?}");
    assert!(is_alive(pid));
}

#[tokio::test]
async fn what_goes_into_the_background_without_a_pid_file_is_neither_stopped_nor_doubled() {
    let place = Place::new();
    let tools = place.tools();
    let pids = place.text("pids");
    let process = script(&format!("setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' & sleep 0.1"));
    let _done = act(&tools, restart(&process)).await;
    until("the start command has ended", || place.file("run/shop.exit.json").exists()).await;
    until("it runs in the background", || place.read("pids").ends_with('\n')).await;
    let outcome = carry_out(&tools, &order(vec![step("one", restart(&process))])).await.outcome;
    let FixOutcome::Refused { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("in the background") && reason.contains("pid_file"), "{reason}");
    let pids: Vec<i32> = place.read("pids").lines().map(|it| it.parse().unwrap()).collect();
    assert_eq!(pids.len(), 1, "it was doubled");
    assert!(is_alive(pids[0]));
    signal(pids[0], Signal::KILL);
    until("it is dead", || !is_alive(pids[0])).await;
    let outcome = carry_out(&tools, &order(vec![step("one", restart(&process))])).await.outcome;
    assert_eq!(outcome, FixOutcome::Succeeded);
}

#[tokio::test]
async fn a_pid_file_that_the_program_writes_is_written_by_nobody_else() {
    let place = Place::new();
    let tools = place.tools();
    let own = place.text("own.pid");
    let process = ProcessHandle {
        pid_file: Some(own.clone()),
        ..script("echo $$ from me > \"$FILE\"; exec sleep 1000")
    };
    let env = [("FILE".to_owned(), own.clone().into())].into();
    let process = ProcessHandle { env, ..process };
    for _ in 0..2 {
        act(&tools, restart(&process)).await.unwrap();
        let wanted = || {
            let record: serde_json::Value =
                serde_json::from_str(&place.read("run/shop.run.json")).unwrap_or_default();
            format!("{} from me\n", record["pid"])
        };
        until("the program has written it", || place.read("own.pid") == wanted()).await;
    }
}

#[tokio::test]
async fn a_pid_file_that_nobody_writes_is_written_for_people_and_kept_up_to_date() {
    let place = Place::new();
    let tools = place.tools();
    let own = place.text("own.pid");
    let process = ProcessHandle { pid_file: Some(own), ..handle(&["sleep", "1000"]) };
    for _ in 0..2 {
        act(&tools, restart(&process)).await.unwrap();
        let record: serde_json::Value =
            serde_json::from_str(&place.read("run/shop.run.json")).unwrap();
        let wanted = format!("{}\n", record["pid"]);
        until("it is written", || place.read("own.pid") == wanted).await;
    }
}

#[tokio::test]
async fn a_restart_ends_what_the_run_has_started_in_sessions_of_their_own() {
    let place = Place::new();
    let tools = place.tools();
    let pids = place.text("pids");
    let process =
        script(&format!("setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' & exec sleep 1000"));
    act(&tools, restart(&process)).await.unwrap();
    until("it has started another", || place.read("pids").ends_with('\n')).await;
    let other: i32 = place.read("pids").trim().parse().unwrap();
    act(&tools, restart(&handle(&["sleep", "1000"]))).await.unwrap();
    assert!(!is_alive(other), "it would have kept what it holds");
}

#[tokio::test]
async fn a_process_that_inherited_the_mark_of_another_target_is_not_that_target() {
    let place = Place::new();
    let tools = place.tools();
    act(&tools, restart(&script("sleep 1000 & wait"))).await.unwrap();
    // Started from within `shop`, and neither its record nor its pid file names it.
    let mut child = Stranger::start(
        Command::new("sleep")
            .arg("2000")
            .process_group(0)
            .env("SELFHEAL_TARGET", "shop")
            .env("SELFHEAL_STATE_DIR", place.state())
            .env("SELFHEAL_RUN", "an older one"),
    );
    let first = pid_of(&place);
    signal(first, Signal::KILL);
    until("it is dead", || !is_alive(first)).await;
    until("its end is written", || place.file("run/shop.exit.json").exists()).await;
    act(&tools, restart(&handle(&["sleep", "1000"]))).await.unwrap();
    assert!(is_alive(pid_of(&place)), "the child was taken for the target");
    assert!(child.is_alive());
}
