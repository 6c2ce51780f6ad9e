//! A model of the broker: what it keeps, what it forgets, and what it answers.

mod ledger;

use std::collections::{BTreeMap, VecDeque};

use bus::{
    ClaimRecord, InboxMessage, LedgerMessage,
    topology::{REPUBLISH, StreamId},
};
use bytes::Bytes;
use domain::wire::{Claim, WorkKind};
use supervisor::core::Fill;

use self::ledger::Ledger;
use crate::{
    clock::{Micros, SECOND, micros, utc},
    net::ReplyTo,
};

/// As in the table of the bus.
pub(crate) const ACK_WAIT: Micros = 5 * SECOND;
pub(crate) const LEASE_TTL: Micros = 3 * SECOND;
pub(crate) const HEARTBEAT: Micros = SECOND;
const INBOX_WINDOW: Micros = 600 * SECOND;
/// Bounds of the one queue of all kinds that there was once: messages of a kind, and bytes. Ten
/// times smaller than they were, so that half an hour is enough to reach them.
const SHARED_QUEUE: (usize, usize) = (1000, 6 * 1024 * 1024);
/// What the broker adds to a message.
const HEADERS: usize = 100;
const DELIVERIES_MAX: u32 = 20;
/// A question for messages that nobody has waits so long.
const PARKED_MAX: Micros = 30 * SECOND;
/// Messages in one answer.
const PAGE: usize = 64;

/// What is asked of the broker.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Append {
        id: Option<String>,
        subject: String,
        headers: Vec<(String, String)>,
        payload: Bytes,
    },
    LedgerAppend {
        id: u64,
        expected: Option<u64>,
        payload: Bytes,
        by: usize,
    },
    LedgerIdAt(u64),
    LedgerRead {
        after: u64,
    },
    LedgerLast,
    LedgerFill,
    /// Forgets the ledger up to a message.
    LedgerPurge {
        up_to: u64,
        by: usize,
    },
    /// Stores a snapshot in parts, which is seen when all of them are there.
    SnapshotWrite {
        seq: u64,
        parts: Vec<Bytes>,
    },
    SnapshotRead(u64),
    SnapshotList,
    /// Deletes the snapshots behind these messages.
    SnapshotDelete(Vec<u64>),
    InboxRead {
        after: u64,
    },
    Claim {
        key: String,
        claim: Claim,
    },
    /// Replaces the claim of this sequence.
    Renew {
        key: String,
        seen: u64,
        claim: Claim,
    },
    Holder {
        key: String,
    },
    LeaseLook,
    LeaseWrite {
        holder: Holder,
        expected: u64,
    },
    Publish {
        kind: WorkKind,
        id: String,
        payload: Bytes,
    },
    Pull(WorkKind),
    /// Is a wish still in its queue, at this place?
    Holds {
        place: u64,
        id: String,
    },
    Ack(u64),
    Nak {
        token: u64,
        delay: Micros,
    },
    Alive(u64),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Stored(u64),
    WrongSequence,
    Held(bool),
    /// The stream takes no message of this size.
    TooLarge,
    /// The stream has no room.
    Full,
    /// The messages that come next are not there any more.
    Purged,
    Fill(Fill),
    /// The parts of a snapshot; `None` when it is not there.
    Snapshot(Option<Vec<Bytes>>),
    /// The messages that the snapshots stand behind, the newest first.
    Snapshots(Vec<u64>),
    Id(Option<u64>),
    Ledger(Vec<LedgerMessage>),
    Inbox(Vec<InboxMessage>),
    Last(u64),
    Taken,
    Holder(Option<ClaimRecord>),
    Lease {
        seq: u64,
        holder: Option<Holder>,
    },
    Job(Job),
    Done,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) node: usize,
    pub(crate) id: u64,
    pub(crate) epoch: u64,
}

/// A piece of work that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) token: u64,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
struct Piece {
    kind: WorkKind,
    id: String,
    at: Micros,
    payload: Bytes,
    n_deliveries: u32,
    /// Given out under this token, until then.
    out: Option<(u64, Micros)>,
    not_before: Micros,
    order: u64,
}

/// A question that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    to: ReplyTo,
    what: Wanted,
    until: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Inbox(u64),
    Ledger(u64),
    Work(WorkKind),
}

