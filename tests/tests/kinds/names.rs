//! Who the target is when its name, its command or its directory is another than before, and when
//! no check names a port.

use std::{fs, path::Path};

use domain::{target::Target, wire::FixOutcome};
use host::process::{Configured, Files, Found};
use monitor::processes::Processes;
use rustix::process::Signal;

use super::{Case, KINDS, Kind, command, each, gone, kill, kind};

impl Case {
    /// Takes away what tells whose a process is by its port.
    fn without_port(mut self) -> Self {
        self.target.checks.clear();
        self.configure();
        self
    }

    /// As when the monitor is started anew: it remembers nothing.
    fn forget(&mut self) {
        self.processes = Processes::new(self.dir.path().join("run"));
        self.configure();
    }

    /// Starts it in another directory than its handle says.
    fn start_elsewhere(&self, dir: &Path) {
        let handle = self.target.process.as_ref().unwrap();
        self.spawn(&handle.command[0], &handle.command[1..], Some(dir.to_str().unwrap()));
    }

    /// After an order there is one copy, whether or not it is known which process is the target.
    async fn is_never_doubled(&self, before: i32) {
        let found = self.look().await;
        assert!(found.main().is_none_or(|it| it.pid == before), "{}: {found:?}", self.name());
        let n = self.mains().len();
        match self.restart().await {
            FixOutcome::Succeeded => {
                let main = self.newest(n + 1).await;
                assert_eq!(self.living(), [main], "{}", self.name());
            }
            FixOutcome::Refused { reason, .. } => {
                assert_eq!(self.living(), [before], "{}: {reason}", self.name());
            }
            FixOutcome::Failed { reason } | FixOutcome::Unknown { reason } => {
                panic!("{}: {reason}", self.name())
            }
        }
    }

    /// It is not known whether a process is the target: nothing is started beside it.
    async fn is_left_to_a_person(&self, main: i32) {
        let found = self.look().await;
        assert!(matches!(found, Found::Unclear { .. }), "{}: {found:?}", self.name());
        let outcome = self.restart().await;
        let is_refused = matches!(outcome, FixOutcome::Refused { .. });
        assert!(is_refused, "{}: {outcome:?}", self.name());
        assert_eq!(self.living(), [main], "{}", self.name());
    }
}

/// Whether nothing at all leads from a process that somebody else has started to its target.
fn is_disguised(case: &Case) -> bool {
    !case.ours && case.kind.name.starts_with("titled") && !case.kind.pid_file
}

