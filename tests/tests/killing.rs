//! `kill -9` of each agent, and of the broker, in each phase of an incident: the incident
//! ends rightly, no attempt runs twice, the log has no gap and no duplicate.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tests::{
    eventually,
    stack::{Stack, directory},
    target::Target,
};

/// Decisions after which something is killed: the incident is then being diagnosed, fixed,
/// verified, or is over.
const PHASES: [&str; 4] = ["opened", "fix_started", "fix_ended", "resolved"];
/// How long to wait for a decision that only another order of events would bring.
const PHASE_WAIT: Duration = Duration::from_secs(30);

fn config(store: &Target) -> String {
    format!(
        "targets:
  - name: database
    {}
    checks: [{{tcp: \"{}\", every: 200ms}}]
policy:
  budget: {{per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}}
  backoff: 200ms
  soak: 500ms
",
        store.handle(),
        store.address
    )
}

/// Waits until the log has one more line with this decision than before.
async fn until_decided(stack: &Stack, decision: &str, n_before: usize) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while count(stack, decision) <= n_before {
        assert!(
            start.elapsed() < PHASE_WAIT,
            "nothing was {decision}: {:?}",
            stack.decisions("database")
        );
        ticks.tick().await;
    }
}

fn count(stack: &Stack, decision: &str) -> usize {
    let text = std::fs::read_to_string(stack.dir().join("data/incident_logs.jsonl"));
    // The last line may be half written at this moment; its name is not counted then.
    text.unwrap_or_default().matches(&format!("\"decision\":\"{decision}\"")).count()
}

async fn survives(kind: &str) {
    let dir = directory(&format!("kill-{kind}"));
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&store));
    for phase in PHASES {
        let n_before = count(&stack, phase);
        let n_ended = count(&stack, "resolved") + count(&stack, "self_resolved");
        assert!(
            store.kill(),
            "{phase}: the target was not there: pid {:?}, answers: {}, {:?}, {:?}",
            store.pid(),
            store.answers(),
            store.starts(),
            stack.decisions("database")
        );
        until_decided(&stack, phase, n_before).await;
        assert!(0 < stack.kill(kind), "{phase}: there was no {kind} to kill");

        eventually("all agents live again", || async {
            let missing: Vec<_> = ["supervisor", "monitor", "analyzer", "fixer", "gateway"]
                .into_iter()
                .filter(|it| stack.pids(it).is_empty())
                .collect();
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
        .await;
        stack.until_quiet().await;
        eventually("the target answers", || async {
            if store.answers() { Ok(()) } else { Err(stack.decisions("database")) }
        })
        .await;
        let n_ended_now = count(&stack, "resolved") + count(&stack, "self_resolved");
        assert!(n_ended < n_ended_now, "{phase}: no incident ended well");
        assert_eq!(count(&stack, "escalated"), 0, "{phase}: {:?}", stack.decisions("database"));
    }
    let attempts = store.attempts();
    let different: BTreeSet<_> = attempts.iter().collect();
    assert_eq!(attempts.len(), different.len(), "an attempt ran twice: {attempts:?}");
    // Reads the log whole, and checks its numbers.
    assert!(!stack.log().is_empty());
}

#[tokio::test]
async fn a_killed_supervisor_loses_and_doubles_nothing() {
    survives("supervisor").await;
}

#[tokio::test]
async fn a_killed_monitor_loses_and_doubles_nothing() {
    survives("monitor").await;
}

#[tokio::test]
async fn a_killed_analyzer_loses_and_doubles_nothing() {
    survives("analyzer").await;
}

#[tokio::test]
async fn a_killed_fixer_loses_and_doubles_nothing() {
    survives("fixer").await;
}

#[tokio::test]
async fn a_killed_gateway_loses_and_doubles_nothing() {
    survives("gateway").await;
}

#[tokio::test]
async fn a_killed_broker_loses_and_doubles_nothing() {
    survives("nats-server").await;
}