/// The broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) is_up: bool,
    inbox: Vec<InboxMessage>,
    inbox_ids: BTreeMap<String, (u64, Micros)>,
    ledger: Ledger,
    snapshots: BTreeMap<u64, Vec<Bytes>>,
    claims: BTreeMap<String, ClaimRecord>,
    // In memory only.
    lease: Option<(u64, Holder, Micros)>,
    lease_seq: u64,
    work: BTreeMap<u64, Piece>,
    work_ids: BTreeMap<String, (Micros, u64)>,
    /// As if all kinds of work had one queue.
    pub(crate) has_one_queue: bool,
    parked: VecDeque<Parked>,
    n_tokens: u64,
}

/// What a question leads to: answers, and a time at which to look again.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) replies: Vec<(ReplyTo, Reply)>,
    pub(crate) look_at: Option<Micros>,
}

impl Broker {
    /// Returns an empty one, whose ledger takes so many bytes.
    pub(crate) fn new(ledger_bytes_max: Option<u64>) -> Self {
        Self { is_up: true, ledger: Ledger::new(ledger_bytes_max), ..Self::default() }
    }

    /// Loses what is in memory.
    pub(crate) fn crash(&mut self) {
        self.is_up = false;
        self.lease = None;
        self.lease_seq = 0;
        self.work.clear();
        self.work_ids.clear();
        self.parked.clear();
    }

    /// Loses what is on its disk.
    pub(crate) fn lose_disk(&mut self) {
        self.ledger = Ledger::new(self.ledger.fill().bytes_max);
        self.snapshots.clear();
        self.inbox.clear();
        self.inbox_ids.clear();
        self.claims.clear();
    }

    /// Appends the messages of a restored ledger. Returns whether all are taken.
    pub(crate) fn restore(&mut self, now: Micros, payloads: &[Bytes]) -> bool {
        let mut last = 0;
        payloads.iter().all(|payload| {
            let reply = self.ledger.append(now, 0, Some(last), payload.clone());
            last += 1;
            matches!(reply, Reply::Stored(_))
        })
    }

    pub(crate) fn inbox(&self) -> &[InboxMessage] {
        &self.inbox
    }

    pub(crate) fn ledger_fill(&self) -> Fill {
        self.ledger.fill()
    }

    /// Returns the work that is given out under a token.
    pub(crate) fn given_out(&self, token: u64) -> Option<(WorkKind, Bytes)> {
        let mut pieces = self.work.values();
        let piece = pieces.find(|it| it.out.is_some_and(|(out, _)| out == token))?;
        Some((piece.kind, piece.payload.clone()))
    }

    pub(crate) fn handle(&mut self, now: Micros, op: Op, to: ReplyTo) -> Outcome {
        let mut outcome = Outcome::default();
        let reply = match op {
            Op::Append { id, subject, headers, payload } => {
                Some(self.append(now, id, subject, headers, payload))
            }
            Op::LedgerAppend { id, expected, payload, .. } => {
                Some(self.ledger.append(now, id, expected, payload))
            }
            Op::LedgerIdAt(seq) => Some(Reply::Id(self.ledger.id_at(seq))),
            Op::LedgerLast => Some(Reply::Last(self.ledger.last())),
            Op::LedgerFill => Some(Reply::Fill(self.ledger.fill())),
            Op::LedgerPurge { up_to, .. } => {
                self.ledger.purge(up_to);
                Some(Reply::Done)
            }
            Op::SnapshotWrite { seq, parts } => {
                self.snapshots.insert(seq, parts);
                Some(Reply::Done)
            }
            Op::SnapshotRead(seq) => Some(Reply::Snapshot(self.snapshots.get(&seq).cloned())),
            Op::SnapshotList => {
                Some(Reply::Snapshots(self.snapshots.keys().rev().copied().collect()))
            }
            Op::SnapshotDelete(old) => {
                self.snapshots.retain(|seq, _| !old.contains(seq));
                Some(Reply::Done)
            }
            Op::Claim { key, claim } => Some(match self.claims.contains_key(&key) {
                true => Reply::Taken,
                false => self.store_claim(now, key, claim),
            }),
            Op::Renew { key, seen, claim } => {
                let stands = self.claims.get(&key).is_some_and(|it| it.seq == seen);
                Some(if stands { self.store_claim(now, key, claim) } else { Reply::Taken })
            }
            Op::Holder { key } => Some(Reply::Holder(self.claims.get(&key).cloned())),
            Op::LeaseLook => Some(self.lease_look(now)),
            Op::LeaseWrite { holder, expected } => Some(self.lease_write(now, holder, expected)),
            Op::Publish { kind, id, payload } => Some(self.publish(now, kind, id, payload)),
            Op::Holds { place, id } => {
                let is_it = self.work.get(&place).is_some_and(|it| it.id == id);
                Some(Reply::Held(is_it))
            }
            Op::Ack(token) => {
                self.work.retain(|_, it| it.out.is_none_or(|(out, _)| out != token));
                Some(Reply::Done)
            }
            Op::Nak { token, delay } => {
                self.give_back(token, now + delay);
                Some(Reply::Done)
            }
            Op::Alive(token) => {
                let mut pieces = self.work.values_mut();
                let piece = pieces.find(|it| it.out.is_some_and(|(out, _)| out == token));
                if let Some(piece) = piece {
                    piece.out = Some((token, now + ACK_WAIT));
                }
                Some(Reply::Done)
            }
            Op::InboxRead { after } => self.park(now, &to, Wanted::Inbox(after)),
            Op::LedgerRead { after } => self.park(now, &to, Wanted::Ledger(after)),
            Op::Pull(kind) => self.park(now, &to, Wanted::Work(kind)),
        };
        outcome.replies.extend(reply.map(|reply| (to, reply)));
        self.serve(now, &mut outcome);
        outcome
    }

