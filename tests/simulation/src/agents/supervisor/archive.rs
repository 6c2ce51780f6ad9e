//! Snapshots, and what the broker may forget behind them, as `reign::snapshot`: when a snapshot is
//! due and what may be forgotten is for the core to say.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ::supervisor::core::recovery::{LineReader, Unreadable};
use bus::topology::BucketId;
use bytes::Bytes;
use domain::desk::{Desk, Snapshot, SnapshotReader};

use super::{Office, TRY};
use crate::{
    broker::{Op, Reply},
    bug::Bug,
    world::World,
};

/// Longest line of a snapshot that is read. Everything is smaller here than on real hosts, where
/// it is 32 MiB; the desk ends its lines at 1 MiB.
const LINE_MAX: usize = 1024 * 1024 + 128 * 1024;
/// How long to write or read a snapshot.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it takes to make a state of one.
const LOADING: Duration = Duration::from_millis(100);

/// Stores a snapshot, reads it back, and forgets what it stands for.
pub(super) async fn store(office: &Office, seq: u64, snapshot: Snapshot) {
    let stored = write(office, seq, snapshot).await;
    {
        let mut seat = office.seat.borrow_mut();
        match stored {
            Some(bytes) => seat.core.snapshots_mut().stored(seq, bytes),
            None => seat.core.snapshots_mut().failed(),
        }
    }
    if stored.is_some() {
        office.agent.say(|| format!("a snapshot behind message {seq} is stored"));
        forget(office).await;
    }
}

async fn write(office: &Office, seq: u64, snapshot: Snapshot) -> Option<u64> {
    let agent = &office.agent;
    let lines: Vec<_> = snapshot.map(|it| it.expect("a desk has a form in JSON")).collect();
    let lines = if agent.world.bug(Bug::SnapshotLineWithoutBound) {
        super::bugs::in_one_line(lines)
    } else {
        lines
    };
    let mut text = lines.join(&b"\n"[..]);
    text.push(b'\n');
    let part_max = usize::try_from(BucketId::Snapshots.spec().value_bytes_max).unwrap_or(1);
    let parts = text.chunks(part_max).map(Bytes::copy_from_slice).collect();
    let Some(Reply::Done) = agent.call(Op::SnapshotWrite { seq, parts }, PATIENCE).await else {
        return None;
    };
    let parts = read(office, seq).await?;
    desk(&agent.world, &parts).ok()?;
    u64::try_from(text.len()).ok()
}

async fn read(office: &Office, seq: u64) -> Option<Vec<Bytes>> {
    match office.agent.call(Op::SnapshotRead(seq), PATIENCE).await {
        Some(Reply::Snapshot(parts)) => parts,
        _ => None,
    }
}

/// Returns the desk of a snapshot; `None` when the broker does not give it.
pub(super) async fn load(office: &Office, seq: u64) -> Option<Result<Desk, Unreadable>> {
    let parts = read(office, seq).await?;
    office.agent.sleep(LOADING).await;
    Some(desk(&office.agent.world, &parts))
}

/// What was made of the same bytes before, whoever did it: much of a run would be spent on making
/// it again.
#[derive(Default)]
pub(crate) struct Desks {
    /// Of snapshots.
    read: RefCell<VecDeque<(Vec<Bytes>, Desk)>>,
    /// Of the ledger from its start up to a message.
    folded: RefCell<BTreeMap<u64, Desk>>,
}

/// So many snapshots are remembered, as the broker keeps few.
const READ_MAX: usize = 4;
/// Each of so many messages is remembered: an answer of the broker has as many.
const FOLDED_EVERY: u64 = 64;

impl Desks {
    /// Remembers what the ledger up to this message gives.
    pub(crate) fn folded(&self, seq: u64, desk: &Desk) {
        if seq.is_multiple_of(FOLDED_EVERY) {
            self.folded.borrow_mut().insert(seq, desk.clone());
        }
    }

    /// Forgets the ledger: there is another one.
    pub(crate) fn lost(&self) {
        self.folded.borrow_mut().clear();
    }

