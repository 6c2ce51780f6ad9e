//! The core, driven as the shell drives it, with a ledger in memory.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    config,
    event::{Event, EventType, Status},
    matcher::Matchers,
    silence::SilenceRequest,
    wire::{
        AnalysisReport, Command, Envelope, Hypothesis, Input, InputKind, NoticeReport, TimerFired,
        Verb, VerificationReport, WorkKind, cause,
    },
};

use super::*;

/// A ledger in memory, and the core that leads.
struct Model {
    core: Core,
    ledger: Vec<Bytes>,
    lines: Vec<u8>,
    /// What was wished for beside the appends.
    looks: Vec<Wish>,
    n_inbox: u64,
}

fn subjects() -> Subjects {
    Subjects::new("selfheal")
}

fn at(seq: u64) -> DateTime<Utc> {
    let start = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
    start + TimeDelta::milliseconds(i64::try_from(seq).unwrap())
}

fn event(id: &str, target: &str) -> Envelope {
    let mut event = Event::new(id, EventType::known("service_down"), "test");
    event.target = Some(target.to_owned());
    let mut envelope = Envelope::new(id, Input::Event(event));
    envelope.reply_to = Some(format!("reply.{id}"));
    envelope
}

fn configure() -> Envelope {
    let text = "targets: [{name: shop, checks: [{tcp: \"127.0.0.1:1\"}]}]\n";
    let config = Box::new(config::parse(text).unwrap());
    let command = Command::new("test", Verb::Configure { config, text: None, parts: Vec::new() });
    Envelope::new("configure", Input::Command(command))
}

impl Model {
    fn new() -> Self {
        let core = Core::new(subjects());
        Self { core, ledger: Vec::new(), lines: Vec::new(), looks: Vec::new(), n_inbox: 0 }
    }

    fn frame(&mut self, envelopes: &[Envelope]) -> InboxMessage {
        self.n_inbox += 1;
        let kind = envelopes.first().map_or(InputKind::Event, |it| it.input.kind());
        InboxMessage {
            seq: self.n_inbox,
            at: at(self.n_inbox),
            subject: subjects().frame(kind),
            headers: Vec::new(),
            payload: serde_json::to_vec(envelopes).unwrap().into(),
        }
    }

    fn offer(&mut self, envelopes: &[Envelope]) {
        let message = self.frame(envelopes);
        self.core.offer(&message);
    }

    fn append(&mut self, mut batch: Batch) -> Consequences {
        self.looks.append(&mut batch.looks);
        let seq = batch.append.clone().map(|payload| {
            assert_eq!(batch.expected_last, u64::try_from(self.ledger.len()).unwrap());
            self.ledger.push(payload);
            batch.expected_last + 1
        });
        let stored = self.core.stored(batch, seq).unwrap();
        self.lines.extend_from_slice(&stored.lines.text_from(0));
        stored
    }

    /// Decides and stores all that waits.
    fn settle(&mut self) -> Vec<Consequences> {
        let mut all = Vec::new();
        loop {
            self.core.decide().unwrap();
            let Some(batch) = self.core.seal(7).unwrap() else { return all };
            all.push(self.append(batch));
        }
    }

    /// Folds the ledger from the start; returns the core and the lines.
    fn folded(&self) -> (Core, Vec<u8>) {
        let mut core = Core::new(subjects());
        let mut text = Vec::new();
        for (payload, seq) in self.ledger.iter().zip(1..) {
            let lines = core.fold(seq, payload, 0).unwrap();
            text.extend_from_slice(&lines.text_from(0));
        }
        (core, text)
    }
}

#[test]
fn a_batch_goes_behind_what_somebody_else_has_put_in_its_place() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    model.settle();
    model.offer(&[event("a", "shop")]);
    model.core.decide().unwrap();
    let mut batch = model.core.seal(7).unwrap().unwrap();
    model.offer(&[event("b", "other")]);
    model.core.decide().unwrap();
    assert!(model.core.make_way(&mut batch, 1, 10).is_err(), "that place is another's");
    let foreign = Bytes::from_static(b"{\"stream\":\"SELFHEAL_INBOX\",\"seq\":1}");
    for seq in [2, 3] {
        model.core.make_way(&mut batch, seq, foreign.len()).unwrap();
        model.ledger.push(foreign.clone());
    }
    let stored = model.append(batch);
    assert_eq!(stored.answers.len(), 1);
    model.settle();
    assert!(model.core.is_settled());
    assert_eq!((model.core.n_foreign(), model.core.ledger_seq()), (2, 5));
    let (mut standby, mut text) = (Core::new(subjects()), Vec::new());
    for (payload, seq) in model.ledger.iter().zip(1..) {
        if *payload == foreign {
            standby.pass_over(seq, payload.len());
            continue;
        }
        text.extend_from_slice(&standby.fold(seq, payload, 0).unwrap().text_from(0));
    }
    assert_eq!(String::from_utf8(text), String::from_utf8(model.lines));
}

