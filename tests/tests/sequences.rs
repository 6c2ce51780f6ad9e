//! Two hundred sequences of what an incident may meet, on real processes, all at once: it fires,
//! its process dies, its plan is approved or rejected, it is escalated, the configuration changes,
//! its target is removed, it is healthy again, resolves arrive out of order.
//!
//! In the end each incident is over, or waits for a person; what waits reacts to news, and ends
//! when its target is healthy. No target has ever two processes.
#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::stack::{Stack, directory};

const N_TARGETS: usize = 200;
const LENGTH_MAX: u64 = 6;
/// How long all targets together may take to come to rest on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What waits for a person.
const WAITS: [&str; 2] = ["awaiting_approval", "escalated"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A sender says that the target is down, whether it is or not.
    Fires,
    /// A sender reports what no check of the target measures.
    FiresUnmeasured,
    Dies,
    Approved,
    Rejected,
    /// A person asks for another diagnosis.
    Retried,
    ConfigChanges,
    /// It is removed from the configuration, or comes back.
    Removed,
    /// An operator starts it, and its senders say so.
    HealthyAgain,
    /// A resolve of something that was over long ago.
    OldResolve,
}

const OPS: [Op; 10] = [
    Op::Fires,
    Op::FiresUnmeasured,
    Op::Dies,
    Op::Approved,
    Op::Rejected,
    Op::Retried,
    Op::ConfigChanges,
    Op::Removed,
    Op::HealthyAgain,
    Op::OldResolve,
];

/// A sequence: what happens, and whether all is at rest before it does.
fn sequence(idx: usize) -> Vec<(Op, bool)> {
    // SplitMix64: each number is its own sequence.
    let mut state = u64::try_from(idx).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let length = 1 + next() % LENGTH_MAX;
    let mut op = || OPS[usize::try_from(next() % 10).unwrap()];
    let ops: Vec<Op> = (0..length).map(|_| op()).collect();
    ops.into_iter().map(|op| (op, next() % 2 == 0)).collect()
}

/// One target and what has become of it.
struct Case {
    name: String,
    /// The last argument of its command: tells its processes from all others.
    mark: String,
    ops: Vec<(Op, bool)>,
    is_configured: bool,
    n_changes: usize,
    n_events: usize,
    fired: BTreeSet<&'static str>,
}

impl Case {
    fn new(idx: usize, unique: u32) -> Self {
        Self {
            name: format!("t{idx}"),
            mark: format!("{}.{idx:03}", 1_000_000 + unique),
            ops: sequence(idx),
            is_configured: true,
            n_changes: 0,
            n_events: 0,
            fired: BTreeSet::new(),
        }
    }

    fn target(&self, idx: usize) -> Value {
        // Every second one asks before it is healed.
        let autonomy = if idx.is_multiple_of(2) { "auto" } else { "approve" };
        json!({
            "name": self.name,
            "process": {"command": ["/bin/sleep", self.mark]},
            "labels": {"change": self.n_changes.to_string()},
            "autonomy": autonomy,
        })
    }

    fn event(&mut self, kind: &'static str, status: &str) -> Value {
        self.n_events += 1;
        let id = format!("{}-{}", self.name, self.n_events);
        json!({"id": id, "type": kind, "source": "sender", "target": self.name, "status": status})
    }

    /// Starts it as its operator would: its own command, in a session of its own.
    fn start_by_hand(&self) {
        let mut command = Command::new("/bin/sleep");
        command.arg(&self.mark).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Somebody must take its end, or it would stay as a zombie of ours.
        std::thread::spawn(move || child.wait());
    }
}

/// Returns the processes of all targets, by mark.
fn processes() -> BTreeMap<String, Vec<i32>> {
    let mut found = BTreeMap::<String, Vec<i32>>::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        if let Some(mark) = words.strip_prefix("/bin/sleep\0") {
            found.entry(mark.trim_end_matches('\0').to_owned()).or_default().push(pid);
        }
    }
    found
}