#[tokio::test]
async fn without_a_port_no_process_of_any_kind_is_doubled() {
    each(|case| async move {
        let case = case.without_port();
        let main = case.start().await;
        if !is_disguised(&case) {
            case.is_never_doubled(main).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_port_a_target_that_gets_another_name_is_not_doubled() {
    each(|case| async move {
        let mut case = case.without_port();
        let main = case.start().await;
        case.look().await;
        case.target.name = "store".to_owned();
        case.forget();
        if !is_disguised(&case) {
            case.is_never_doubled(main).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_target_whose_command_is_changed_while_it_runs_stays_known() {
    each(|mut case| async move {
        let main = case.start().await;
        case.is_seen_alive(main).await;
        case.target.process.as_mut().unwrap().command.push("--second".to_owned());
        case.forget();
        case.is_seen_alive(main).await;
        // Then it gets another name, too.
        case.target.name = "store".to_owned();
        case.forget();
        case.is_seen_alive(main).await;
        case.is_restarted_or_untouched(main).await;
    })
    .await;
}

#[tokio::test]
async fn a_target_that_gets_another_name_and_command_at_once_is_not_doubled() {
    for ours in [true, false] {
        let mut case = Case::new(KINDS[0], ours);
        let main = case.start().await;
        case.is_seen_alive(main).await;
        let before = std::mem::replace(&mut case.target.name, "store".to_owned());
        case.target.process.as_mut().unwrap().command.push("--second".to_owned());
        case.forget();
        case.is_seen_alive(main).await;
        // What the run has started stays known by its marks.
        let handle = case.target.process.as_ref().unwrap();
        let files = Files::new(&case.dir.path().join("run"), "store", handle).unwrap();
        assert_eq!(files.read_record().unwrap().started_as, Some(before));
        case.is_restarted_or_untouched(main).await;
    }
}

/// Two targets of one host.
struct Two([Case; 2]);

impl Two {
    fn new(kind: Kind) -> Self {
        let (one, mut other) = (Case::new(kind, true), Case::new(kind, true));
        other.target.name = "store".to_owned();
        other.tools = one.tools.clone();
        let two = Self([one, other]);
        two.configured()
    }

    fn targets(&self) -> [&Target; 2] {
        [&self.0[0].target, &self.0[1].target]
    }

    /// Both are known to a monitor that remembers nothing.
    fn configured(mut self) -> Self {
        let configured = || Configured::of(self.targets());
        let processes = Processes::new(self.0[0].dir.path().join("run"));
        processes.configure(configured());
        self.0[0].tools.targets().set(self.targets());
        for case in &mut self.0 {
            case.processes = processes.clone();
        }
        self
    }

    fn swapped(mut self) -> Self {
        let [one, other] = &mut self.0;
        std::mem::swap(&mut one.target.name, &mut other.target.name);
        self.configured()
    }
}

#[tokio::test]
async fn two_targets_that_exchange_their_names_stay_who_they_are() {
    for name in ["plain", "own_pid_file", "titled", "workers", "background_pid_file", "script_ends"]
    {
        let kind = *KINDS.iter().find(|it| it.name == name).unwrap();
        // Both live, or one of them is dead when the names are exchanged.
        for dead in [None, Some(0), Some(1)] {
            let mut two = Two::new(kind);
            let mut mains = [two.0[0].start().await, two.0[1].start().await];
            for (case, main) in two.0.iter().zip(mains) {
                case.is_seen_alive(main).await;
            }
            if let Some(dead) = dead {
                kill(mains[dead], Signal::KILL);
                gone(mains[dead]).await;
            }
            for _ in 0..2 {
                two = two.swapped();
                for (idx, case) in two.0.iter().enumerate() {
                    if dead == Some(idx) {
                        case.is_seen_dead().await;
                    } else {
                        case.is_seen_alive(mains[idx]).await;
                    }
                }
            }
            two = two.swapped();
            for (idx, case) in two.0.iter().enumerate() {
                if dead == Some(idx) {
                    let outcome = case.restart().await;
                    // The record of a dead run is not kept for the other name: workers that it has
                    // left behind hold the port, and a person is asked.
                    if case.kind.leaves_something() {
                        let is_refused = matches!(outcome, FixOutcome::Refused { .. });
                        assert!(is_refused, "{}: {outcome:?}", case.name());
                        continue;
                    }
                    assert_eq!(outcome, FixOutcome::Succeeded, "{}", case.name());
                    mains[idx] = case.newest(2).await;
                } else {
                    case.is_restarted_or_untouched(mains[idx]).await;
                    mains[idx] = *case.living().first().unwrap();
                }
            }
            for (idx, case) in two.0.iter().enumerate() {
                if dead == Some(idx) && case.kind.leaves_something() {
                    assert!(case.living().is_empty(), "{}", case.name());
                    continue;
                }
                assert_eq!(case.living(), [mains[idx]], "{}", case.name());
                case.is_seen_alive(mains[idx]).await;
            }
        }
    }
}

/// Returns the marks that a process hands on to what is started from within it.
fn marks_of(pid: i32) -> Vec<(String, String)> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let all = environment.split('\0').filter_map(|it| it.split_once('='));
    let marks = all.filter(|(name, _)| name.starts_with("SELFHEAL_"));
    marks.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn a_target_that_is_started_by_hand_from_within_another_one_is_not_that_ones() {
    for has_port in [true, false] {
        let mut two = Two::new(KINDS[0]);
        if !has_port {
            for case in &mut two.0 {
                case.target.checks.clear();
            }
            two = two.configured();
        }
        let [one, other] = &two.0;
        let (first, second) = (one.start().await, other.start().await);
        one.is_seen_alive(first).await;
        other.is_seen_alive(second).await;
        kill(second, Signal::KILL);
        gone(second).await;
        let command = &other.target.process.as_ref().unwrap().command;
        let marks = marks_of(first);
        assert!(marks.iter().any(|it| it.0 == "SELFHEAL_RUN"), "{marks:?}");
        other.spawn_with(&command[0], &command[1..], None, &marks);
        let by_hand = other.newest(2).await;
        other.is_seen_alive(by_hand).await;
        assert_eq!(one.restart().await, FixOutcome::Succeeded);
        let next = one.newest(2).await;
        assert_eq!((one.living(), other.living()), (vec![next], vec![by_hand]));
        other.is_seen_alive(by_hand).await;
    }
}

#[tokio::test]
async fn with_another_state_directory_what_runs_stays_known() {
    let mut case = Case::new(KINDS[0], true).without_port();
    let main = case.start().await;
    case.is_seen_alive(main).await;
    case.processes = Processes::new(case.file("another"));
    case.configure();
    case.is_seen_alive(main).await;
}

#[tokio::test]
async fn the_same_command_in_another_directory_is_left_alone() {
    for has_port in [true, false] {
        let mut case = Case::new(KINDS[0], false);
        let (own, other) = (case.file("own"), case.file("other"));
        for dir in [&own, &other] {
            fs::create_dir(dir).unwrap();
        }
        case.target.process.as_mut().unwrap().dir = Some(own.display().to_string());
        case.configure();
        if !has_port {
            case = case.without_port();
        }
        case.start_elsewhere(&other);
        let main = case.newest(1).await;
        if has_port {
            case.is_seen_alive(main).await;
            case.is_restarted_or_untouched(main).await;
        } else {
            case.is_left_to_a_person(main).await;
        }
    }
}

#[tokio::test]
async fn what_may_be_the_target_stays_in_doubt_when_the_command_is_changed() {
    let mut case = Case::new(KINDS[0], false).without_port();
    let (own, other) = (case.file("own"), case.file("other"));
    for dir in [&own, &other] {
        fs::create_dir(dir).unwrap();
    }
    case.target.process.as_mut().unwrap().dir = Some(own.display().to_string());
    case.configure();
    case.start_elsewhere(&other);
    let main = case.newest(1).await;
    case.is_left_to_a_person(main).await;
    case.target.process.as_mut().unwrap().command.push("--second".to_owned());
    case.forget();
    for _ in 0..2 {
        case.is_left_to_a_person(main).await;
    }
    // It is ended, as the reason says: then the target starts.
    kill(main, Signal::KILL);
    gone(main).await;
    case.is_seen_dead().await;
    assert_eq!(case.restart().await, FixOutcome::Succeeded);
}

#[tokio::test]
async fn another_program_of_the_same_name_in_another_directory_is_not_in_the_way() {
    let relative = *KINDS.iter().find(|it| it.name == "relative").unwrap();
    let case = Case::new(relative, true).without_port();
    let other = tempfile::tempdir().unwrap();
    let other_place = other.path().to_str().unwrap();
    // A copy of its own, which notes its starts and listens elsewhere.
    fs::copy(case.file("server"), other.path().join("server")).unwrap();
    let command = &case.target.process.as_ref().unwrap().command;
    let mut stranger = std::process::Command::new(&command[0])
        .args(&command[1..])
        .env("PLACE", other_place)
        .current_dir(&other)
        .spawn()
        .unwrap();
    super::eventually("it has begun", || async {
        let begun = fs::read_to_string(other.path().join("mains"));
        begun.map(|_| ())
    })
    .await;
    case.is_seen_dead().await;
    assert_eq!(case.restart().await, FixOutcome::Succeeded);
    case.begun(1).await;
    assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_title_that_begins_with_the_name_of_the_program_may_be_the_target() {
    let mut case = Case::of(|place, port| {
        let server = format!("{place}/shop");
        fs::copy("/usr/bin/python3", &server).unwrap();
        let (mut words, _) = command("titled", port, place);
        words[0] = server;
        (words, format!("{place}/own.pid"))
    });
    let handle = case.target.process.as_mut().unwrap();
    (handle.pid_file, handle.dir) = (None, Some(case.dir.path().display().to_string()));
    case.configure();
    case.kind = kind("titled", false, true, false);
    case.ours = false;
    let case = case.without_port();
    case.start_by_somebody_else();
    let main = case.newest(1).await;
    case.is_left_to_a_person(main).await;
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_makes_him_nobodys_target() {
    for kind in KINDS.iter().filter(|it| it.pid_file) {
        let case = Case::new(*kind, true);
        let main = case.start().await;
        case.is_seen_alive(main).await;
        kill(main, Signal::KILL);
        gone(main).await;
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(case.file("own.pid"), format!("{}\n", stranger.id())).unwrap();
        case.is_seen_dead().await;
        let outcome = case.restart().await;
        assert!(matches!(outcome, FixOutcome::Refused { .. }), "{}: {outcome:?}", case.name());
        assert_eq!(stranger.try_wait().unwrap(), None, "{}: a stranger was ended", case.name());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        // Now it names nobody.
        assert_eq!(case.restart().await, FixOutcome::Succeeded, "{}", case.name());
        let next = case.newest(2).await;
        assert_eq!(case.living(), [next], "{}", case.name());
    }
}