#[test]
fn a_standby_that_folds_has_the_leaders_state_and_its_log_to_the_byte() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    model.settle();
    for n in 0..20 {
        model.offer(&[event(&format!("a{n}"), "shop"), event(&format!("b{n}"), &format!("x{n}"))]);
        if n % 3 == 0 {
            model.settle();
        }
    }
    let stored = model.settle();
    assert!(stored.iter().all(|it| it.faults.is_empty()));
    let (folded, lines) = model.folded();
    assert_eq!(folded.desk(), model.core.desk());
    assert_eq!(folded.n_stored(), model.core.n_stored());
    assert_eq!(folded.covered(), model.core.covered());
    assert_eq!(folded.ledger_seq(), model.core.ledger_seq());
    assert!(lines == model.lines, "the logs differ");
    for (line, seq) in lines.split(|it| *it == b'\n').filter(|it| !it.is_empty()).zip(1_u64..) {
        let line: domain::view::LogLine = serde_json::from_slice(line).unwrap();
        assert_eq!(line.seq, seq);
    }
}

#[test]
fn what_is_on_disk_is_folded_without_lines() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    model.offer(&[event("a", "shop"), event("b", "other")]);
    model.settle();
    let n = model.core.n_stored();
    for (from, wanted) in [(0, n), (n, 1), (n + 1, 0), (n + ENTRY_DECISIONS_MAX * 2, 0)] {
        let mut core = Core::new(subjects());
        let folded: Vec<_> = model
            .ledger
            .iter()
            .zip(1..)
            .map(|(it, seq)| core.fold(seq, it, from).unwrap())
            .collect();
        let n_lines: usize = folded.iter().map(Lines::len).sum();
        assert_eq!(u64::try_from(n_lines).unwrap(), wanted, "from {from}");
        assert_eq!(core.desk(), model.core.desk());
    }
}

#[test]
fn what_was_decided_ahead_and_not_stored_is_decided_again_the_same_way() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    model.settle();
    let message = model.frame(&[event("a", "shop"), event("b", "other")]);
    model.core.offer(&message);
    model.core.decide().unwrap();
    assert!(!model.core.is_settled());
    assert!(model.core.republish().is_empty(), "nothing that is not stored is wished for");
    let lost = model.core.seal(7).unwrap().unwrap();

    // Another one leads meanwhile and decides the same.
    let (mut other, _) = model.folded();
    assert_eq!(other.read_after(), 0);
    other.offer(&message);
    other.decide().unwrap();
    let batch = other.seal(7).unwrap().unwrap();
    assert_eq!(batch.append, lost.append);
    assert_eq!(batch.n_inputs(), 2);
    // The first one has asked for looks at what it could not store: they are the same.
    assert!(!batch.looks.is_empty());
    assert_eq!(batch.looks, lost.looks);
    let stored = other.stored(batch, Some(2)).unwrap();
    assert_eq!(stored.answers.len(), 2);
    assert!(other.is_settled());
    assert!(!other.republish().is_empty());

    let mut first = model.core;
    first.reset(Desk::default(), 0);
    assert_eq!((first.n_stored(), first.ledger_seq(), first.is_settled()), (0, 0, true));
}

#[test]
fn a_repeated_event_wishes_for_nothing_new() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    model.offer(&[event("a", "shop")]);
    assert!(model.settle().iter().all(|it| it.wishes.is_empty()));
    let looks = std::mem::take(&mut model.looks);
    assert_eq!(looks.iter().map(Wish::kind).collect::<Vec<_>>(), [WorkKind::Diagnose]);
    model.offer(&[event("b", "shop")]);
    let again = model.settle();
    assert!(again.iter().any(|it| !it.lines.is_empty()), "it was recorded");
    assert!(again.iter().all(|it| it.wishes.is_empty()) && model.looks.is_empty());
}

#[test]
fn an_append_that_is_stored_elsewhere_is_not_used() {
    let mut model = Model::new();
    model.offer(&[event("a", "shop")]);
    model.core.decide().unwrap();
    let batch = model.core.seal(7).unwrap().unwrap();
    assert!(matches!(
        model.core.stored(batch, Some(3)),
        Err(Error::Misplaced { wanted: 1, got: 3 })
    ));
}