    /// Returns what the ledger up to one of these messages gives, the last that is known.
    pub(crate) fn within(&self, after: u64, last: u64) -> Option<(u64, Desk)> {
        let folded = self.folded.borrow();
        let (seq, desk) = folded.range(after + 1..=last).next_back()?;
        Some((*seq, desk.clone()))
    }
}

/// Reads a snapshot as whoever begins with it.
pub(crate) fn desk(world: &World, parts: &[Bytes]) -> Result<Desk, Unreadable> {
    let mut desks = world.desks.read.borrow_mut();
    if let Some((_, desk)) = desks.iter().find(|(known, _)| known == parts) {
        return Ok(desk.clone());
    }
    let (mut reader, mut lines) = (SnapshotReader::default(), LineReader::new(LINE_MAX));
    for part in parts {
        lines.part(part, |line| reader.line(line))?;
    }
    let desk = reader.finish().map_err(Unreadable::Content)?;
    desks.push_back((parts.to_vec(), desk.clone()));
    if READ_MAX < desks.len() {
        desks.pop_front();
    }
    Ok(desk)
}

/// Learns how full the ledger is.
async fn look_at_ledger(office: &Office) {
    if let Some(Reply::Fill(mut fill)) = office.agent.call(Op::LedgerFill, TRY).await {
        if office.agent.world.bug(Bug::PurgeCountedInMessages) {
            fill.bytes_max = None;
        }
        office.seat.borrow_mut().core.snapshots_mut().filled(fill);
    }
}

/// Forgets the ledger behind snapshots, and then those that nothing is made from any more.
async fn forget(office: &Office) {
    let agent = &office.agent;
    let _shortening = office.shortening.lock().await;
    look_at_ledger(office).await;
    find(office).await;
    let logged = if agent.world.bug(Bug::PurgeBySnapshotsOnly) {
        u64::MAX
    } else {
        agent.world.node(agent.node).disk.borrow().whole_entry()
    };
    let forgettable = office.seat.borrow().core.snapshots().ledger_forgettable(logged);
    if let Some(forgettable) = forgettable {
        let up_to = forgettable.up_to;
        let op = Op::LedgerPurge { up_to, by: agent.node };
        let Some(Reply::Done) = agent.call(op, TRY).await else { return };
        agent.say(|| format!("the ledger is shortened up to message {up_to}"));
        office.seat.borrow_mut().core.snapshots_mut().forgotten(up_to);
    }
    let old = office.seat.borrow_mut().core.snapshots_mut().take_old(logged);
    agent.call(Op::SnapshotDelete(old), TRY).await;
}

/// Learns which snapshots there are.
pub(super) async fn find(office: &Office) {
    let Some(Reply::Snapshots(seqs)) = office.agent.call(Op::SnapshotList, TRY).await else {
        return;
    };
    let parts = match seqs.first() {
        Some(newest) => read(office, *newest).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let bytes = parts.iter().map(|it| u64::try_from(it.len()).unwrap_or(0)).sum();
    let mut seat = office.seat.borrow_mut();
    let ledger_seq = seat.core.ledger_seq();
    seat.core.snapshots_mut().found(seqs, bytes, ledger_seq);
}

/// Shortens a ledger that is nearly full, before anything is decided.
pub(super) async fn make_room(office: &Office) {
    look_at_ledger(office).await;
    let snapshot = {
        let mut seat = office.seat.borrow_mut();
        let is_pressed = seat.core.snapshots().is_pressed();
        if is_pressed { seat.core.snapshot_for_room() } else { None }
    };
    if let Some((seq, snapshot)) = snapshot {
        store(office, seq, snapshot).await;
    }
}

/// Forgets what could not be forgotten before, such as when the log has caught up.
pub(super) async fn shorten(office: &Office) {
    look_at_ledger(office).await;
    let is_pressed = office.seat.borrow().core.snapshots().is_pressed();
    if is_pressed {
        forget(office).await;
    }
}
