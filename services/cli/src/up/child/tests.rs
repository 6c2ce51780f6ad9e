//! Real processes, started, killed and started again.

use std::{os::unix::process::ExitStatusExt, path::Path};

use super::*;
use crate::up::{
    backoff,
    log::{Style, Writer},
};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    data: DataDir,
    around: Surroundings,
    _writer: Writer,
}

impl Stage {
    fn new() -> Self {
        let name = format!("selfheal-child-{}", uuid::Uuid::new_v4());
        let data = DataDir::open(&std::env::temp_dir().join(name)).unwrap();
        let style = Style { json: false, color: false, verbose: false };
        let (log, writer) = Log::start(style).unwrap();
        let around = Surroundings::new(log, &data);
        Self { data, around, _writer: writer }
    }

    fn pid(&self) -> Option<i32> {
        let text = std::fs::read(self.data.run.join("up.json")).ok()?;
        let roster: serde_json::Value = serde_json::from_slice(&text).ok()?;
        roster.get("test")?.get("pid")?.as_i64()?.try_into().ok()
    }
}

fn program(words: &[&str]) -> Program {
    Program {
        name: "test",
        command: words.iter().map(OsString::from).collect(),
        env: Vec::new(),
        env_remove: Vec::new(),
        is_private: false,
        wrapper: None,
    }
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn n_files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn a_killed_child_runs_again_after_the_first_wait() {
    let stage = Stage::new();
    let stop = CancellationToken::new();
    let keeper = keep_alive(program(&["sleep", "600"]), stage.around.clone(), stop.clone());
    let watcher = async {
        let first = eventually("it runs", || stage.pid()).await;
        kill(first);
        let killed_at = Instant::now();
        eventually("it runs again", || stage.pid().filter(|pid| *pid != first)).await;
        assert!(backoff::FIRST <= killed_at.elapsed(), "restarted in a tight loop");
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(keeper, watcher);
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(stage.pid(), None);
}

#[tokio::test]
async fn a_child_that_keeps_dying_is_started_ever_more_rarely() {
    let stage = Stage::new();
    let dir = stage.data.root.join("starts");
    std::fs::create_dir(&dir).unwrap();
    // Each start makes one file.
    let command = program(&["mktemp", "-p", dir.to_str().unwrap()]);
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let keeper = keep_alive(command, stage.around.clone(), stop.clone());
    let watcher = async {
        eventually("four starts", || (4 <= n_files(&dir)).then_some(())).await;
        stop.cancel();
    };
    tokio::join!(keeper, watcher);
    assert!(backoff::FIRST * 7 <= begun.elapsed(), "waits: 100, 200 and 400 ms");
    assert_eq!(n_files(&dir), 4);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_tried_again_until_stopped() {
    let stage = Stage::new();
    let stop = CancellationToken::new();
    let command = program(&["/nowhere/selfheal-fixer"]);
    let keeper = keep_alive(command, stage.around.clone(), stop.clone());
    let stopper = async {
        tokio::time::sleep(backoff::FIRST * 2).await;
        stop.cancel();
    };
    assert_eq!(tokio::join!(keeper, stopper).0, Ended::Stopped);
}

#[tokio::test]
async fn a_child_that_ignores_the_request_to_end_is_killed() {
    let stage = Stage::new();
    let stop = CancellationToken::new();
    let command = program(&["env", "--ignore-signal=TERM", "sleep", "600"]);
    let keeper = keep_alive(command, stage.around.clone(), stop.clone());
    let watcher = async {
        let pid = eventually("it runs", || stage.pid()).await;
        let stat = format!("/proc/{pid}/comm");
        eventually("it is the deaf sleep", || {
            std::fs::read_to_string(&stat).ok().filter(|name| name.trim() == "sleep")
        })
        .await;
        stop.cancel();
        stage.around.kill.cancel();
        Instant::now()
    };
    let (ended, killed_at) = tokio::join!(keeper, watcher);
    assert_eq!(ended, Ended::Stopped);
    assert!(killed_at.elapsed() < GRACE, "the second signal was not heard");
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_does_not_hold_up_the_restart() {
    let stage = Stage::new();
    let stop = CancellationToken::new();
    // `timeout` is killed, and the `sleep` that it started lives on with our pipe.
    let command = program(&["timeout", "5", "sleep", "5"]);
    let keeper = keep_alive(command, stage.around.clone(), stop.clone());
    let watcher = async {
        let first = eventually("it runs", || stage.pid()).await;
        let children = format!("/proc/{first}/task/{first}/children");
        eventually("it has a child", || {
            std::fs::read_to_string(&children).ok().filter(|pids| !pids.trim().is_empty())
        })
        .await;
        kill(first);
        let killed_at = Instant::now();
        eventually("it runs again", || stage.pid().filter(|pid| *pid != first)).await;
        assert!(killed_at.elapsed() < Duration::from_secs(3));
        stop.cancel();
    };
    tokio::join!(keeper, watcher);
}

#[test]
fn only_what_a_restart_cannot_cure_ends_everything() {
    let code = |code: i32| ExitStatus::from_raw(code << 8);
    let table = [
        (code(78), false, Some(Exit::Config)),
        (code(78), true, Some(Exit::Config)),
        (code(69), false, Some(Exit::Unavailable)),
        (code(69), true, None),
        (code(1), false, None),
        (code(0), false, None),
        (ExitStatus::from_raw(9), false, None),
    ];
    for (status, was_ready, expected) in table {
        assert_eq!(useless(status, was_ready), expected, "{status} {was_ready}");
    }
}
