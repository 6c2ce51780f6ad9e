//! Kinds of process × states: monitor and fixer are asked about real processes. No healthy
//! one is ever stopped or doubled, and no dead one is called alive.
#![cfg(test)]

#[path = "kinds/names.rs"]
mod names;
#[path = "kinds/real.rs"]
mod real;

use std::{
    fs,
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use chrono::{TimeDelta, Utc};
use domain::{
    action::Action,
    check::Check,
    id::{IncidentId, Position},
    plan::{Parts, Plan, Risk, Step, Success},
    span::Span,
    target::{ProcessHandle, Target},
    wire::{FixMode, FixOrder, FixOutcome, WorkRef},
};
use fixer::{AllowList, Args, Progress, Tools, carry_out};
use host::process::{
    Configured, Files, Found, Run, Search, ThisHost, find::started_beside, scan::scan,
    stat::ticks_now,
};
use monitor::processes::Processes;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tests::{eventually, stack::binary, target::free_address};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Nobody else works on the targets of these tests.
struct Alone;

impl fixer::Lease for Alone {
    fn assure(
        &self,
        _: std::time::Duration,
    ) -> futures_util::future::BoxFuture<'_, Result<(), fixer::Lost>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A kind of process, and whether it can be known which process it is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    pid_file: bool,
    /// Whether it is known when a fixer has started it.
    known_when_ours: bool,
    /// Whether it is known when somebody else has.
    known_when_theirs: bool,
}

impl Kind {
    /// Returns whether something of it outlives its main process.
    fn leaves_something(&self) -> bool {
        const LEAVE: [&str; 5] = ["worker", "listening", "restarts", "children", "below"];
        LEAVE.iter().any(|it| self.name.contains(it))
    }
}

const fn kind(name: &'static str, pid_file: bool, ours: bool, theirs: bool) -> Kind {
    Kind { name, pid_file, known_when_ours: ours, known_when_theirs: theirs }
}

const KINDS: [Kind; 33] = [
    kind("plain", false, true, true),
    kind("own_pid_file", true, true, true),
    kind("late_pid_file", true, true, true),
    kind("lock_file", true, true, true),
    kind("locked_pid_file", true, true, true),
    kind("titled", false, true, false),
    kind("titled_pid_file", true, true, true),
    kind("titled_workers", false, true, false),
    kind("workers", false, true, true),
    kind("workers_pid_file", true, true, true),
    kind("worker_of_its_own", false, true, true),
    kind("listening_worker", false, true, true),
    kind("listening_twins", false, true, true),
    kind("restarts_its_server", false, true, true),
    kind("many_children", false, true, true),
    kind("zombies", false, true, true),
    kind("threads", false, true, true),
    kind("first_thread_ends", false, true, true),
    kind("background_pid_file", true, true, true),
    kind("background", false, false, false),
    kind("script_ends_pid_file", true, true, true),
    kind("script_ends", false, false, false),
    kind("ignores_sigterm", false, true, true),
    kind("other_short_name", false, true, true),
    kind("other_directory", false, true, true),
    kind("no_directory", false, true, true),
    kind("below_a_shell", false, true, true),
    kind("behind_two_shells", false, true, true),
    kind("behind_env", false, true, true),
    kind("spaces in its näme", false, true, true),
    kind("line\nbreak) in its name", false, true, true),
    kind("replaced_binary", false, true, true),
    kind("relative", false, true, true),
];

/// Returns the command of a kind, and its working directory if the handle names one.
fn command(kind: &str, port: u16, place: &str) -> (Vec<String>, Option<String>) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kinds/program.py");
    // Not a shim of some manager of versions.
    let python = "/usr/bin/python3";
    let rest = format!("{kind} {port} {place}");
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let port = port.to_string();
    let copy = |from: &str, name: &str| {
        let to = format!("{place}/{name}");
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    match kind {
        "below_a_shell" => {
            (words(&["/bin/sh", "-c", &format!("{python} {program} {rest}; exit $?")]), None)
        }
        "behind_two_shells" => {
            let inner = format!("exec {python} {program} {rest}");
            (words(&["/bin/sh", "-c", &format!("exec /bin/sh -c '{inner}'")]), None)
        }
        "behind_env" => {
            (words(&["/usr/bin/env", "X=1", python, program, kind, &port, place]), None)
        }
        "spaces in its näme" | "line\nbreak) in its name" => {
            (words(&[&copy(program, kind), "named", &port, place]), None)
        }
        "replaced_binary" => (words(&[&copy(python, "server"), program, kind, &port, place]), None),
        "relative" => {
            copy(program, "server");
            (words(&["./server", kind, &port, place]), Some(place.to_owned()))
        }
        _ => (words(&[python, program, kind, &port, place]), None),
    }
}

/// One case: a directory, a target, and both agents.
struct Case {
    kind: Kind,
    dir: tempfile::TempDir,
    target: Target,
    tools: Arc<Tools>,
    processes: Processes,
    ours: bool,
    address: std::net::SocketAddr,
}

impl Case {
    fn new(kind: Kind, ours: bool) -> Self {
        let mut dir = None;
        let mut case = Self::of(|place, port| {
            let (words, named) = command(kind.name, port, place);
            dir = named;
            (words, format!("{place}/own.pid"))
        });
        let handle = case.target.process.as_mut().unwrap();
        handle.dir = dir;
        if !kind.pid_file {
            handle.pid_file = None;
        }
        (case.kind, case.ours) = (kind, ours);
        case.configure();
        case
    }

    /// Makes a target in a directory of its own: command and pid file for a directory and a port.
    fn of(make: impl FnOnce(&str, u16) -> (Vec<String>, String)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let (command, pid_file) = make(dir.path().to_str().unwrap(), address.port());
        let handle = ProcessHandle {
            command,
            dir: None,
            env: std::collections::BTreeMap::new(),
            pid_file: Some(pid_file),
            log: None,
            stop_timeout: Span::from_millis(500),
            user: None,
            group: None,
        };
        let tcp = Check { tcp: Some(address.to_string()), ..Check::blank() };
        let target = Target { process: Some(handle), checks: vec![tcp], ..Target::named("shop") };
        let state_dir = dir.path().join("run");
        let args = Args { allow: Some("all".to_owned()), ..Args::default() };
        let allow = AllowList::load(&args).unwrap();
        let tasks = TaskTracker::new();
        let tools = Tools::new(allow, state_dir.clone(), tasks.clone(), CancellationToken::new());
        let tools = Arc::new(tools.with_starter(binary("selfheal-fixer")));
        let kind = kind("real", true, true, true);
        let processes = Processes::new(state_dir);
        let case = Self { kind, dir, target, tools, processes, ours: true, address };
        case.configure();
        case
    }

    /// Waits longer than a fixer waits before it writes a pid file that nobody else writes.
    async fn settled(&self) {
        let begun = std::time::Instant::now();
        eventually("the pid file would have been written", || async {
            if begun.elapsed() < std::time::Duration::from_secs(3) { Err(()) } else { Ok(()) }
        })
        .await;
    }

    fn configure(&self) {
        let configured = || Configured::of([&self.target]);
        self.tools.targets().set([&self.target]);
        self.processes.configure(configured());
    }

    fn name(&self) -> String {
        format!("{} started by {}", self.kind.name, if self.ours { "us" } else { "somebody else" })
    }

    fn is_known(&self) -> bool {
        if self.ours { self.kind.known_when_ours } else { self.kind.known_when_theirs }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns all main processes that have ever begun, the newest last.
    fn mains(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.file("mains")).unwrap_or_default();
        text.lines().map(|it| it.parse().unwrap()).collect()
    }

    fn living(&self) -> Vec<i32> {
        self.mains().into_iter().filter(|it| is_alive(*it)).collect()
    }

    fn answers(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// Starts it as the case says, and returns its main process.
    async fn start(&self) -> i32 {
        if self.ours {
            let outcome = self.restart().await;
            assert_eq!(outcome, FixOutcome::Succeeded, "{}", self.name());
        } else {
            self.start_by_somebody_else();
        }
        self.newest(1).await
    }

    fn start_by_somebody_else(&self) {
        let handle = self.target.process.as_ref().unwrap();
        self.spawn(&handle.command[0], &handle.command[1..], handle.dir.as_deref());
    }

    fn spawn(&self, program: &str, arguments: &[String], dir: Option<&str>) {
        self.spawn_with(program, arguments, dir, &[]);
    }

    fn spawn_with(
        &self,
        program: &str,
        arguments: &[String],
        dir: Option<&str>,
        env: &[(String, String)],
    ) {
        let mut command = Command::new(program);
        command.envs(env.iter().cloned());
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        std::thread::spawn(move || child.wait());
    }

    /// Waits until so many mains have begun, and the last of them is there.
    async fn newest(&self, n: usize) -> i32 {
        let newest = self.begun(n).await;
        if self.kind.name == "replaced_binary" {
            // As when its package is upgraded.
            let (path, other) = (self.file("server"), self.file("server.new"));
            fs::copy(&path, &other).unwrap();
            fs::rename(other, path).unwrap();
        }
        newest
    }

    async fn begun(&self, n: usize) -> i32 {
        eventually(&format!("{} runs", self.name()), || async {
            let mains = self.mains();
            let last = mains.last().copied().filter(|it| n <= mains.len() && is_alive(*it));
            last.filter(|_| self.answers())
                .ok_or_else(|| (mains, fs::read_to_string(self.file("run/shop.log"))))
        })
        .await
    }

    /// Has the fixer restart it.
    async fn restart(&self) -> FixOutcome {
        self.restart_because("a test").await
    }

    async fn restart_because(&self, cause: &str) -> FixOutcome {
        let order = self.order(cause);
        let (progress, _lines) = Progress::new("fixer-test".to_owned());
        carry_out(&order, &self.tools, &progress, &Alone).await.outcome
    }

    fn order(&self, cause: &str) -> FixOrder {
        let process = self.target.process.clone().unwrap();
        let step = Step {
            name: "restart".to_owned(),
            action: Action::ProcessRestart { target: self.target.name.clone(), process },
            timeout: Span::from_secs(20),
            pre_check: None,
            undo: None,
        };
        let success = Success {
            checks: self.target.all_checks(),
            soak: Span::ZERO,
            within: Span::from_secs(1),
        };
        let plan = Plan::new(Parts {
            runbook: "test".to_owned(),
            title: "a test".to_owned(),
            cause: cause.to_owned(),
            target: self.target.name.clone(),
            zone: "default".to_owned(),
            risk: Risk::Low,
            autonomy: None,
            steps: vec![step],
            success,
        })
        .unwrap();
        let now = Utc::now();
        FixOrder {
            work: WorkRef {
                incident: IncidentId::derive(now, Position::new(1, 0), "test"),
                attempt: 1,
                revision: 3,
            },
            mode: FixMode::Apply,
            plan_hash: plan.hash(),
            plan,
            approved_by: None,
            not_after: now + TimeDelta::minutes(5),
        }
    }

    async fn look(&self) -> Found {
        self.processes.look(&self.target).await.unwrap()
    }

    /// The monitor finds the main process, or says that it cannot know it; never another.
    async fn is_seen_alive(&self, main: i32) {
        self.is_seen_alive_if(self.is_known(), main).await;
    }

    async fn is_seen_alive_if(&self, is_known: bool, main: i32) {
        if is_known {
            eventually(&format!("{} is found", self.name()), || async {
                let found = self.look().await;
                if matches!(&found, Found::Running(running) if running.main.pid == main) {
                    Ok(())
                } else {
                    Err((main, found))
                }
            })
            .await;
        } else {
            // Its start command may not have ended yet.
            eventually(&format!("{} is not known", self.name()), || async {
                let found = self.look().await;
                if found.main().is_none() { Ok(()) } else { Err((main, found)) }
            })
            .await;
        }
    }

    async fn is_seen_dead(&self) {
        let found = self.look().await;
        assert_eq!(found.main(), None, "{} is dead: {found:?}", self.name());
    }

    /// After an order there is one copy: a new one if it is known which process it is, else
    /// the one that was there, untouched.
    async fn is_restarted_or_untouched(&self, before: i32) {
        let n = self.mains().len();
        let outcome = self.restart().await;
        match outcome {
            FixOutcome::Succeeded => {
                assert!(self.is_known(), "{} was not known", self.name());
                let main = self.newest(n + 1).await;
                assert_ne!(main, before);
                assert_eq!(self.living(), [main], "{}", self.name());
                self.is_seen_alive_if(self.kind.known_when_ours, main).await;
            }
            FixOutcome::Refused { reason, .. } => {
                // What is left of a run that nobody has recorded may be the target, too.
                let is_unclear = !self.ours && self.kind.leaves_something();
                assert!(!self.is_known() || is_unclear, "{}: {reason}", self.name());
                assert_eq!(self.living(), [before], "{}: {reason}", self.name());
                assert!(reason.contains("pid_file"), "{reason}");
            }
            FixOutcome::Failed { reason } | FixOutcome::Unknown { reason } => {
                panic!("{}: {reason}", self.name())
            }
        }
        assert!(!self.file("lock-file-touched").exists(), "{}", self.name());
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for pid in self.mains() {
            kill(pid, Signal::KILL);
        }
        // All that has the directory in its arguments: no process outlives its case.
        let place = self.dir.path().display().to_string();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse::<i32>().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&place) {
                kill(pid, Signal::KILL);
            }
        }
    }
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| host::process::Stat::of_living(pid).is_some())
}