#[test]
fn an_input_that_is_too_large_is_rejected_alone_and_its_neighbours_are_not() {
    let mut model = Model::new();
    model.offer(&[event("a", "x"), event("b", "y"), event("c", "z")]);
    let message = model.frame(&[event("d", "v")]);
    let inbox = [
        InboxMessage {
            seq: 1,
            ..model_message(&[event("a", "x"), event("b", "y"), event("c", "z")])
        },
        message,
    ];
    let is_too_large = |batch: &Batch| {
        let text = String::from_utf8(batch.append.clone().unwrap_or_default().to_vec()).unwrap();
        text.contains("\"id\":\"b\"")
    };
    let mut ledger = 0;
    let (mut opened, mut rejected, mut n_reigns) = (0, Vec::new(), 0);
    let mut payloads: Vec<Bytes> = Vec::new();
    'reigns: loop {
        n_reigns += 1;
        assert!(n_reigns < 5, "it ends");
        model.core.reset(Desk::default(), 0);
        for (payload, seq) in payloads.iter().zip(1..) {
            model.core.fold(seq, payload, u64::MAX).unwrap();
        }
        for message in &inbox {
            model.core.offer(message);
        }
        loop {
            model.core.decide().unwrap();
            let Some(batch) = model.core.seal(1).unwrap() else { break 'reigns };
            if is_too_large(&batch) {
                model.core.too_large(&batch);
                continue 'reigns;
            }
            let seq = batch.append.clone().map(|payload| {
                payloads.push(payload);
                ledger += 1;
                ledger
            });
            let stored = model.core.stored(batch, seq).unwrap();
            opened += stored.answers.len();
            rejected.extend(stored.rejections);
        }
    }
    assert_eq!((opened, n_reigns), (3, 3), "once all together, once alone, once without it");
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].0, Position::new(1, 1));
    let raw: Envelope = serde_json::from_slice(&rejected[0].1.raw).unwrap();
    let Input::Event(mut kept) = raw.input else { panic!("it is an event") };
    // Who sent it is no part of what was sent.
    kept.origin = None;
    assert_eq!(Input::Event(kept), event("b", "y").input, "it is kept whole");

    // Whoever folds the ledger never meets it again, and the log has a line about it.
    let mut fresh = Core::new(subjects());
    let mut lines = String::new();
    for (payload, seq) in payloads.iter().zip(1..) {
        let folded = fresh.fold(seq, payload, 0).unwrap();
        lines += std::str::from_utf8(&folded.text_from(0)).unwrap();
    }
    assert!(Position::new(1, 1) < fresh.covered(), "{}", fresh.covered());
    assert_eq!(lines.matches("\"decision\":\"input_rejected\"").count(), 1);
}

/// A follower that folds by older rules than its leader must not go on with another state.
#[test]
fn what_was_written_by_newer_rules_is_refused_whatever_it_holds() {
    let mut model = Model::new();
    model.offer(&[event("a", "x")]);
    model.settle();
    let entry: serde_json::Value = serde_json::from_slice(&model.ledger[0]).unwrap();
    assert_eq!(entry["fold"], FOLD);
    let newer = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut entry = entry.clone();
        entry["fold"] = (FOLD + 1).into();
        change(&mut entry);
        entry.to_string().into_bytes()
    };
    let same = newer(&|_| {});
    let unknown = newer(&|it| it["decisions"][0]["fact"] = serde_json::json!({"kind": "danced"}));
    for payload in [same, unknown] {
        // With lines for the log, and the quick way without.
        for lines_from in [0, u64::MAX] {
            let refused = Core::new(subjects()).fold(1, &payload, lines_from).unwrap_err();
            assert!(matches!(refused, Error::Newer { seq: 1, .. }), "{refused}");
        }
    }
    let mut older = entry;
    older.as_object_mut().unwrap().remove("fold");
    Core::new(subjects()).fold(1, older.to_string().as_bytes(), 0).unwrap();
}

fn model_message(envelopes: &[Envelope]) -> InboxMessage {
    Model::new().frame(envelopes)
}

#[test]
fn inputs_without_a_decision_are_covered_after_a_while() {
    let mut model = Model::new();
    let mut n_appends = 0;
    for n in 0..1500 {
        let mut over = Event::new(format!("{n}"), EventType::known("service_down"), "test");
        over.status = Status::Resolved;
        model.offer(&[Envelope::new("over", Input::Event(over))]);
        model.core.decide().unwrap();
        let batch = model.core.seal(1).unwrap().unwrap();
        n_appends += usize::from(batch.append.is_some());
        model.append(batch);
    }
    assert_eq!(n_appends, 1);
    assert_eq!(model.core.inbox_forgettable(), None);
    model.offer(&[event("a", "x")]);
    model.settle();
    assert_eq!(model.core.inbox_forgettable(), Some(501));
}

