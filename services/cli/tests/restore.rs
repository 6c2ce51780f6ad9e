//! The ledger rebuilt from the log, on a real broker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use bus::{Bus, LedgerItem, testing::Broker};
use chrono::{DateTime, Utc};
use domain::{
    desk::{ARCHIVE_DIR, ArchivedSnapshot, Desk, FOLD},
    event::{Event, EventType},
    id::Position,
    view::LogLine,
    wire::{Command, Envelope, Input, InputKind, LedgerEntry, SCHEMA, Verb},
};

/// What a supervisor has when its broker's disk is lost.
struct Past {
    desk: Desk,
    /// As it was after each message of the ledger.
    desks: Vec<Desk>,
    lines: Vec<LogLine>,
    entries: Vec<LedgerEntry>,
}

impl Past {
    /// Lives through pauses and events, the last at `at`.
    fn until(at: DateTime<Utc>) -> Self {
        let (mut desk, mut lines, mut entries) = (Desk::default(), Vec::new(), Vec::new());
        let mut desks = Vec::new();
        for seq in 1..=6_u64 {
            let at = at - Duration::from_secs(6 - seq);
            let position = Position::new(seq + 100, 0);
            let event = Event::new(seq.to_string(), EventType::known("service_down"), "test");
            let input = match seq % 3 {
                0 => Input::Command(Command::new("ann", Verb::Resume)),
                1 => {
                    Input::Command(Command::new("ann", Verb::Pause { reason: "storm".to_owned() }))
                }
                _ => Input::Event(Event { target: Some(format!("t{seq}")), ..event }),
            };
            let recorded = desk.receive(&input, position, at).recorded;
            assert!(!recorded.is_empty(), "every input of this past decides something");
            // Message 1 of that ledger held no decision.
            lines.extend(recorded.iter().map(|it| it.line(seq + 1, position)));
            let decisions = recorded.into_iter().map(|it| it.decision).collect();
            desks.push(desk.clone());
            entries.push(LedgerEntry {
                v: SCHEMA,
                epoch: 0,
                covers: position,
                decisions,
                fold: FOLD,
            });
        }
        Self { desk, desks, lines, entries }
    }

