//! `process.restart` against real processes.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use crate::kit::{
    Place, Stranger, act, carry_out, handle, is_alive, order, restart, script, signal, step, until,
};
use domain::{span::Span, target::ProcessHandle, wire::FixOutcome};
use fixer::Tools;
use rustix::process::Signal;

const SLEEP: [&str; 2] = ["sleep", "1000"];

fn pid_of(place: &Place) -> i32 {
    place.read("run/shop.pid").trim().parse().unwrap()
}

fn variables(pid: i32) -> Vec<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all = environ.split(|byte| *byte == 0).filter(|it| !it.is_empty());
    all.map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

#[tokio::test]
async fn a_target_that_never_ran_is_started_in_a_group_of_its_own() {
    let place = Place::new();
    let process = ProcessHandle {
        env: [("COLOUR".to_owned(), "red".into())].into(),
        ..script("echo to stdout; echo to stderr >&2; exec sleep 1000")
    };
    let report = act(&place.tools(), restart(&process)).await.unwrap();
    let pid = pid_of(&place);
    assert!(report.summary.contains(&format!("started process {pid}")), "{}", report.summary);
    assert!(is_alive(pid));
    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_eq!(group.as_raw_nonzero().get(), pid, "Ctrl-C on our terminal must not reach it");
    until("both outputs are in the log", || place.read("run/shop.log") == "to stdout\nto stderr\n")
        .await;
    assert_eq!(fs::read_to_string(place.file("run/shop.pid")).unwrap(), format!("{pid}\n"));
    let start: serde_json::Value =
        serde_json::from_str(place.read("run/shop.starts.jsonl").trim()).unwrap();
    assert_eq!(start["pid"], pid);
    assert_eq!(start["attempt"], 1);
    assert!(start["at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok());
    assert!(!place.file("run/shop.starting").exists());
}

#[tokio::test]
async fn a_target_gets_a_clean_environment_with_its_marks() {
    let place = Place::new();
    let process =
        ProcessHandle { env: [("COLOUR".to_owned(), "red".into())].into(), ..handle(&SLEEP) };
    act(&place.tools(), restart(&process)).await.unwrap();
    // For an instant after its start a process has no environment to read.
    until("it has an environment", || !variables(pid_of(&place)).is_empty()).await;
    let found = variables(pid_of(&place));
    let known = ["PATH", "HOME", "LANG", "COLOUR"];
    for variable in &found {
        let name = variable.split('=').next().unwrap();
        assert!(known.contains(&name) || name.starts_with("SELFHEAL_"), "{variable}");
    }
    for wanted in ["COLOUR=red", "SELFHEAL_TARGET=shop", "SELFHEAL_ATTEMPT=1"] {
        assert!(found.iter().any(|it| it == wanted), "{wanted} of {found:?}");
    }
    assert!(found.iter().any(|it| it.starts_with("SELFHEAL_INCIDENT=0")), "{found:?}");
}

#[tokio::test]
async fn a_dead_target_is_started_again_and_its_end_is_written_down() {
    let place = Place::new();
    let tools = place.tools();
    act(&tools, restart(&handle(&SLEEP))).await.unwrap();
    let first = pid_of(&place);
    signal(first, Signal::KILL);
    until("the end is written down", || place.file("run/shop.exit.json").exists()).await;
    let exit: serde_json::Value = serde_json::from_str(&place.read("run/shop.exit.json")).unwrap();
    assert_eq!((&exit["pid"], &exit["signal"]), (&first.into(), &9.into()));
    assert!(exit["exit_code"].is_null());
    let report = act(&tools, restart(&handle(&SLEEP))).await.unwrap();
    assert!(report.summary.starts_with("started process"), "{}", report.summary);
    assert_ne!(pid_of(&place), first);
    assert!(is_alive(pid_of(&place)));
    assert_eq!(place.read("run/shop.starts.jsonl").lines().count(), 2);
}

#[tokio::test]
async fn a_living_target_is_stopped_with_its_children_first() {
    let place = Place::new();
    let tools = place.tools();
    let child = place.text("child");
    let process = script(&format!("sleep 1000 & echo $! > {child}; wait"));
    act(&tools, restart(&process)).await.unwrap();
    let first = pid_of(&place);
    until("the child has started", || place.read("child").ends_with('\n')).await;
    let grandchild: i32 = place.read("child").trim().parse().unwrap();
    let report = act(&tools, restart(&process)).await.unwrap();
    assert!(report.summary.contains(&format!("stopped process {first}")), "{}", report.summary);
    assert!(!is_alive(first) && !is_alive(grandchild));
    assert!(is_alive(pid_of(&place)));
}

/// Restarts it, and returns why that is refused.
async fn refusal(tools: &Tools, process: &ProcessHandle) -> String {
    let ended = carry_out(tools, &order(vec![step("one", restart(process))])).await;
    let FixOutcome::Refused { reason, .. } = ended.outcome else { panic!("{ended:?}") };
    reason
}

#[tokio::test]
async fn a_process_runs_as_the_user_of_its_handle() {
    let place = Place::new();
    let tools = place.tools();
    let is_root = rustix::process::geteuid().is_root();
    fs::set_permissions(place.file("."), fs::Permissions::from_mode(0o777)).unwrap();
    let shown = place.text("shown");
    let script = format!(
        "id -u > {shown}; id -g >> {shown}; id -G >> {shown}; grep -E 'Cap(Eff|Amb)' /proc/self/status >> {shown}; echo $HOME >> {shown}; sleep 1000"
    );
    let process = ProcessHandle {
        user: Some("65534".to_owned()),
        group: Some("65534".to_owned()),
        ..self::script(&script)
    };
    if !is_root {
        let told = refusal(&tools, &process).await;
        assert!(told.contains("CAP_SETUID"), "{told}");
        return;
    }
    act(&tools, restart(&process)).await.unwrap();
    until("it has told who it is", || place.read("shown").lines().count() == 6).await;
    let shown = place.read("shown");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[..3], ["65534", "65534", "65534"], "{shown}");
    for line in &lines[3..5] {
        assert!(line.ends_with("0000000000000000"), "{shown}");
    }
    // It is known and stopped as any other.
    let first = pid_of(&place);
    let report = act(&tools, restart(&process)).await.unwrap();
    assert!(report.summary.contains(&format!("stopped process {first}")), "{}", report.summary);
}

#[tokio::test]
async fn a_process_of_an_unknown_user_is_neither_stopped_nor_started() {
    let place = Place::new();
    let tools = place.tools();
    let process = handle(&SLEEP);
    act(&tools, restart(&process)).await.unwrap();
    let pid = pid_of(&place);
    let process = ProcessHandle { user: Some("no-such-user".to_owned()), ..process };
    let told = refusal(&tools, &process).await;
    assert!(told.contains("no user `no-such-user`"), "{told}");
    assert!(is_alive(pid));
}

#[tokio::test]
async fn a_target_that_does_not_listen_is_killed() {
    let place = Place::new();
    let tools = place.tools();
    let deaf = ProcessHandle {
        stop_timeout: Span::from_millis(200),
        ..script(&format!(
            "trap '' TERM; touch {}; while :; do sleep 1000; done",
            place.text("deaf")
        ))
    };
    act(&tools, restart(&deaf)).await.unwrap();
    let first = pid_of(&place);
    until("it has become deaf", || place.file("deaf").exists()).await;
    let report = act(&tools, restart(&deaf)).await.unwrap();
    assert!(report.summary.contains(&format!("killed process {first}")), "{}", report.summary);
    assert!(!is_alive(first));
    assert!(is_alive(pid_of(&place)));
}

#[tokio::test]
async fn children_whose_leader_is_dead_are_ended_too() {
    let place = Place::new();
    let tools = place.tools();
    let process = script(&format!("sleep 1000 & echo $! > {}; wait", place.text("child")));
    act(&tools, restart(&process)).await.unwrap();
    until("the child has started", || place.read("child").ends_with('\n')).await;
    let orphan: i32 = place.read("child").trim().parse().unwrap();
    signal(pid_of(&place), Signal::KILL);
    until("the leader is gone", || !is_alive(pid_of(&place))).await;
    assert!(is_alive(orphan));
    act(&tools, restart(&handle(&SLEEP))).await.unwrap();
    assert!(!is_alive(orphan), "it would have kept the port");
}

#[tokio::test]
async fn a_number_in_a_file_is_not_enough_to_stop_a_process() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let mut innocent = Stranger::start(Command::new("tail").args(["-f", "/dev/null"]));
    fs::write(place.file("run/shop.pid"), innocent.pid().to_string()).unwrap();
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(innocent.is_alive());
    assert!(is_alive(pid_of(&place)));
}