#[test]
fn what_cannot_be_read_is_in_the_ledger_and_is_not_read_again() {
    let mut model = Model::new();
    for n in 0..3 {
        let mut message = model.frame(&[]);
        message.payload = Bytes::from(format!("none of ours {n}"));
        model.core.offer(&message);
    }
    let stored = model.settle();
    assert_eq!(stored.iter().map(|it| it.rejections.len()).sum::<usize>(), 3);
    assert_eq!(model.core.n_rejected(), 3);
    let (folded, lines) = model.folded();
    assert_eq!(folded.covered(), Position::new(3, 0));
    let text = String::from_utf8(lines).unwrap();
    assert_eq!(text.matches("\"decision\":\"input_rejected\"").count(), 3);
}

#[test]
fn the_end_of_a_silence_over_hundreds_of_events_is_decided_in_batches_that_the_ledger_takes() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    let until = at(2_000);
    let matchers = Matchers(vec!["type=service_down".parse().unwrap()]);
    let comment = "moving".to_owned();
    let request = SilenceRequest { matchers, from: None, until, comment };
    let silence = Command::new("test", Verb::Silence { request });
    model.offer(&[Envelope::new("silence", Input::Command(silence))]);
    let large = |id: &str, target: &str| {
        let mut envelope = event(id, target);
        if let Input::Event(event) = &mut envelope.input {
            event.payload = serde_json::json!({"log": "x".repeat(12_000)});
        }
        envelope
    };
    for n in 0..300 {
        model.offer(&[large(&format!("a{n}"), &format!("host-{n}"))]);
        model.settle();
    }
    assert_eq!(model.core.desk().open_incidents().count(), 0);
    // More arrives meanwhile, and comes into the same batches.
    let mut wheel = Wheel::default();
    let mut n_rounds = 0;
    while model.core.desk().silences().n_suppressed > 0 {
        n_rounds += 1;
        assert!(n_rounds < 20, "it ends");
        for n in 0..10 {
            model.offer(&[large(&format!("b{n_rounds}-{n}"), &format!("other-{n}"))]);
        }
        let now = until.max(at(model.n_inbox + 1));
        let due = wheel.due(model.core.desk().deadlines(), now);
        assert!(!due.is_empty(), "the next portion is told at once");
        let mut message = model.frame(&due);
        message.at = now;
        model.core.offer(&message);
        model.settle();
        model.n_inbox += 2_000;
    }
    assert_eq!(model.core.desk().open_incidents().count(), 310);
    let largest = model.ledger.iter().map(Bytes::len).max().unwrap();
    assert!(largest <= bus::topology::LEDGER_BYTES_MAX, "{largest}");
}

#[test]
fn a_core_that_begins_with_a_snapshot_goes_on_as_one_that_has_folded_all() {
    let mut model = Model::new();
    model.offer(&[configure()]);
    for n in 0..10 {
        model.offer(&[event(&format!("a{n}"), "shop"), event(&format!("b{n}"), &format!("x{n}"))]);
        model.settle();
    }
    assert!(model.core.snapshot().is_none(), "none is due yet");
    let seq = model.core.ledger_seq() + 1;
    model.core.snapshots_mut().grown(seq, 64 * 1024 * 1024);
    let (seq, snapshot) = model.core.snapshot().unwrap();
    assert!(model.core.snapshot().is_none(), "one at a time");
    let lines: Vec<_> = snapshot.map(|it| it.unwrap()).collect();
    for n in 10..20 {
        model.offer(&[event(&format!("a{n}"), "shop"), event(&format!("c{n}"), "y")]);
        model.settle();
    }
    let desk = Desk::from_snapshot(&lines).unwrap();
    let mut resumed = Core::resume(subjects(), desk.clone(), seq);
    let behind = usize::try_from(seq).unwrap();
    let mut text = Vec::new();
    for (payload, seq) in model.ledger.iter().zip(1..).skip(behind) {
        text.extend_from_slice(&resumed.fold(seq, payload, 0).unwrap().text_from(0));
    }
    assert_eq!(resumed.desk(), model.core.desk());
    assert_eq!(resumed.ledger_seq(), model.core.ledger_seq());
    assert!(model.lines.ends_with(&text) && !text.is_empty());

    // A ledger that does not go on where the snapshot ends is of another history.
    let mut other = Core::resume(subjects(), desk, seq);
    let payload = model.ledger.last().unwrap();
    assert!(matches!(other.fold(seq + 1, payload, 0), Err(Error::Differ { .. })));
}