/// What senders and people do.
#[derive(Default)]
struct Acts {
    events: Vec<Value>,
    commands: Vec<(String, &'static str)>,
}

impl Acts {
    /// Lets something happen to a target with these open incidents and processes.
    fn add(&mut self, case: &mut Case, op: Op, open: &[Value], pids: &[i32]) {
        let mut command = |verb: &'static str, status: &str| {
            let waits = open.iter().filter(|it| it["status"] == status);
            self.commands.extend(waits.map(|it| (it["id"].as_str().unwrap().to_owned(), verb)));
        };
        match op {
            Op::Fires | Op::FiresUnmeasured => {
                let kind = if op == Op::Fires { "service_down" } else { "replication_lag" };
                case.fired.insert(kind);
                self.events.push(case.event(kind, "firing"));
            }
            Op::Dies => {
                for pid in pids {
                    // It may have died by itself.
                    kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL).ok();
                }
            }
            Op::Approved => command("approve", "awaiting_approval"),
            Op::Rejected => command("reject", "awaiting_approval"),
            Op::Retried => command("retry", "escalated"),
            Op::HealthyAgain => {
                // An operator starts what nobody else is about to start.
                let waits = |it: &Value| {
                    WAITS.iter().chain(&["merged"]).any(|status| it["status"] == **status)
                };
                if pids.is_empty() && !open.is_empty() && open.iter().all(waits) {
                    case.start_by_hand();
                }
                for kind in std::mem::take(&mut case.fired) {
                    self.events.push(case.event(kind, "resolved"));
                }
            }
            Op::OldResolve => {
                let mut event = case.event("service_down", "resolved");
                event["starts_at"] = json!(Utc::now() - TimeDelta::hours(2));
                event["ends_at"] = json!(Utc::now() - TimeDelta::hours(1));
                self.events.push(event);
            }
            Op::ConfigChanges | Op::Removed => {}
        }
    }
}

/// The whole system, and all cases.
struct Trial {
    stack: Stack,
    cases: Vec<Case>,
}

impl Trial {
    fn config(cases: &[Case]) -> Value {
        let targets = cases.iter().enumerate().filter(|(_, case)| case.is_configured);
        let targets: Vec<Value> = targets.map(|(idx, case)| case.target(idx)).collect();
        let many = "100000/h";
        json!({
            "targets": targets,
            "policy": {
                "budget": {
                    "per_target": many, "per_runbook": many, "fleet": many,
                    "blast_radius": {"percent": 100, "count": 1000},
                },
                "storm": {"percent": 100, "count": 1000},
                "breaker": {"failures": 1000, "within": "1m", "reset_after": "1s"},
                "retry": {"first": "1s", "max": "2s", "for": "4s"},
                "attempts": 2,
                "backoff": "500ms",
                "soak": "200ms",
            },
        })
    }

    async fn publish(&self, event: &Value) {
        let (status, answer) = self.stack.post("/publish_event", event).await.unwrap();
        assert_eq!(status, 200, "{event}: {answer}");
    }

