//! An analyzer's password is no command: a report that brings a plan of its own is answered by
//! what the catalogue and the configuration say.
#![cfg(test)]

use std::path::Path;

use async_nats::jetstream;
use bus::{Bus, Job, WorkConsumer, testing::Broker};
use domain::{
    action::Action,
    event::{Event, EventType},
    fact::Fact,
    view::LogLine,
    wire::{DiagnoseWork, Envelope, Input, InputKind, WorkKind},
};
use serde_json::{Value, json};
use tests::{
    agents::Agent,
    eventually,
    stack::directory,
    supervisor::{leader, log},
};

/// How long anything may take on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// One target that nobody can act upon, and one whose process does nothing but make a file.
fn configure(dir: &Path) {
    let configured = dir.join("configured");
    let text = format!(
        "targets:
  - name: api
    checks: [{{tcp: \"127.0.0.1:9\", every: 1h}}]
  - name: worker
    process: {{command: [touch, {}]}}
policy:
  autonomy: auto
  retry: {{for: 0s}}
  runbooks: {{restart-process: {{autonomy: auto}}}}
",
        configured.display()
    );
    std::fs::write(dir.join("selfheal.yaml"), text).unwrap();
}

/// Reports that a target is down.
async fn down(bus: &Bus, target: &str) {
    let mut event = Event::new(target, EventType::known("service_down"), "test");
    event.target = Some(target.to_owned());
    let envelope = Envelope::new(target, Input::Event(event));
    bus.inbox_writer().submit(InputKind::Event, envelope).await.unwrap();
}

/// What somebody with an analyzer's password answers: a plan that runs a shell, under the name
/// of a runbook.
fn forged(work: &DiagnoseWork, runbook: &str, makes: &Path) -> Value {
    let target = work.target.as_ref().unwrap().name.clone();
    let script = format!("id > {}", makes.display());
    let process = json!({"command": ["/bin/sh", "-c", script], "log": makes.with_extension("log")});
    let plan = json!({
        "runbook": runbook, "title": "Harmless", "cause": "process_exited", "target": target,
        "zone": "default", "risk": "low", "autonomy": "auto",
        "steps": [{"name": "run", "action": "process.restart", "target": target, "process": process, "timeout": "30s"}],
        "success": {"checks": [{"tcp": "127.0.0.1:9"}], "soak": "1s", "within": "1s"},
    });
    let hypothesis = json!({
        "cause": "process_exited", "confidence_percent": 100, "summary": "its process is gone",
        "because": ["it looks like it"], "plan": plan,
    });
    let evidence = json!([{"source": "process", "summary": "it does not run"}]);
    json!({"work": work.work, "by": "mallory", "hypotheses": [hypothesis], "evidence": evidence, "took_ms": 1})
}

/// Takes the work that is about a target.
async fn asked_about(queue: &mut WorkConsumer, target: &str) -> (Job, DiagnoseWork) {
    loop {
        let job = queue.next().await;
        let work: DiagnoseWork = serde_json::from_slice(&job.payload).unwrap();
        if work.target.as_ref().is_some_and(|it| it.name == target) {
            return (job, work);
        }
        job.ack().await;
    }
}

fn decided(dir: &Path, target: &str, decision: &str) -> Result<LogLine, Vec<String>> {
    let lines = log(dir).into_iter().filter(|it| it.target.as_deref() == Some(target));
    let lines: Vec<_> = lines.collect();
    let said = || lines.iter().map(|it| format!("{}: {}", it.decision, it.reason)).collect();
    lines.iter().find(|it| it.decision == decision).cloned().ok_or_else(said)
}

#[tokio::test]
async fn a_plan_that_a_report_brings_is_not_what_is_done() {
    let dir = directory("forged-plans");
    configure(&dir);
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let _supervisor = Agent::start(
        "supervisor",
        &dir,
        &broker.url(),
        &["--data-dir", ".", "--config", "selfheal.yaml"],
    );
    let _fixer = Agent::start("fixer", &dir.join("fixer"), &broker.url(), &[]);
    leader(&bus).await;
    let js = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let mut queue = bus.work().consume(WorkKind::Diagnose, &["default".to_owned()], 1);
    let makes = dir.join("forged");

    // A runbook that nobody knows, and one that cures another target with other steps.
    for (target, runbook) in [("api", "anything"), ("worker", "restart-process")] {
        down(&bus, target).await;
        let asked = asked_about(&mut queue, target);
        let (job, work) = tokio::time::timeout(PATIENCE, asked).await.unwrap();
        let report = forged(&work, runbook, &makes);
        let frame = json!([{"v": 1, "id": format!("{target}/report"), "analysis": report}]);
        let subject = bus.subjects().full("frame.analysis");
        js.publish(subject, frame.to_string().into()).await.unwrap().await.unwrap();
        job.ack().await;
    }

    let escalated =
        eventually("a person is asked", || async { decided(&dir, "api", "escalated") }).await;
    assert!(escalated.reason.contains("there is no runbook `anything`"), "{escalated:?}");
    assert!(decided(&dir, "api", "fix_started").is_err(), "an order came of it");

    // The name of the runbook counts; what it does is the catalogue's and the configuration's.
    let started =
        eventually("the fix is ordered", || async { decided(&dir, "worker", "fix_started") }).await;
    let Fact::FixStarted { plan, .. } = &started.detail.fact else { panic!("{started:?}") };
    let [step] = plan.steps.as_slice() else { panic!("{plan:?}") };
    let Action::ProcessRestart { process, .. } = &step.action else { panic!("{plan:?}") };
    assert_eq!(process.command[0], "touch");
    eventually("the configured program was run", || async {
        if dir.join("configured").exists() { Ok(()) } else { Err(log(&dir).len()) }
    })
    .await;
    assert!(!makes.exists() && !makes.with_extension("log").exists(), "what was forged was run");
}
