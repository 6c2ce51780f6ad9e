//! Every type that is written to the wire or to disk: what is read can be written, and is read again
//! as the same.

use std::fmt::Debug;

use domain::{
    event::Event,
    fact::Decision,
    plan::Plan,
    view::{Filter, IncidentDetail, LogLine, Page, Query, SystemView},
    wire::{
        Answer, Claim, DiagnoseWork, Envelope, FixOrder, LedgerEntry, Member, NotifyWork,
        ProbeReply, ProbeRequest, VerifyWork,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Form, Target, Verdict};
use crate::seeds::{bytes, story};

macro_rules! target {
    ($name:ident, $text:literal, $about:literal, $seeds:expr, [$($kind:ty),+]) => {
        pub(super) const $name: Target = Target {
            name: $text,
            about: $about,
            form: Form::Json,
            seeds: $seeds,
            run: |input| first_taken(&[$(round_trip::<$kind>(input)),+]),
        };
    };
}

target!(ENVELOPE, "wire_envelope", "an input of any kind in its envelope", envelopes, [Envelope]);
target!(
    WORK,
    "wire_work",
    "work of any kind",
    work,
    [DiagnoseWork, FixOrder, VerifyWork, NotifyWork]
);
target!(LEDGER, "wire_ledger", "a message of the ledger", entries, [LedgerEntry]);
target!(LOG_LINE, "wire_log_line", "a line of the log", lines, [LogLine, Decision]);
target!(CLAIM, "wire_claim", "a claim, an answer", claims, [Claim, Answer]);
target!(MEMBER, "wire_member", "a member's sign of life", members, [Member]);
target!(QUERY, "wire_query", "a question to a supervisor", queries, [Query, Filter]);
target!(
    VIEWS,
    "wire_views",
    "answers of a supervisor, events, plans",
    views,
    [Page, IncidentDetail, SystemView, Event, Plan]
);
target!(
    PROBE,
    "wire_probe",
    "a question to a monitor and its answer",
    probes,
    [ProbeRequest, ProbeReply]
);

/// Reads, writes, reads again.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) -> Verdict {
    let value: T = match serde_json::from_slice(input) {
        Ok(value) => value,
        // Its words may repeat the input; who passes them on cuts them, which other targets see.
        Err(error) => return Verdict::Refused(error.to_string().chars().take(500).collect()),
    };
    let text = bytes(&value);
    let back: T = serde_json::from_slice(&text).unwrap_or_else(|error| {
        panic!("what was written cannot be read: {error}\n{}", String::from_utf8_lossy(&text))
    });
    assert_eq!(back, value, "what is read is not what was written");
    assert_eq!(
        String::from_utf8_lossy(&bytes(&back)),
        String::from_utf8_lossy(&text),
        "what is written twice differs"
    );
    Verdict::Taken
}

fn first_taken(verdicts: &[Verdict]) -> Verdict {
    let taken = verdicts.iter().find(|it| **it == Verdict::Taken);
    taken.or_else(|| verdicts.first()).cloned().unwrap_or(Verdict::Taken)
}

fn envelopes() -> Vec<Vec<u8>> {
    story().inputs.iter().map(bytes).collect()
}

fn work() -> Vec<Vec<u8>> {
    story().work.values().flat_map(|it| it.iter().take(4).cloned()).collect()
}

fn entries() -> Vec<Vec<u8>> {
    story().entries.iter().map(bytes).collect()
}

fn lines() -> Vec<Vec<u8>> {
    let of = |line: &LogLine| [bytes(line), bytes(&line.detail)];
    story().lines.iter().flat_map(of).collect()
}

fn json_seeds(values: &[Value]) -> Vec<Vec<u8>> {
    values.iter().map(bytes).collect()
}

fn claims() -> Vec<Vec<u8>> {
    json_seeds(&[
        json!({"id": "a", "by": "fixer-1", "at": "2026-01-01T00:00:00Z", "plan_hash": "00"}),
        json!({"id": "a", "by": "fixer-1", "at": "2026-01-01T00:00:00Z", "plan_hash": "00", "lease_ms": 5000, "renewal": 3, "state": "expired"}),
        json!({"status": "incident_opened", "incident_id": "01990000-0000-7000-8000-00000000000a", "message": "m"}),
    ])
}

fn members() -> Vec<Vec<u8>> {
    json_seeds(&[
        json!({"id": "fixer-1", "kind": "fixer", "zones": ["a", "b"], "version": "0.1.0", "host": "h", "pid": 7,
            "started_at": "2026-01-01T00:00:00Z",
            "pulse": {"clock": "2026-01-01T00:00:00.5Z", "violation": "Publish to \"x\""}}),
    ])
}

fn queries() -> Vec<Vec<u8>> {
    let filter = json!({"status": ["fixing", "open"], "open": true, "target": "db", "type": "a.b", "severity": "error",
        "q": "x", "since": "2026-01-01T00:00:00Z", "after": "01990000-0000-7000-8000-00000000000a", "limit": 50});
    let mut asked = filter.clone();
    asked["what"] = "incidents".into();
    json_seeds(&[
        filter,
        asked,
        json!({"what": "incident", "id": "01990000-0000-7000-8000-00000000000a"}),
        json!({"what": "status"}),
        json!({"what": "config"}),
    ])
}

fn views() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = story().views.clone();
    for payload in story().work.get("fix").into_iter().flatten().take(2) {
        let order: FixOrder = serde_json::from_slice(payload).unwrap();
        seeds.push(bytes(&order.plan));
    }
    seeds
}

fn probes() -> Vec<Vec<u8>> {
    let targets = &story().config.targets;
    json_seeds(&[
        json!({"targets": targets, "logs": true, "timeout_ms": 2000}),
        json!({"by": "monitor-1", "targets": [{"target": "db", "healthy": false,
            "checks": [{"check": "tcp", "ok": false, "detail": "refused", "took_ms": 1}],
            "process": {"running": true, "pid": 7, "state": "S", "exit_code": null, "signal": 9, "oom_killed": true,
                "rss_bytes": 4096, "n_fds": 3, "fds_max": 1024, "started_at": "2026-01-01T00:00:00Z"},
            "container": {"exists": true, "status": "running", "health": "healthy", "exit_code": 1, "oom_killed": false,
                "restart_count": 2, "started_at": null, "finished_at": null, "image": "i", "error": "", "health_log": ""},
            "log_tail": ["a"], "recent_starts": ["2026-01-01T00:00:00Z"]}],
            "host": {"cpu_percent": 12.5, "memory_percent": 50.0, "load_1m": 0.25, "disks_percent": {"/": 10.5},
                "memory_pressure": 0.5, "io_pressure": null}}),
    ])
}