fn wanted(all: &[Consequences]) -> Vec<String> {
    let wishes = all.iter().flat_map(|it| &it.wishes);
    wishes.filter_map(|it| it.notice().map(str::to_owned)).collect()
}

#[test]
fn a_notice_is_wanted_once_and_again_when_its_next_try_is_due() {
    let mut model = Model::new();
    let text = "targets: [{name: shop, checks: [{tcp: \"127.0.0.1:1\"}]}]
notify: {receivers: [{name: a, log: true}, {name: b, log: true}]}";
    let config = Box::new(config::parse(text).unwrap());
    let command = Command::new("test", Verb::Configure { config, text: None, parts: Vec::new() });
    model.offer(&[Envelope::new("configure", Input::Command(command))]);
    model.settle();
    model.offer(&[event("1", "nobody knows it")]);
    let first = wanted(&model.settle());
    assert_eq!(first.len(), 2, "{first:?}");
    model.offer(&[event("2", "nobody knows it")]);
    assert_eq!(wanted(&model.settle()), [""; 0], "they are wanted already");
    let incident = model.core.desk().open_incidents().next().unwrap();
    let (id, work) = (incident.id, incident.work());
    let report = NoticeReport {
        work,
        notice: first[0].clone(),
        by: "gateway-1".to_owned(),
        outcome: Err("503".to_owned()),
        again: true,
        keep: None,
    };
    model.offer(&[Envelope::new("report", Input::Notice(report))]);
    assert_eq!(wanted(&model.settle()), [""; 0], "not yet");
    let due = model.core.desk().deadlines().next().unwrap().0;
    let timer = Input::Timer(TimerFired::of(id, due));
    let mut message = model.frame(&[Envelope::new("timer", timer)]);
    message.at = due;
    model.core.offer(&message);
    assert_eq!(wanted(&model.settle()), [format!("{}-t2", first[0])]);
}

/// Whether a target is healthy has one answer for all its incidents; the next measurement is
/// wanted when the one before has ended, although nothing is decided about its incident then.
#[test]
fn the_next_measurement_of_a_target_is_published_when_the_former_has_ended() {
    let measured = |all: &[Consequences]| -> Vec<String> {
        let wishes = all.iter().flat_map(|it| &it.wishes);
        wishes.filter(|it| it.kind() == WorkKind::Verify).map(|it| it.id().to_owned()).collect()
    };
    let healthy = |work| {
        let hypothesis = Hypothesis {
            cause: cause::HEALTHY.to_owned(),
            confidence_percent: 90,
            summary: "all checks pass".to_owned(),
            because: vec!["all checks pass".to_owned()],
            elsewhere: None,
            runbook: None,
            target: None,
        };
        let (by, hypotheses) = ("analyzer".to_owned(), vec![hypothesis]);
        let report = AnalysisReport { work, by, hypotheses, evidence: Vec::new(), took_ms: 1 };
        Envelope::new(format!("{work:?}"), Input::Analysis(report))
    };
    let mut model = Model::new();
    model.offer(&[configure()]);
    for source in ["test", "selfheal/monitor"] {
        let mut opened = event(source, "shop");
        if let Input::Event(event) = &mut opened.input {
            event.source = source.to_owned();
            event.fingerprint = Some("own".to_owned());
        }
        let mut message = model.frame(&[opened]);
        if source != "test" {
            message.subject = subjects().agent_events();
        }
        model.core.offer(&message);
        model.settle();
        let newest = model
            .core
            .desk()
            .open_incidents()
            .map(domain::incident::Incident::work)
            .max_by_key(|it| it.incident);
        model.offer(&[healthy(newest.unwrap())]);
        let wanted = measured(&model.settle());
        assert_eq!(wanted.len(), usize::from(source == "test"), "{wanted:?}");
    }
    let works: Vec<_> =
        model.core.desk().open_incidents().map(domain::incident::Incident::work).collect();
    let report = VerificationReport {
        work: works[0],
        by: "monitor".to_owned(),
        passed: true,
        summary: "healthy".to_owned(),
        samples_from: model.core.desk().incident(works[0].incident).unwrap().entered_at,
        n_samples: 3,
        checks: Vec::new(),
        broken_neighbours: Vec::new(),
    };
    model.offer(&[Envelope::new("verified", Input::Verification(report))]);
    assert_eq!(measured(&model.settle()), [works[1].wish_id(WorkKind::Verify)]);
}
