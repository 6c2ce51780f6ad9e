//! A supervisor with a real broker: what a start takes up, and a log that lacks lines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use bus::{Asked, Bus, testing::Broker};
use domain::{
    desk::{ARCHIVE_DIR, ArchivedSnapshot, Desk},
    event::{Event, EventType},
    view::{Filter, IncidentView, LogLine, Page, Query, Status, SystemView},
    wire::{Answer, Input},
};

/// Large events make a snapshot due soon.
const EVENT_BYTES: usize = 200 * 1024;
const WAIT: Duration = Duration::from_secs(60);

struct Supervisor {
    child: Child,
    dir: PathBuf,
}

impl Supervisor {
    fn start(broker: &Broker, dir: PathBuf) -> Self {
        Self::with(broker, dir, &[])
    }

    fn with(broker: &Broker, dir: PathBuf, more: &[&str]) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let stderr = File::create(dir.join("stderr")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_selfheal-supervisor"))
            .args(["--nats-url", &broker.url(), "--data-dir", "."])
            .args(more)
            .current_dir(&dir)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// Lines of the log, of all its files.
    fn log(&self) -> Vec<u64> {
        let of = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let mut closed: Vec<_> = std::fs::read_dir(&self.dir)
            .unwrap()
            .map(|it| it.unwrap().path())
            .filter(|it| it.extension().is_some_and(|it| it == "jsonl"))
            .collect();
        closed.sort();
        let text: String = closed.iter().map(|it| of(it)).collect();
        let lines = text.lines().filter_map(|it| serde_json::from_str::<LogLine>(it).ok());
        let mut seqs: Vec<_> = lines.map(|it| it.seq).collect();
        seqs.sort_unstable();
        seqs
    }
}

impl Supervisor {
    /// Snapshots beside the log.
    fn archived(&self) -> Vec<ArchivedSnapshot> {
        let Ok(files) = std::fs::read_dir(self.dir.join(ARCHIVE_DIR)) else { return Vec::new() };
        let names = files.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter_map(|it| ArchivedSnapshot::of_file_name(&it)).collect()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn eventually(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let started = std::time::Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        match look().await {
            Ok(()) => return,
            Err(seen) => assert!(started.elapsed() < WAIT, "not {what}: {seen}"),
        }
    }
}

/// Has so many large events decided, of as many sources as may open them.
async fn publish(bus: &Bus, from: u32, to: u32) {
    for n in from..to {
        publish_of(bus, &format!("test-{}", n / 50), n).await;
    }
}

/// Has a large event decided.
async fn publish_of(bus: &Bus, source: &str, n: u32) {
    let kind: EventType = format!("trouble_{n}").parse().unwrap();
    let mut event = Event::new(n.to_string(), kind, source);
    event.payload = serde_json::json!({"text": "x".repeat(EVENT_BYTES)});
    eventually("answered", async || {
        let (input, writer) = (Input::Event(event.clone()), bus.inbox_writer());
        let wait = Duration::from_secs(5);
        match bus.ask::<Answer>(&writer, input, n.to_string(), wait).await {
            Ok(Asked::Answer(_)) => Ok(()),
            Ok(Asked::Accepted) => Err("stored, not answered".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

async fn n_decisions(bus: &Bus) -> u64 {
    let question = serde_json::to_vec(&Query::Status).unwrap();
    let subject = bus.subjects().query("status");
    let answer = bus.request(subject, question.into(), Duration::from_secs(5)).await.unwrap();
    serde_json::from_slice::<SystemView>(&answer).unwrap().n_decisions
}

async fn until_snapshots(bus: &Bus, n: usize) -> Vec<u64> {
    let mut found = Vec::new();
    eventually("stored as snapshots", async || {
        found = bus.snapshots().newest_first().await.map_err(|error| error.to_string())?;
        if n <= found.len() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    found
}

#[tokio::test]
async fn a_start_takes_up_a_snapshot_and_an_empty_log_is_made_whole_by_another_supervisor() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let first = Supervisor::start(&broker, dir.path().join("a"));
    publish(&bus, 0, 90).await;
    let snapshot = until_snapshots(&bus, 1).await[0];
    publish(&bus, 90, 95).await;
    let n = n_decisions(&bus).await;
    drop(first);

    // The ledger behind it is forgotten; a start does not need it.
    bus.ledger().purge_to(snapshot).await.unwrap();
    let first = Supervisor::start(&broker, dir.path().join("a"));
    publish(&bus, 95, 96).await;
    assert!(first.said().contains("a snapshot is taken up"), "{}", first.said());
    assert!(n < n_decisions(&bus).await, "it goes on where it was");

    // Another one's log lacks what the ledger has forgotten, until the first one gives it.
    let second = Supervisor::start(&broker, dir.path().join("b"));
    let mut wanted = Vec::new();
    eventually("whole in both directories", async || {
        wanted = (1..=n_decisions(&bus).await).collect();
        let (a, b) = (first.log(), second.log());
        let is_missing = second.dir.join("log.missing").exists();
        if a == wanted && b == wanted && !is_missing {
            Ok(())
        } else {
            Err(format!("{} and {} of {}: {}", a.len(), b.len(), wanted.len(), second.said()))
        }
    })
    .await;
    drop(first);
    publish(&bus, 96, 97).await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_skipped() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let first = Supervisor::start(&broker, dir.path().join("a"));
    publish(&bus, 0, 3).await;
    let n = n_decisions(&bus).await;
    let last = bus.ledger().last_seq().await.unwrap();
    drop(first);
    // One of a version to come.
    let mut writer = bus.snapshots().create(last);
    writer.write(b"{\"begin\":{\"form\":99}}\n").await.unwrap();
    writer.finish().await.unwrap();
    let first = Supervisor::start(&broker, dir.path().join("a"));
    publish(&bus, 3, 4).await;
    assert!(first.said().contains("a snapshot is not used"), "{}", first.said());
    assert!(n < n_decisions(&bus).await);
}

/// One sender says the same again and again, with a large payload; and others are large, too.
#[tokio::test]
async fn a_small_ledger_of_large_messages_never_fills_up() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::with(&broker, dir.path().join("a"), &["--ledger-max-mib", "16"]);
    // Twice of what it holds.
    publish(&bus, 0, 160).await;
    let state = bus.ledger().state().await.unwrap();
    assert_eq!(state.bytes_max, Some(16 * 1024 * 1024));
    assert!(1 < state.first_seq, "{state:?}");
    // The log has every line all the same, and a start finds its state.
    let n = n_decisions(&bus).await;
    eventually("whole", async || {
        let log = supervisor.log();
        if log == (1..=n).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{}", log.len())) }
    })
    .await;
    drop(supervisor);
    let _again = Supervisor::with(&broker, dir.path().join("a"), &["--ledger-max-mib", "16"]);
    publish(&bus, 160, 162).await;
    assert!(n < n_decisions(&bus).await);
}

/// A ledger that was full before it could be shortened, as former versions left it.
#[tokio::test]
async fn a_ledger_that_is_full_is_shortened_behind_a_snapshot_and_goes_on() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let roomy = Supervisor::with(&broker, dir.path().join("a"), &["--ledger-max-mib", "64"]);
    publish(&bus, 0, 60).await;
    let n = n_decisions(&bus).await;
    drop(roomy);
    bus.snapshots().keep_newest(0).await.unwrap();
    // 12 MiB and more are in it: smaller, it takes nothing.
    let small = Supervisor::with(&broker, dir.path().join("a"), &["--ledger-max-mib", "16"]);
    eventually("leading", async || {
        if small.said().contains("leading") { Ok(()) } else { Err(small.said()) }
    })
    .await;
    publish(&bus, 60, 90).await;
    assert!(n < n_decisions(&bus).await);
    assert!(1 < bus.ledger().first_seq().await.unwrap());
}

/// Goal: the log needs no more room than was chosen, and what is left of it is enough for a
/// restoration. Method: a log of many small files, and a limit of which nothing may go before a
/// snapshot stands for it.
#[tokio::test]
async fn old_parts_of_the_log_go_once_a_snapshot_beside_it_stands_for_them() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--log-max-mib", "1", "--log-keep-mib", "2"];
    let supervisor = Supervisor::with(&broker, dir.path().join("a"), &flags);
    let standby = Supervisor::with(&broker, dir.path().join("b"), &flags);
    publish(&bus, 0, 40).await;
    let n = n_decisions(&bus).await;
    eventually("whole without a snapshot", async || {
        let log = supervisor.log();
        if log == (1..=n).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{}", log.len())) }
    })
    .await;
    publish(&bus, 40, 90).await;
    let snapshot = until_snapshots(&bus, 1).await[0];
    for it in [&supervisor, &standby] {
        eventually("archived", async || {
            let is_of = |it: &ArchivedSnapshot| it.ledger_seq == snapshot;
            if it.archived().iter().any(is_of) {
                Ok(())
            } else {
                Err(format!("{:?}", it.archived()))
            }
        })
        .await;
    }
    publish(&bus, 90, 100).await;
    let n = n_decisions(&bus).await;
    let base = supervisor.archived().into_iter().min().unwrap();
    let mut left = Vec::new();
    eventually("shortened", async || {
        left = supervisor.log();
        if left.last() == Some(&n) && 1 < left[0] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(left[0] <= base.n_decisions + 1, "{} behind {base:?}", left[0]);
    assert_eq!(left, (left[0]..=n).collect::<Vec<_>>());
    let text = std::fs::read(supervisor.dir.join(ARCHIVE_DIR).join(base.file_name())).unwrap();
    let lines = text.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    assert_eq!(Desk::from_snapshot(lines).unwrap().n_decisions(), base.n_decisions);
}

async fn floods(bus: &Bus) -> Vec<IncidentView> {
    let filter = Filter { kind: Some("event_flood".to_owned()), ..Filter::default() };
    let question = serde_json::to_vec(&Query::Incidents(filter)).unwrap();
    let subject = bus.subjects().query("incidents");
    let answer = bus.request(subject, question.into(), Duration::from_secs(5)).await.unwrap();
    serde_json::from_slice::<Page>(&answer).unwrap().incidents
}

/// Goal: no sender fills the memory of a supervisor, and none of its events is lost. Method: more
/// large events than one source may open, and a supervisor that is killed meanwhile.
#[tokio::test]
async fn a_flood_of_one_sender_is_one_incident_that_survives_kill_9() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start(&broker, dir.path().join("a"));
    for n in 0..120 {
        publish_of(&bus, "flooder", n).await;
    }
    publish_of(&bus, "another", 120).await;
    let [flood] = <[IncidentView; 1]>::try_from(floods(&bus).await).unwrap();
    assert_eq!((flood.status, flood.source.as_str()), (Status::Escalated, "flooder"));
    drop(supervisor);
    let supervisor = Supervisor::start(&broker, dir.path().join("a"));
    publish_of(&bus, "flooder", 121).await;
    let [after] = <[IncidentView; 1]>::try_from(floods(&bus).await).unwrap();
    assert_eq!((after.id, after.count), (flood.id, flood.count + 1));
    let log = std::fs::read_to_string(supervisor.dir.join("incident_logs.jsonl")).unwrap();
    let is_decided = |n: &u32| log.contains(&format!("trouble_{n}\""));
    assert_eq!((0..=121).filter(is_decided).count(), 122, "each event has its line");
}