    /// Copies a snapshot behind the `n`th message beside the log.
    fn archive(&self, dir: &Path, n: usize) -> PathBuf {
        let desk = self.desks.get(n - 1).unwrap();
        let ledger_seq = u64::try_from(n).unwrap() + 1;
        let name = ArchivedSnapshot { n_decisions: desk.n_decisions(), ledger_seq };
        let path = dir.join(ARCHIVE_DIR).join(name.file_name());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: Vec<Vec<u8>> = desk.snapshot().map(Result::unwrap).collect();
        fs::write(&path, [lines.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();
        path
    }

    /// Writes the log without its first `n` decisions.
    fn write_without(&self, n: u64) -> PathBuf {
        let dir = self.write();
        let path = dir.join("incident_logs.jsonl");
        let kept = self.lines.iter().filter(|it| n < it.seq);
        let text: String = kept.map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        fs::write(path, text).unwrap();
        dir
    }

    fn write(&self) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("selfheal-restore-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&dir).unwrap();
        let text: String =
            self.lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        fs::write(dir.join("incident_logs.jsonl"), text).unwrap();
        dir
    }
}

async fn restore(broker: &Broker, dir: &Path, more: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_selfheal"))
        .args(["restore", "--nats-url", &broker.url(), "--data-dir"])
        .arg(dir)
        .args(more)
        .output()
        .await
        .unwrap()
}

/// Folds the ledger as a supervisor does.
async fn fold(bus: &Bus) -> (Desk, u64) {
    let mut desk = Desk::default();
    let mut reader = bus.ledger().read(0);
    let mut last = 0;
    while let LedgerItem::Message(message) = reader.next().await.unwrap() {
        let entry: LedgerEntry = serde_json::from_slice(&message.payload).unwrap();
        for decision in &entry.decisions {
            desk.apply(decision).unwrap();
        }
        desk.cover(entry.covers);
        last = message.seq;
    }
    (desk, last)
}

/// Begins with the snapshot on the broker and folds the ledger behind it, as a supervisor does.
async fn begin(bus: &Bus) -> (Desk, u64) {
    let seq = *bus.snapshots().newest_first().await.unwrap().first().unwrap();
    assert_eq!(bus.ledger().first_seq().await.unwrap(), seq + 1, "nothing is missing in between");
    let (mut parts, mut text) = (bus.snapshots().read(seq).await.unwrap(), Vec::new());
    while let Some(part) = parts.next().await.unwrap() {
        text.extend_from_slice(&part);
    }
    let lines = text.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    let mut desk = Desk::from_snapshot(lines).unwrap();
    let mut reader = bus.ledger().read(seq);
    while let LedgerItem::Message(message) = reader.next().await.unwrap() {
        let entry: LedgerEntry = serde_json::from_slice(&message.payload).unwrap();
        entry.decisions.iter().for_each(|it| drop(desk.apply(it).unwrap()));
        desk.cover(entry.covers);
    }
    (desk, seq)
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn submit(bus: &Bus, id: &str) -> u64 {
    let event = Event::new(id, EventType::known("service_down"), "test");
    let envelope = Envelope::new(id, Input::Event(event));
    bus.inbox_writer().submit(InputKind::Event, envelope).await.unwrap().position.seq
}

#[tokio::test]
async fn a_lost_ledger_is_rebuilt_and_a_new_inbox_is_read_from_its_beginning() {
    let broker = Broker::start().await;
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    let dir = past.write();
    assert_done(&restore(&broker, &dir, &[]).await);
    let bus = broker.connect().await.unwrap();
    let (desk, last) = fold(&bus).await;
    assert_eq!(desk.position(), Position::default(), "the new inbox counts from 1 again");
    assert_eq!(last, 8, "one empty message, six of the log, one about the inbox");
    let mut wanted = past.desk.clone();
    wanted.cover(desk.position());
    assert_eq!(desk, wanted);
}

#[tokio::test]
async fn what_arrived_before_the_restoration_is_decided_after_it() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    // Events that came while no supervisor ran on the new broker.
    for id in ["a", "b"] {
        submit(&bus, id).await;
    }
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    assert_done(&restore(&broker, &past.write(), &[]).await);
    assert_eq!(fold(&bus).await.0.position(), Position::default());
}

#[tokio::test]
async fn what_the_log_decided_of_this_inbox_is_not_decided_again() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let seq = submit(&bus, "old").await;
    let past = Past::until(Utc::now() + Duration::from_secs(60));
    assert_done(&restore(&broker, &past.write(), &[]).await);
    assert_eq!(fold(&bus).await.0.position(), Position::new(seq, u32::MAX));
}

#[tokio::test]
async fn a_ledger_that_is_not_empty_is_left_alone() {
    let broker = Broker::start().await;
    let past = Past::until(Utc::now());
    let dir = past.write();
    assert_done(&restore(&broker, &dir, &[]).await);
    let bus = broker.connect().await.unwrap();
    let (_, last) = fold(&bus).await;
    let again = restore(&broker, &dir, &[]).await;
    assert_eq!(again.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--append"));
    assert_eq!(fold(&bus).await.1, last);
}

#[tokio::test]
async fn a_ledger_that_lost_its_end_gets_it_back_and_a_foreign_one_is_refused() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    let mut last = 0;
    for entry in &past.entries[..2] {
        let payload = serde_json::to_vec(entry).unwrap().into();
        last = bus.ledger().append(last, payload, &[]).await.unwrap();
    }
    let foreign = Past::until(Utc::now());
    let refused = restore(&broker, &foreign.write(), &["--append"]).await;
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    let dir = past.write();
    assert_done(&restore(&broker, &dir, &["--append"]).await);
    let (desk, _) = fold(&bus).await;
    assert_eq!(desk.n_decisions(), past.desk.n_decisions());
    assert_done(&restore(&broker, &dir, &["--append"]).await);
    assert_eq!(fold(&bus).await.0.n_decisions(), past.desk.n_decisions(), "twice is once");
}

#[tokio::test]
async fn a_restoration_that_was_interrupted_at_its_end_is_completed() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    let mut last = 0;
    for entry in &past.entries {
        let payload = serde_json::to_vec(entry).unwrap().into();
        last = bus.ledger().append(last, payload, &[]).await.unwrap();
    }
    assert_ne!(fold(&bus).await.0.position(), Position::default());
    assert_done(&restore(&broker, &past.write(), &["--append"]).await);
    assert_eq!(fold(&bus).await.0.position(), Position::default());
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let broker = Broker::start().await;
    let past = Past::until(Utc::now());
    let output = restore(&broker, &past.write(), &["--dry-run", "--json"]).await;
    assert_done(&output);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["restored"], json["decisions"]);
    let bus = broker.bus().await.unwrap();
    assert_eq!(bus.ledger().last_seq().await.unwrap(), 0);
}

