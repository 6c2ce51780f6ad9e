//! Real messages to begin with: what a desk says while it heals something.

use std::{collections::BTreeMap, sync::OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    catalogue::{Case, Catalogue},
    config::Config,
    desk::{Desk, FOLD},
    event::{Event, EventType, Severity},
    fact::Decision,
    id::Position,
    view::{Filter, LogLine},
    wire::{
        AnalysisReport, CheckResult, Command, DiagnoseWork, Envelope, Evidence, FixOrder,
        FixOutcome, FixReport, Hypothesis, Input, LedgerEntry, NoticeReport, NotifyWork, SCHEMA,
        StepReport, TimerFired, Verb, VerificationReport, VerifyWork, WorkKind,
    },
};
use serde::Serialize;
use serde_json::json;

/// The configuration of the story, with a little of everything.
pub const CONFIG: &str = r#"
targets:
  - name: database
    zone: default
    process: {command: [demo-store, --listen, "127.0.0.1:6390"], pid_file: data/run/db.pid, stop_timeout: 5s}
    checks: [{tcp: "127.0.0.1:6390", every: 1s, fail_after: 3}]
    labels: {tier: gold}
  - name: shop
    docker: {container: shop}
    depends_on: [database]
    select: [{app: shop}]
    checks: [{http: "http://127.0.0.1:8081/health", every: 500ms, timeout: 2s}, {cpu: true, above: 95}]
    soak: 1s
policy:
  autonomy: auto
  budget: {per_target: 30/h, fleet: "30/h", blast_radius: {percent: 50, count: 5}}
  cooldown: {per_target: 0s}
  storm: {percent: 100, count: 100}
  freeze: [{from: 2030-01-01T00:00:00Z, until: 2030-01-02T00:00:00Z, reason: the sale}]
  notify: [{webhook: "https://example.org/hook"}, {log: true}]
  runbooks: {restart-process: {autonomy: auto, budget: 9/h}}
runbooks:
  - name: mine
    title: Restart it twice
    when: {causes: [process_exited], handle: process}
    risk: low
    steps: [{action: process.restart, timeout: 30s}]
    verify: {soak: 2s}
integrations:
  - {name: grafana, secret: {hmac: {secret: {env: GRAFANA}, timestamp_header: X-Time}}}
  - name: own
    secret: {query: {name: token, value: {file: /run/secrets/own}}}
    mapping: {each: body.list, type: "{{ item.kind }}", labels: {a: "{{ query.b }}"}, labels_from: [item.tags]}
"#;

/// What was said, by whom, in order.
#[derive(Debug, Default)]
pub struct Story {
    /// The configuration.
    pub config: Config,
    /// Inputs, one at each position from 1 on.
    pub inputs: Vec<Envelope>,
    /// Messages of the ledger.
    pub entries: Vec<LedgerEntry>,
    /// Lines of the log.
    pub lines: Vec<LogLine>,
    /// Payloads of the work that was wanted, by kind.
    pub work: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// Documents of the views.
    pub views: Vec<Vec<u8>>,
    /// Snapshots of the desk, after some of the inputs.
    pub snapshots: Vec<Vec<u8>>,
}

/// Returns the broker's time of the input at a position.
#[must_use]
pub fn time_of(seq: u64) -> DateTime<Utc> {
    let since = TimeDelta::milliseconds(i64::try_from(seq).unwrap_or(0).saturating_mul(1_500));
    DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default() + since
}

/// Returns the story; it is always the same.
#[must_use]
pub fn story() -> &'static Story {
    static STORY: OnceLock<Story> = OnceLock::new();
    STORY.get_or_init(tell)
}