    async fn open(&self) -> Result<BTreeMap<String, Vec<Value>>, String> {
        let mut found = BTreeMap::<String, Vec<Value>>::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/incidents?open=true&limit=500{cursor}");
            let page = self.stack.get(&path).await?;
            for it in page["incidents"].as_array().ok_or_else(|| page.to_string())? {
                let target = it["target"].as_str().unwrap_or_default().to_owned();
                found.entry(target).or_default().push(it.clone());
            }
            let Some(next) = page["next"].as_str() else { return Ok(found) };
            cursor = format!("&cursor={next}");
        }
    }

    /// Returns the cases that are not at rest, with the reason: what is open waits for a person,
    /// who is dead has such an incident, and nobody has two processes.
    async fn restless(&self) -> Result<Vec<(usize, String)>, String> {
        let open = self.open().await?;
        let processes = processes();
        let mut found = Vec::new();
        for (idx, case) in self.cases.iter().enumerate() {
            let open = open.get(&case.name).map_or(&[][..], Vec::as_slice);
            let n = processes.get(&case.mark).map_or(0, Vec::len);
            assert!(n < 2, "{} has {n} processes: {:?}", case.name, case.ops);
            let ids: BTreeSet<&str> = open.iter().filter_map(|it| it["id"].as_str()).collect();
            let waits = |it: &&Value| {
                // A symptom waits with its cause.
                let cause = it["symptom_of"].as_str().is_some_and(|cause| ids.contains(cause));
                WAITS.iter().any(|status| it["status"] == **status)
                    || it["status"] == "merged" && cause
            };
            let works = open.iter().find(|it| !waits(it));
            if let Some(works) = works {
                found.push((idx, works.to_string()));
            } else if case.is_configured && n == 0 && open.is_empty() {
                found.push((idx, "it is dead, and has no incident".to_owned()));
            }
        }
        Ok(found)
    }

    /// Waits until these cases, or all, are at rest.
    async fn rest(&self, who: Option<&BTreeSet<usize>>) {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            ticks.tick().await;
            let restless = self.restless().await;
            let waited_for = |(idx, _): &&(usize, String)| who.is_none_or(|who| who.contains(idx));
            let last = match &restless {
                Ok(all) => match all.iter().find(waited_for) {
                    None => return,
                    Some((idx, why)) => {
                        let case = &self.cases[*idx];
                        let told = self.stack.decisions(&case.name);
                        format!("{} {:?}: {why}\n{told:?}", case.name, case.ops)
                    }
                },
                Err(error) => error.clone(),
            };
            assert!(begun.elapsed() < PATIENCE, "not at rest in time: {last}");
        }
    }

    /// Brings the configuration of all cases into force.
    async fn configure(&self) {
        let config = Self::config(&self.cases);
        let (status, answer) = self.stack.post("/api/v1/config", &config).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    /// Lets the `n`th thing happen to everybody who has one.
    async fn round(&mut self, n: usize) {
        let happens: BTreeMap<usize, (Op, bool)> = self
            .cases
            .iter()
            .enumerate()
            .filter_map(|(idx, case)| Some((idx, *case.ops.get(n)?)))
            .collect();
        let patient = happens.iter().filter(|(_, (_, rests))| *rests).map(|(idx, _)| *idx);
        self.rest(Some(&patient.collect())).await;
        for (idx, (op, _)) in &happens {
            let case = &mut self.cases[*idx];
            if *op == Op::ConfigChanges {
                case.n_changes += 1;
            } else if *op == Op::Removed {
                case.is_configured = !case.is_configured;
            }
        }
        self.configure().await;
        let open = self.open().await.unwrap();
        let processes = processes();
        let mut acts = Acts::default();
        for (idx, (op, _)) in happens {
            let case = &mut self.cases[idx];
            let open = open.get(&case.name).map_or(&[][..], Vec::as_slice);
            let pids = processes.get(&case.mark).map_or(&[][..], Vec::as_slice);
            acts.add(case, op, open, pids);
        }
        join_all(acts.events.iter().map(|event| self.publish(event))).await;
        let commands = acts.commands.iter().map(async |(id, verb)| {
            let path = format!("/api/v1/incidents/{id}/{verb}");
            // It may wait for something else by now: a refusal is an answer.
            let (status, answer) = self.stack.post(&path, &json!({})).await.unwrap();
            assert!(status == 200 || status == 409, "{path}: {status} {answer}");
        });
        join_all(commands).await;
    }

    /// Whatever waits for a person is diagnosed again when something new is reported.
    async fn reacts(&mut self) -> usize {
        let open = self.open().await.unwrap();
        let mut asked = BTreeMap::new();
        let mut news = Vec::new();
        for case in self.cases.iter_mut().filter(|it| it.is_configured) {
            let Some(waits) = open.get(&case.name).and_then(|it| it.first()) else { continue };
            case.fired.insert("service_down");
            let mut event = case.event("service_down", "firing");
            event["severity"] = json!("critical");
            event["payload"] = json!({"check": "never reported before"});
            asked.insert(case.name.clone(), waits["id"].clone());
            news.push(event);
        }
        let before = self.stack.log().len();
        join_all(news.iter().map(|event| self.publish(event))).await;
        let n = asked.len();
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        while !asked.is_empty() {
            ticks.tick().await;
            for line in &self.stack.log()[before..] {
                let reacted = ["rediagnosis_started", "recheck_started", "reopened", "opened"];
                if reacted.iter().any(|it| line["decision"] == **it) {
                    asked.remove(line["target"].as_str().unwrap_or_default());
                }
            }
            assert!(begun.elapsed() < PATIENCE, "deaf: {asked:?}");
        }
        n
    }
}

#[tokio::test]
async fn each_incident_ends_or_waits_for_a_person_and_reacts_to_news() {
    let dir = directory("sequences");
    let unique = std::process::id();
    let cases: Vec<Case> = (0..N_TARGETS).map(|idx| Case::new(idx, unique)).collect();
    let config = Trial::config(&cases).to_string();
    let stack = Stack::up(&dir, &config);
    let mut trial = Trial { stack, cases };
    trial.rest(None).await;
    for n in 0..usize::try_from(LENGTH_MAX).unwrap() {
        trial.round(n).await;
    }
    trial.rest(None).await;
    let n_waited = trial.reacts().await;
    assert!(20 < n_waited, "vacuous: {n_waited} waited");
    trial.rest(None).await;

    // Everybody is configured and healthy again, and every sender says so.
    for case in &mut trial.cases {
        case.is_configured = true;
    }
    trial.configure().await;
    trial.rest(None).await;
    let running = processes();
    for case in trial.cases.iter().filter(|it| !running.contains_key(&it.mark)) {
        case.start_by_hand();
    }
    let mut over = Vec::new();
    for case in &mut trial.cases {
        for kind in std::mem::take(&mut case.fired) {
            over.push(case.event(kind, "resolved"));
        }
    }
    join_all(over.iter().map(|event| trial.publish(event))).await;
    trial.stack.until_quiet().await;
    trial.rest(None).await;
    assert_eq!(
        processes().keys().filter(|it| it.starts_with(&format!("{}.", 1_000_000 + unique))).count(),
        N_TARGETS
    );
    assert_eq!(trial.stack.stop(), 0);
}