    /// Answers questions that can be answered by now.
    pub(crate) fn serve(&mut self, now: Micros, outcome: &mut Outcome) {
        let mut waiting = VecDeque::new();
        while let Some(parked) = self.parked.pop_front() {
            match self.answer(now, parked.what) {
                Some(reply) => outcome.replies.push((parked.to, reply)),
                None if parked.until <= now => {}
                None => waiting.push_back(parked),
            }
        }
        self.parked = waiting;
        let mut kinds = Vec::new();
        for parked in &self.parked {
            match parked.what {
                Wanted::Work(kind) if !kinds.contains(&kind) => kinds.push(kind),
                Wanted::Work(_) | Wanted::Inbox(_) | Wanted::Ledger(_) => {}
            }
        }
        let wanted = |it: &&Piece| kinds.contains(&it.kind) && it.n_deliveries < DELIVERIES_MAX;
        let times = self.work.values().filter(wanted);
        let times = times.map(|it| it.out.map_or(it.not_before, |(_, until)| until));
        outcome.look_at = times.min();
    }

    /// The same again is asked only when the first question was lost, so one is enough.
    fn park(&mut self, now: Micros, to: &ReplyTo, what: Wanted) -> Option<Reply> {
        if let Some(reply) = self.answer(now, what) {
            return Some(reply);
        }
        let is_same = |it: &Parked| it.to.node == to.node && it.what == what;
        if !matches!(what, Wanted::Work(_)) {
            self.parked.retain(|it| !is_same(it));
        }
        self.parked.push_back(Parked { to: to.clone(), what, until: now + PARKED_MAX });
        None
    }

    fn answer(&mut self, now: Micros, what: Wanted) -> Option<Reply> {
        let after = |seq: u64| usize::try_from(seq).unwrap_or(usize::MAX);
        match what {
            Wanted::Inbox(seq) => {
                let rest = self.inbox.get(after(seq)..).filter(|it| !it.is_empty())?;
                Some(Reply::Inbox(rest.iter().take(PAGE).cloned().collect()))
            }
            Wanted::Ledger(seq) => self.ledger.read(seq),
            Wanted::Work(kind) => {
                let is_ready = |it: &&mut Piece| {
                    it.kind == kind
                        && it.n_deliveries < DELIVERIES_MAX
                        && it.not_before <= now
                        && it.out.is_none_or(|(_, until)| until <= now)
                };
                let ready = self.work.values_mut().filter(is_ready);
                let piece = ready.min_by_key(|it| it.order)?;
                self.n_tokens += 1;
                piece.out = Some((self.n_tokens, now + ACK_WAIT));
                piece.n_deliveries += 1;
                Some(Reply::Job(Job { token: self.n_tokens, payload: piece.payload.clone() }))
            }
        }
    }

    fn append(
        &mut self,
        now: Micros,
        id: Option<String>,
        subject: String,
        headers: Vec<(String, String)>,
        payload: Bytes,
    ) -> Reply {
        let texts = headers.iter().flat_map(|(name, value)| [name.len(), value.len()]);
        let bytes = payload.len() + texts.sum::<usize>();
        if StreamId::Inbox.spec().message_bytes_max < i64::try_from(bytes).unwrap_or(i64::MAX) {
            return Reply::TooLarge;
        }
        if let Some(id) = &id
            && let Some((seq, at)) = self.inbox_ids.get(id)
            && now < at + INBOX_WINDOW
        {
            return Reply::Stored(*seq);
        }
        let seq = u64::try_from(self.inbox.len()).unwrap_or(0) + 1;
        if let Some(id) = id {
            self.inbox_ids.insert(id, (seq, now));
        }
        self.inbox.push(InboxMessage { seq, at: utc(now), subject, headers, payload });
        Reply::Stored(seq)
    }