/// Writes a value as JSON.
///
/// # Panics
///
/// When it cannot be written, which is a mistake in any case.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// What the tests of the engine begin with.
#[must_use]
pub fn broken() -> Vec<Vec<u8>> {
    vec![br#"{"version": "2.15.1", "ms": 1500, "name": "x"}"#.to_vec(), b"a: &b 1\n".to_vec()]
}

fn event(kind: &str, target: &str) -> Event {
    let mut event =
        Event::new(format!("{kind}-{target}"), kind.parse::<EventType>().unwrap(), "monitor");
    event.target = Some(target.to_owned());
    event.severity = Severity::Critical;
    event.payload = json!({"pid": 7, "exit_code": 137, "share": 0.25, "list": [1, -2, null, "x"]});
    event.labels.insert("app".to_owned(), target.to_owned());
    event
}

fn tell() -> Story {
    let config = domain::config::parse(CONFIG).unwrap();
    let mut teller = Teller {
        story: Story { config: config.clone(), ..Story::default() },
        desk: Desk::default(),
    };
    let command = |verb| Input::Command(Command::new("me", verb));
    teller.say(command(Verb::configure(config)));
    teller.say(Input::Event(event("service_down", "database")));
    teller.say(Input::Event(event("service_down", "shop")));
    teller.say(Input::Event(event("service_down", "database")));
    teller.say(Input::Event(event("disk.full", "nobody-knows")));
    for _ in 0..12 {
        teller.answer_all();
    }
    let incident = teller.desk.open_incidents().next().map(|it| it.id);
    if let Some(incident) = incident {
        teller.say(command(Verb::Acknowledge { incident }));
        teller.say(command(Verb::Retry { incident }));
        teller.say(Input::Timer(TimerFired::of(incident, time_of(9))));
        teller.say(command(Verb::Approve { incident, plan_hash: "0".repeat(64) }));
        teller.say(command(Verb::Reject { incident, reason: "no".to_owned() }));
        teller.say(command(Verb::Close { incident, reason: "done".to_owned() }));
    }
    teller.say(command(Verb::Pause { reason: "a sale".to_owned() }));
    teller.say(Input::Event(event("oom", "shop")));
    teller.answer_all();
    teller.say(command(Verb::Resume));
    teller.answer_all();
    teller.story
}

struct Teller {
    story: Story,
    desk: Desk,
}

impl Teller {
    fn say(&mut self, input: Input) {
        let seq = u64::try_from(self.story.inputs.len() + 1).unwrap();
        let position = Position::new(seq, 0);
        let handled = self.desk.receive(&input, position, time_of(seq));
        let mut envelope = Envelope::new(format!("id-{seq}"), input);
        envelope.reply_to = Some("_INBOX_gateway.1".to_owned());
        self.story.inputs.push(envelope);
        let entry = u64::try_from(self.story.entries.len() + 1).unwrap();
        let lines = handled.recorded.iter().map(|it| it.line(entry, position));
        self.story.lines.extend(lines);
        let decisions: Vec<Decision> = handled.recorded.into_iter().map(|it| it.decision).collect();
        self.story.entries.push(LedgerEntry {
            v: SCHEMA,
            epoch: 7,
            covers: position,
            decisions,
            fold: FOLD,
        });
        if seq.is_multiple_of(6) {
            let lines: Vec<Vec<u8>> = self.desk.snapshot().map(Result::unwrap).collect();
            self.story.snapshots.push(lines.join(&b'\n'));
            self.story.views.push(bytes(&self.desk.page(&Filter::default())));
            self.story.views.push(bytes(&self.desk.system()));
            let open = self.desk.open_incidents().next().and_then(|it| self.desk.detail(it.id));
            self.story.views.extend(open.map(|it| bytes(&it)));
        }
    }

    fn answer_all(&mut self) {
        for wish in self.desk.pending() {
            let payload = wish.payload().unwrap();
            let answer = answer(wish.kind(), &payload, &self.story.config);
            self.story.work.entry(wish.kind().as_str()).or_default().push(payload);
            self.say(answer);
        }
    }
}

/// Does what is wanted: diagnoses, mends, verifies, notifies.
fn answer(kind: WorkKind, payload: &[u8], config: &Config) -> Input {
    let by = "hand-1".to_owned();
    let checks = vec![CheckResult {
        check: "tcp".to_owned(),
        ok: true,
        detail: "connected".to_owned(),
        took_ms: 3,
    }];
    match kind {
        WorkKind::Diagnose => Input::Analysis(diagnosis(payload, config)),
        WorkKind::Fix => {
            let order: FixOrder = serde_json::from_slice(payload).unwrap();
            Input::Fix(FixReport {
                work: order.work,
                mode: order.mode,
                by,
                outcome: FixOutcome::Succeeded,
                steps: vec![StepReport {
                    name: "restart".to_owned(),
                    action: "process.restart database".to_owned(),
                    ok: true,
                    summary: "started".to_owned(),
                    output: "listening\n".to_owned(),
                    took_ms: 20,
                }],
                undone: false,
                took_ms: 21,
            })
        }
        WorkKind::Verify => {
            let work: VerifyWork = serde_json::from_slice(payload).unwrap();
            Input::Verification(VerificationReport {
                work: work.work,
                by,
                passed: true,
                summary: "well for 3s".to_owned(),
                samples_from: work.since,
                n_samples: 9,
                checks,
                broken_neighbours: Vec::new(),
            })
        }
        WorkKind::Notify => {
            let work: NotifyWork = serde_json::from_slice(payload).unwrap();
            Input::Notice(NoticeReport {
                work: work.work,
                notice: work.notice,
                by,
                outcome: Ok("200".to_owned()),
                again: false,
                keep: None,
            })
        }
    }
}

/// Finds that the process has ended, and the first runbook that fits.
fn diagnosis(payload: &[u8], config: &Config) -> AnalysisReport {
    let by = "hand-1".to_owned();
    let work: DiagnoseWork = serde_json::from_slice(payload).unwrap();
    let catalogue = Catalogue::with(&config.runbooks);
    let runbook = work.target.as_ref().and_then(|target| {
        let case = Case {
            cause: "process_exited",
            event: &work.event.kind,
            source: work.event.whose(),
            target,
            tried: &work.attempts,
            soak: work.soak,
            within: work.within,
        };
        catalogue.choose(&case).ok().map(|it| it.name.clone())
    });
    let target = work.target.map(|it| it.name);
    AnalysisReport {
        work: work.work,
        by,
        hypotheses: vec![Hypothesis {
            cause: "process_exited".to_owned(),
            confidence_percent: 90,
            summary: "it has ended".to_owned(),
            because: vec!["its exit code is 137".to_owned()],
            elsewhere: None,
            runbook,
            target,
        }],
        evidence: vec![Evidence {
            source: "process".to_owned(),
            target: Some("database".to_owned()),
            summary: "not running".to_owned(),
            detail: json!({"exit_code": 137}),
        }],
        took_ms: 12,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_story_holds_every_kind_of_input_and_of_work() {
        let story = story();
        let kinds: BTreeSet<_> = story.inputs.iter().map(|it| it.input.kind().as_str()).collect();
        assert_eq!(kinds.len(), 7, "{kinds:?}");
        assert_eq!(story.work.len(), 4, "{:?}", story.work.keys());
        let decisions: BTreeSet<_> = story.lines.iter().map(|it| it.decision.as_str()).collect();
        assert!(15 <= decisions.len(), "{decisions:?}");
        assert!(!story.snapshots.is_empty() && !story.views.is_empty());
    }
}