/// Goal: a log whose old parts are gone is enough. Method: two snapshots, of which the newer is
/// used, and no line before the older one.
#[tokio::test]
async fn a_snapshot_beside_the_log_stands_for_what_was_before_it() {
    let broker = Broker::start().await;
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    let dir = past.write_without(past.desks[1].n_decisions());
    past.archive(&dir, 2);
    past.archive(&dir, 4);
    assert_done(&restore(&broker, &dir, &["--dry-run"]).await);
    assert_done(&restore(&broker, &dir, &[]).await);
    let bus = broker.connect().await.unwrap();
    let (desk, seq) = begin(&bus).await;
    assert_eq!(seq, 5, "the message of the ledger that the newer snapshot stands behind");
    let mut wanted = past.desk.clone();
    wanted.cover(Position::default());
    assert_eq!(desk, wanted);
    // What the ledger loses at its end is added from the same log.
    let again = restore(&broker, &dir, &["--append"]).await;
    assert_done(&again);
    assert_eq!(begin(&bus).await.0, wanted, "twice is once");
}

#[tokio::test]
async fn a_restoration_from_a_snapshot_that_was_interrupted_goes_on() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    let dir = past.write_without(past.desks[1].n_decisions());
    past.archive(&dir, 3);
    // As far as the ledger's place, and its first message.
    bus.ledger().purge_to(4).await.unwrap();
    assert_done(&restore(&broker, &dir, &["--dry-run"]).await);
    let state = bus.ledger().state().await.unwrap();
    assert_eq!((state.last_seq, state.messages), (4, 0));
    assert_done(&restore(&broker, &dir, &[]).await);
    let mut wanted = past.desk.clone();
    wanted.cover(Position::default());
    assert_eq!(begin(&bus).await.0, wanted);
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_is_passed_over() {
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    for (n_gone, is_enough) in [(0, true), (1, true), (past.desks[1].n_decisions(), false)] {
        let broker = Broker::start().await;
        let dir = past.write_without(n_gone);
        let newer = past.archive(&dir, 4);
        let text = fs::read(&newer).unwrap();
        fs::write(&newer, &text[..text.len() / 2]).unwrap();
        if n_gone == 1 {
            past.archive(&dir, 1);
        }
        let output = restore(&broker, &dir, &[]).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("is not used"), "{told}");
        assert_eq!(output.status.code() == Some(0), is_enough, "{n_gone}: {told}");
        assert!(is_enough || told.contains("snapshots"), "{told}");
    }
}