    fn store_claim(&mut self, now: Micros, key: String, claim: Claim) -> Reply {
        self.n_tokens += 1;
        let seq = self.n_tokens;
        self.claims.insert(key, ClaimRecord { claim, seq, stored_at: utc(now) });
        Reply::Stored(seq)
    }

    fn lease_look(&mut self, now: Micros) -> Reply {
        if self.lease.as_ref().is_some_and(|(.., until)| *until <= now) {
            self.lease = None;
            self.lease_seq += 1;
        }
        match &self.lease {
            Some((seq, holder, _)) => Reply::Lease { seq: *seq, holder: Some(holder.clone()) },
            None => Reply::Lease { seq: self.lease_seq, holder: None },
        }
    }

    fn lease_write(&mut self, now: Micros, holder: Holder, expected: u64) -> Reply {
        let Reply::Lease { seq, .. } = self.lease_look(now) else { return Reply::WrongSequence };
        if seq != expected {
            return Reply::WrongSequence;
        }
        self.lease_seq += 1;
        self.lease = Some((self.lease_seq, holder, now + LEASE_TTL));
        Reply::Stored(self.lease_seq)
    }

    fn publish(&mut self, now: Micros, kind: WorkKind, id: String, payload: Bytes) -> Reply {
        let spec = StreamId::Work(kind).spec();
        // That queue forgot ids as soon as all was published again.
        let is_short = self.has_one_queue;
        let window = micros(if is_short { REPUBLISH } else { spec.duplicate_window });
        if let Some((at, place)) = self.work_ids.get(&id)
            && now < at + window
        {
            return Reply::Stored(*place);
        }
        if let Some(kept) = spec.age_max {
            self.work.retain(|_, it| now < it.at + micros(kept));
        }
        let bounds = if self.has_one_queue { SHARED_QUEUE } else { bounds(kind) };
        let is_beside = |it: &&Piece| self.has_one_queue || it.kind == kind;
        let beside = self.work.values().filter(is_beside);
        let (n, bytes) = beside.fold((0, payload.len() + HEADERS), |(n, bytes), it| {
            (n + usize::from(it.kind == kind), bytes + it.payload.len() + HEADERS)
        });
        if bounds.0 <= n || bounds.1 < bytes {
            return Reply::Full;
        }
        self.n_tokens += 1;
        let order = self.n_tokens;
        self.work_ids.insert(id.clone(), (now, order));
        let at = now;
        let piece =
            Piece { kind, id, at, payload, n_deliveries: 0, out: None, not_before: now, order };
        // Published again while the first one is still there, it is a message of its own.
        self.work.insert(order, piece);
        Reply::Stored(order)
    }

    /// Returns how many messages of a kind the queues hold, and their bytes.
    pub(crate) fn holds(&self, kind: WorkKind) -> (usize, usize) {
        let of_kind = self.work.values().filter(|it| it.kind == kind);
        of_kind.fold((0, 0), |(n, bytes), it| (n + 1, bytes + it.payload.len() + HEADERS))
    }

    /// Returns how often a wish is in its queue, and since when.
    pub(crate) fn copies(&self, id: &str) -> Option<(usize, Micros)> {
        let same = self.work.values().filter(|it| it.id == id);
        Some((same.clone().count(), same.map(|it| it.at).min()?))
    }

    fn give_back(&mut self, token: u64, at: Micros) {
        let mut pieces = self.work.values_mut();
        if let Some(piece) = pieces.find(|it| it.out.is_some_and(|(out, _)| out == token)) {
            piece.out = None;
            piece.not_before = at;
        }
    }
}

/// Returns how many messages of one kind its queue takes, and how many bytes.
pub(crate) fn bounds(kind: WorkKind) -> (usize, usize) {
    let spec = StreamId::Work(kind).spec();
    let size = |it: i64| usize::try_from(it).unwrap_or(usize::MAX);
    (spec.of_subject_max.map_or(usize::MAX, size), size(spec.bytes_max))
}