#[tokio::test]
async fn a_younger_process_that_got_the_number_is_not_stopped() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let mut innocent = Stranger::start(Command::new("sleep").arg("2000"));
    let pid_file = place.file("run/shop.pid");
    fs::write(&pid_file, innocent.pid().to_string()).unwrap();
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&pid_file).unwrap().set_modified(hour_ago).unwrap();
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(innocent.is_alive(), "same program, but younger than the file");
}

#[tokio::test]
async fn a_process_of_another_target_is_not_stopped() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let mut other =
        Stranger::start(Command::new("sleep").arg("2000").env("SELFHEAL_TARGET", "database"));
    fs::write(place.file("run/shop.pid"), other.pid().to_string()).unwrap();
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(other.is_alive());
}

#[tokio::test]
async fn a_target_that_somebody_else_started_first_is_taken_over() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let mut first = Stranger::start(Command::new("sleep").arg("2000"));
    let pid_file = place.text("own.pid");
    fs::write(&pid_file, format!("{}", first.pid())).unwrap();
    let process = ProcessHandle { pid_file: Some(pid_file.clone()), ..handle(&SLEEP) };
    act(&place.tools(), restart(&process)).await.unwrap();
    assert!(!first.is_alive());
    // Nobody else writes it: then we do, for people.
    let named = || fs::read_to_string(&pid_file).unwrap().trim().parse::<i32>().unwrap();
    until("the pid file names the new one", || is_alive(named())).await;
}

