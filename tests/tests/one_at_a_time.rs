//! Of all fixers one acts, whoever is frozen when; and what was withdrawn is not begun.
#![cfg(test)]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tests::{
    eventually,
    stack::{Stack, binary, directory},
    target::Target,
};

/// A second fixer beside that of the system; killed at the end.
struct Second(Child);

impl Second {
    fn start(stack: &Stack) -> Self {
        let child = Command::new(binary("selfheal-fixer"))
            .args(["--allow", "all", "--state-dir", "data/run"])
            .env("SELFHEAL_NATS_URL", stack.nats_url("fixer"))
            .current_dir(stack.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn config(store: &Target, more: &str) -> String {
    format!(
        "targets:
  - name: database
    {}
    checks: [{{tcp: \"{}\", every: 200ms}}]
policy:
  budget: {{per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}}
  backoff: 200ms
  soak: 500ms
{more}",
        store.handle(),
        store.address
    )
}

/// A runbook that waits for a file before it restarts the target.
fn slowly(dir: &Path) -> String {
    let (begun, go) = (dir.join("begun"), dir.join("go"));
    format!(
        "runbooks:
  - name: restart-slowly
    title: Wait, then restart it
    when: {{causes: [process_exited], handle: process}}
    order: 1
    risk: low
    attempts: 3
    steps:
      - {{name: wait, action: command.run, command: [sh, -c, \"echo one >> {}; until [ -e {} ]; do sleep 0.05; done\"], timeout: 15s}}
      - {{name: restart, action: process.restart, timeout: 10s}}
",
        begun.display(),
        go.display()
    )
}

fn signal(pids: &[i32], signal: Signal) {
    assert!(!pids.is_empty(), "there is no fixer");
    for pid in pids {
        kill_process(Pid::from_raw(*pid).unwrap(), signal).unwrap();
    }
}

async fn until_decided(stack: &Stack, decision: &str) {
    eventually(&format!("it is decided: {decision}"), || async {
        let all = stack.decisions("database");
        if all.iter().any(|it| it == decision) { Ok(()) } else { Err(all) }
    })
    .await;
}

/// Goal: a fixer that wakes up does not restart a target that its successor has healed. Method:
/// it is stopped in the first of two steps; another one heals the target; then it goes on.
#[tokio::test]
async fn a_fixer_that_wakes_up_leaves_a_healed_target_alone() {
    let dir = directory("frozen-fixer");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&store, &slowly(&dir)));
    let first = stack.pids("fixer");
    assert!(store.kill());
    eventually("the first step is begun", || async {
        if dir.join("begun").exists() { Ok(()) } else { Err(stack.decisions("database")) }
    })
    .await;
    signal(&first, Signal::STOP);
    std::fs::write(dir.join("go"), "").unwrap();
    let _second = Second::start(&stack);
    stack.until("database", &["resolved"]).await;
    let (starts, pid) = (store.starts().len(), store.pid());
    signal(&first, Signal::CONT);
    // What it had done is told, and that was all.
    until_decided(&stack, "late_report").await;
    stack.until_quiet().await;
    assert_eq!((store.starts().len(), store.pid()), (starts, pid), "it was restarted");
    let attempts = store.attempts();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(attempts[0].1, "2", "the second attempt healed it");
}

/// Goal: what was ordered and not begun when fixes are paused is not begun. Method: the only
/// fixer is stopped before the order and goes on after the pause.
#[tokio::test]
async fn a_pause_withdraws_what_no_fixer_has_begun() {
    let dir = directory("recall");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&store, ""));
    let fixers = stack.pids("fixer");
    signal(&fixers, Signal::STOP);
    assert!(store.kill());
    until_decided(&stack, "fix_started").await;
    let (code, told) = stack.cli(&["pause", "--reason", "the network is being rebuilt"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("Fixes ordered before: 1"), "{told}");
    until_decided(&stack, "fix_recalled").await;
    signal(&fixers, Signal::CONT);
    let (code, told) = stack.cli(&["resume"]);
    assert_eq!(code, 0, "{told}");
    stack.until("database", &["resolved"]).await;
    let attempts = store.attempts();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(attempts[0].1, "2", "the attempt that was withdrawn was not carried out");
}

/// Goal: a fixer that is stopped when fixes are paused begins no further step when it goes on.
/// Method: the only fixer is stopped in the first of two steps, and goes on when the supervisor
/// has said that the outcome is not known.
#[tokio::test]
async fn after_a_pause_a_fixer_that_wakes_up_begins_no_further_step() {
    let dir = directory("recall-frozen");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&store, &slowly(&dir)));
    let fixers = stack.pids("fixer");
    assert!(store.kill());
    eventually("the first step is begun", || async {
        if dir.join("begun").exists() { Ok(()) } else { Err(stack.decisions("database")) }
    })
    .await;
    signal(&fixers, Signal::STOP);
    std::fs::write(dir.join("go"), "").unwrap();
    let starts = store.starts().len();
    let (code, told) = stack.cli(&["pause", "--reason", "the network is being rebuilt"]);
    assert_eq!(code, 0, "{told}");
    until_decided(&stack, "fix_ended").await;
    signal(&fixers, Signal::CONT);
    until_decided(&stack, "late_report").await;
    assert_eq!(store.starts().len(), starts, "it was restarted while fixes were paused");
    let (code, told) = stack.cli(&["resume"]);
    assert_eq!(code, 0, "{told}");
    stack.until("database", &["resolved"]).await;
    assert_eq!(store.starts().len(), starts + 1);
}