/// Goal: no state of another installation comes in. Method: snapshots of a past with as many
/// decisions at the same places of the ledger, written a day earlier or later, with the lines
/// that they stand for, with some of them, and without.
#[tokio::test]
async fn a_snapshot_of_another_installation_is_passed_over_or_refused() {
    let now = Utc::now();
    let past = Past::until(now - Duration::from_secs(60));
    let day = Duration::from_secs(86_400);
    for foreign in [Past::until(now - day), Past::until(now + day)] {
        for (n_gone, is_enough) in [(0, true), (past.desks[1].n_decisions(), false)] {
            let broker = Broker::start().await;
            let dir = past.write_without(n_gone);
            let file = foreign.archive(&dir, 4);
            let output = restore(&broker, &dir, &[]).await;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code() == Some(0), is_enough, "{n_gone}: {told}");
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(told.contains(name) && told.contains("does not belong to this log"), "{told}");
            let bus = broker.bus().await.unwrap();
            assert!(bus.snapshots().newest_first().await.unwrap().is_empty());
            assert_eq!(bus.ledger().last_seq().await.unwrap() != 0, is_enough);
            // One that belongs to it is used all the same.
            past.archive(&dir, 3);
            let broker = Broker::start().await;
            assert_done(&restore(&broker, &dir, &[]).await);
            assert_eq!(begin(&broker.bus().await.unwrap()).await.1, 4);
        }
    }
    // The line at which it stands is gone with the closed file that it ended.
    let broker = Broker::start().await;
    let dir = past.write_without(past.desks[3].n_decisions());
    Past::until(now + day).archive(&dir, 4);
    let output = restore(&broker, &dir, &[]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() != Some(0) && told.contains("before that"), "{told}");
    past.archive(&dir, 4);
    assert_done(&restore(&broker, &dir, &[]).await);
}

/// Snapshots of older versions do not name the decision that they stand behind.
#[tokio::test]
async fn an_older_snapshot_is_known_by_its_incidents() {
    let now = Utc::now();
    let past = Past::until(now - Duration::from_secs(60));
    let foreign = Past::until(now - Duration::from_secs(120));
    let n_gone = past.desks[0].n_decisions();
    for (of, is_ours) in [(&past, true), (&foreign, false)] {
        let broker = Broker::start().await;
        let dir = past.write_without(n_gone);
        without_mark(&of.archive(&dir, 4));
        let output = restore(&broker, &dir, &[]).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code() == Some(0), is_ours, "{told}");
        assert!(is_ours || told.contains("as open"), "{told}");
    }
    // Behind it the log speaks of nothing that it holds, and before it of nothing at all.
    let broker = Broker::start().await;
    let dir = past.write_without(1);
    without_mark(&past.archive(&dir, 1));
    let output = restore(&broker, &dir, &[]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() != Some(0) && told.contains("nothing in the log tells"), "{told}");
}

/// Makes a snapshot one of an older version.
fn without_mark(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let (begin, rest) = text.split_once('\n').unwrap();
    let mut begin: serde_json::Value = serde_json::from_str(begin).unwrap();
    let known = begin.get_mut("begin").and_then(serde_json::Value::as_object_mut).unwrap();
    known.remove("last").unwrap();
    fs::write(path, format!("{begin}\n{rest}")).unwrap();
}

/// What a power cut leaves of the last line is left out, as a supervisor does, and told.
#[tokio::test]
async fn a_torn_end_of_the_log_is_left_out_and_told() {
    let past = Past::until(Utc::now() - Duration::from_secs(60));
    for tail in [vec![0; 512], b"{\"incident_id\":\"0".to_vec()] {
        let broker = Broker::start().await;
        let dir = past.write();
        let path = dir.join("incident_logs.jsonl");
        let text = [fs::read(&path).unwrap(), tail.clone()].concat();
        fs::write(&path, text).unwrap();
        let output = restore(&broker, &dir, &[]).await;
        assert_done(&output);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(&format!("its {} bytes are left out", tail.len())), "{told}");
        let bus = broker.connect().await.unwrap();
        assert_eq!(fold(&bus).await.0.n_decisions(), past.desk.n_decisions());
    }
}