/// What a fixer leaves behind that is killed after the start, before it has written the id.
fn unwritten(place: &Place) -> Stranger {
    Stranger::start(
        Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .env("SELFHEAL_TARGET", "shop")
            .env("SELFHEAL_STATE_DIR", place.state()),
    )
}

#[tokio::test]
async fn a_start_whose_fixer_died_is_found_without_a_pid_file() {
    let place = Place::new();
    let mut first = unwritten(&place);
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(!first.is_alive(), "there would be two");
    assert!(is_alive(pid_of(&place)));
}

#[tokio::test]
async fn a_start_whose_fixer_died_is_found_behind_an_old_pid_file() {
    let place = Place::new();
    fs::create_dir_all(place.state()).unwrap();
    let mut dead = Stranger::start(&mut Command::new("true"));
    dead.0.wait().unwrap();
    fs::write(place.file("run/shop.pid"), dead.pid().to_string()).unwrap();
    fs::write(place.file("run/shop.starting"), "").unwrap();
    let mut first = unwritten(&place);
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(!first.is_alive());
}

#[tokio::test]
async fn the_same_target_of_another_installation_is_left_alone() {
    let (place, other) = (Place::new(), Place::new());
    let mut theirs = unwritten(&other);
    act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap();
    assert!(theirs.is_alive());
}

#[tokio::test]
async fn what_cannot_be_started_again_is_not_stopped() {
    let place = Place::new();
    let tools = place.tools();
    act(&tools, restart(&handle(&SLEEP))).await.unwrap();
    let pid = pid_of(&place);
    let told = act(&tools, restart(&handle(&["no-such-program"]))).await.unwrap_err();
    assert!(told.contains("no program `no-such-program` in PATH"), "{told}");
    let wrong_dir = ProcessHandle { dir: Some("/no/such/dir".to_owned()), ..handle(&SLEEP) };
    let told = act(&tools, restart(&wrong_dir)).await.unwrap_err();
    assert!(told.contains("no working directory /no/such/dir"), "{told}");
    assert!(is_alive(pid));
}

#[tokio::test]
async fn a_script_without_its_interpreter_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let path = place.file("broken");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let told = act(&place.tools(), restart(&handle(&[path.to_str().unwrap()]))).await.unwrap_err();
    assert!(told.contains("interpreter"), "{told}");
    assert!(!place.file("run/shop.starting").exists());
}

#[tokio::test]
async fn an_end_with_an_error_is_written_down_with_its_code() {
    let place = Place::new();
    // It may have ended when the step is reported, and then the step has failed.
    let told = act(&place.tools(), restart(&script("echo no port; exit 3"))).await;
    if let Err(told) = told {
        assert!(told.contains("exit code 3") && told.contains("no port"), "{told}");
    }
    until("the end is written down", || place.file("run/shop.exit.json").exists()).await;
    let exit: serde_json::Value = serde_json::from_str(&place.read("run/shop.exit.json")).unwrap();
    assert_eq!(exit["exit_code"], 3);
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_is_told_with_a_hint() {
    let place = Place::new();
    fs::write(place.state(), "a file").unwrap();
    let told = act(&place.tools(), restart(&handle(&SLEEP))).await.unwrap_err();
    assert!(told.contains("cannot write") && told.contains("--state-dir"), "{told}");
}

#[tokio::test]
async fn a_real_server_answers_again_after_its_death() {
    let place = Place::new();
    let tools = place.tools();
    let port = free_port();
    let process = ProcessHandle {
        dir: Some(place.text("")),
        ..handle(&["python3", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()])
    };
    let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    act(&tools, restart(&process)).await.unwrap();
    until("it answers", answers).await;
    signal(pid_of(&place), Signal::KILL);
    until("it is dead", || !answers()).await;
    act(&tools, restart(&process)).await.unwrap();
    until("it answers again", answers).await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_target_that_listens_is_not_waited_for_longer_than_it_takes() {
    let place = Place::new();
    let tools = place.tools();
    let patient = ProcessHandle { stop_timeout: Span::from_secs(600), ..handle(&SLEEP) };
    act(&tools, restart(&patient)).await.unwrap();
    let within = Span::from_secs(5);
    crate::kit::act_within(&tools, restart(&patient), within).await.unwrap();
}
