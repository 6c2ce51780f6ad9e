//! A short run of each kind in every build: real processes, faults from a seed, the judge.
//!
//! `SELFHEAL_CHAOS_SEED` chooses another seed, `SELFHEAL_CHAOS_SECONDS` another length; what
//! a run prints tells its seed.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::process::{Command, Stdio};

/// Faults of this seed meet leader, broker and disks within the first seconds.
const SEED: u64 = 20_261_124;
/// How long faults are injected.
const SECONDS: f64 = 25.0;

#[expect(clippy::disallowed_methods, reason = "tests have no flags")]
fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}

fn run(kind: &str) {
    let seed = number("SELFHEAL_CHAOS_SEED").unwrap_or(SEED);
    let seconds = number("SELFHEAL_CHAOS_SECONDS").unwrap_or(SECONDS);
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args([kind, "--json"])
        .args(["--seed", &seed.to_string()])
        .args(["--minutes", &(seconds / 60.0).to_string()])
        .arg("--nats-server")
        .arg(tests::stack::nats_server())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (figures, progress) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{progress}\n{figures}");
    let figures: serde_json::Value = serde_json::from_str(&figures).unwrap();
    assert_eq!(figures["good"], true, "{figures}");
    // A run in which nothing happened proves nothing.
    let run = &figures["runs"][0];
    for at_least in ["n_accepted", "n_fixes", "n_actions", "n_decisions"] {
        assert!(0 < run[at_least].as_u64().unwrap(), "{at_least}: {figures}");
    }
    assert!(3 < run["n_faults"].as_object().unwrap().len(), "{figures}");
}

#[test]
fn nothing_is_lost_or_doubled_while_a_single_broker_and_all_agents_fail() {
    run("--single");
}

#[test]
fn nothing_is_lost_or_doubled_while_a_cluster_and_all_agents_fail() {
    run("--cluster");
}