fn kill(pid: i32, signal: Signal) {
    let _gone = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

async fn gone(pid: i32) {
    eventually("it is gone", || async { if is_alive(pid) { Err(pid) } else { Ok(()) } }).await;
}

/// Runs a test for each kind, started by us and by somebody else.
async fn each<F: Future<Output = ()>>(test: impl Fn(Case) -> F) {
    for kind in KINDS {
        for ours in [true, false] {
            test(Case::new(kind, ours)).await;
        }
    }
}

#[tokio::test]
async fn a_healthy_process_of_any_kind_is_known_or_left_alone() {
    each(|case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        if !case.is_known() {
            case.is_restarted_or_untouched(main).await;
        }
        assert_eq!(case.living(), [main], "{}", case.name());
    })
    .await;
}

#[tokio::test]
async fn a_process_of_any_kind_that_hangs_is_restarted_once_or_left_alone() {
    each(|case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        kill(main, Signal::STOP);
        case.is_restarted_or_untouched(main).await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_process_of_any_kind_is_called_dead_and_started_once() {
    each(|case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        kill(main, Signal::KILL);
        gone(main).await;
        case.is_seen_dead().await;
        match case.restart().await {
            FixOutcome::Succeeded => {}
            // What nobody has recorded may be the target, or what is left of it.
            FixOutcome::Refused { reason, .. } => {
                assert!(!case.ours && case.kind.leaves_something(), "{}: {reason}", case.name());
                assert!(reason.contains("pid_file"), "{reason}");
                return;
            }
            FixOutcome::Failed { reason } | FixOutcome::Unknown { reason } => {
                panic!("{}: {reason}", case.name())
            }
        }
        let next = case.newest(2).await;
        assert_eq!(case.living(), [next], "{}", case.name());
        assert!(!case.file("lock-file-touched").exists(), "{}", case.name());
    })
    .await;
}

#[tokio::test]
async fn a_process_of_any_kind_that_somebody_else_starts_again_is_not_doubled() {
    each(|mut case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        let group = Pid::from_raw(main).and_then(|it| rustix::process::getpgid(Some(it)).ok());
        kill(main, Signal::KILL);
        if let Some(group) = group {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        gone(main).await;
        case.start_by_somebody_else();
        let next = case.newest(2).await;
        let found = case.look().await;
        assert!(found.main().is_none_or(|it| it.pid == next), "{}: {found:?}", case.name());
        // From here on it is somebody else's.
        case.ours = false;
        case.is_restarted_or_untouched(next).await;
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_starts_between_diagnosis_and_fix_is_left_alone() {
    for name in ["plain", "own_pid_file", "workers", "background_pid_file"] {
        let kind = *KINDS.iter().find(|it| it.name == name).unwrap();
        let mut case = Case::new(kind, true);
        let main = case.start().await;
        kill(main, Signal::KILL);
        gone(main).await;
        // The workers end with their main process, as by systemd.
        let _gone = kill_process_group(Pid::from_raw(main).unwrap(), Signal::KILL);
        case.start_by_somebody_else();
        let theirs = case.newest(2).await;
        case.ours = false;
        let outcome = case.restart_because("process_exited").await;
        assert!(matches!(outcome, FixOutcome::Refused { .. }), "{name}: {outcome:?}");
        assert_eq!((case.mains().len(), case.living()), (2, vec![theirs]), "{name}");
        // A plan that is about what runs is another matter.
        case.is_restarted_or_untouched(theirs).await;
    }
}

#[tokio::test]
async fn what_somebody_else_has_started_a_moment_before_us_is_found_beside_our_run() {
    let case = Case::new(KINDS[0], false);
    let own = |child: &std::process::Child| {
        Run::of(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()).unwrap()
    };
    let stranger = || Command::new("sleep").arg("1000").spawn().unwrap();
    let later = async |run: Run| {
        eventually("a tick is over", || async {
            if run.start_ticks < ticks_now() { Ok(()) } else { Err(run) }
        })
        .await;
    };
    let mut before = stranger();
    later(own(&before)).await;
    let theirs = case.start().await;
    let mut after = stranger();
    let handle = case.target.process.as_ref().unwrap();
    let files = Files::new(&case.file("run"), "shop", handle).unwrap();
    let configured = Configured::of([&case.target]);
    let (checks, configured) = (&case.target.checks, Some(&configured));
    let search = Search { host: &ThisHost, files: &files, handle, checks, configured };
    let beside = |run: Run| started_beside(search, &run, &scan()).map(|it| it.pid);
    // It was started after the one, and before the other.
    assert_eq!(beside(own(&before)), None);
    assert_eq!(beside(own(&after)), Some(theirs));
    for it in [&mut before, &mut after] {
        it.kill().unwrap();
        it.wait().unwrap();
    }
}

#[tokio::test]
async fn a_target_that_gets_another_name_is_adopted_and_not_doubled() {
    each(|mut case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        case.target.name = "store".to_owned();
        case.configure();
        case.is_seen_alive(main).await;
        case.is_restarted_or_untouched(main).await;
    })
    .await;
}

#[tokio::test]
async fn a_pid_file_that_is_stale_or_whose_number_is_used_again_names_nobody() {
    for kind in KINDS.iter().filter(|it| it.pid_file) {
        let case = Case::new(*kind, true);
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        let path = case.file("own.pid");
        fs::write(&path, format!("{}\n", stranger.id())).unwrap();
        age(&path);
        case.is_seen_dead().await;
        let outcome = case.restart().await;
        assert_eq!(outcome, FixOutcome::Succeeded, "{}", case.name());
        let main = case.newest(1).await;
        assert_eq!(stranger.try_wait().unwrap(), None, "{}: a stranger was ended", case.name());
        case.is_seen_alive(main).await;
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_its_keeper_starts_again_is_not_started_beside() {
    let case = Case::new(kind("kept", false, true, true), true);
    let first = case.start().await;
    case.is_seen_alive(first).await;
    kill(first, Signal::KILL);
    let second = case.newest(2).await;
    case.is_seen_alive(second).await;
    // It ends with its keeper, who would else start it once more.
    case.is_restarted_or_untouched(second).await;
    case.settled().await;
    assert_eq!(case.mains().len(), 3);
}

#[tokio::test]
async fn a_worker_that_outlives_a_main_process_that_was_adopted_is_not_called_the_target() {
    for name in ["listening_worker", "workers"] {
        let case = Case::new(kind(name, false, true, true), false);
        let main = case.start().await;
        case.is_seen_alive(main).await;
        kill(main, Signal::KILL);
        gone(main).await;
        assert!(case.answers(), "{name}: no worker is left");
        case.is_seen_dead().await;
    }
}

fn age(path: &Path) {
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
}
