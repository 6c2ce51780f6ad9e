//! Whether somebody changed the log, as `selfheal log verify` tells of a running system.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, binary, directory},
};

const CONFIG: &str = "targets: []\n";

async fn publish(stack: &Stack, kind: &str) {
    let event = json!({"type": kind, "source": "test"});
    eventually("an event is taken", || async {
        let (status, answer) = stack.post("/publish_event", &event).await?;
        if status == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

/// Returns the exit code and what the command found, which needs no running system.
fn verify(dir: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(binary("selfheal"));
    command.args(["--json", "log", "verify"]).args(more).current_dir(dir);
    let output = command.output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn edit(log: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(log).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(log, text.replacen(from, to, 1)).unwrap();
}

/// Goal: a log is as it was written through kill -9 at any moment, and a changed byte is named.
#[tokio::test]
async fn a_changed_byte_is_named_and_a_killed_supervisor_is_no_change() {
    let dir = directory("log-verify");
    let mut stack = Stack::up(&dir, CONFIG);
    for n in 0..5 {
        publish(&stack, &format!("before.kill_{n}")).await;
        assert!(0 < stack.kill("supervisor"));
    }
    publish(&stack, "after.kills").await;
    let (code, report) = verify(&dir, &[]);
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report:#}");
    assert_eq!(report["signature"], "signed", "{report:#}");
    let head = report["head"].as_str().unwrap().to_owned();
    publish(&stack, "one.more").await;
    let (code, report) = verify(&dir, &["--head", &head]);
    assert_eq!(code, Some(0), "{report:#}");

    assert_eq!(stack.interrupt(), 0);
    let log = dir.join("data/incident_logs.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().position(|it| it.contains("before.kill_1")).unwrap() + 1;
    edit(&log, "before.kill_1", "before.kill_7");
    let (code, report) = verify(&dir, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["problems"][0]["line"], line, "{report:#}");
    edit(&log, "before.kill_7", "before.kill_1");
    let (code, report) = verify(&dir, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    let (code, report) = verify(&dir, &["--head", "another"]);
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report:#}");
}
