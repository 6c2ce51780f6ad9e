//! Leading: one append in flight, decisions ahead of it, consequences behind it.

use std::{cell::RefCell, collections::BTreeMap, pin::Pin, rc::Rc, time::Duration};

use ::supervisor::{
    core::{Batch, Consequences, Presence, Published, Room, Wheel},
    withdrawal::{self, Outlook},
};
use bytes::Bytes;
use domain::{
    desk::{Recall, Recorded, Wish},
    fact::Fact,
    wire::{Claim, ClaimState, Envelope, Input, TimerFired, WorkKind},
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    Office, TRY, archive,
    bugs::{self, Former},
    file, scribe,
};
use crate::{
    agents::{Agent, lease::Lease},
    broker::{Op, Reply},
    bug::Bug,
    clock::{micros, utc},
};

const IDLE: Duration = Duration::from_secs(30);
/// A reader notices so soon that nothing comes any more, and asks again.
const READ: Duration = Duration::from_secs(5);
const REPUBLISH: Duration = Duration::from_secs(30);
const GIVE_UP_TRIES: u32 = 5;
const FULL_WAIT: Duration = Duration::from_secs(1);
const FULL_TRIES: u32 = 60;
const LEADERSHIP_AGAIN: Duration = Duration::from_millis(500);
/// For how long an order that is to be withdrawn is looked at, and after which wait again.
const RECALL_FOR: Duration = Duration::from_secs(25);
const RECALL_AGAIN: Duration = Duration::from_millis(500);

/// What became of an append.
enum Outcome {
    Stored(Box<Batch>, Option<u64>),
    Deposed,
    TooLarge(Box<Batch>),
    Full(Room),
}

type Appending = Pin<Box<dyn Future<Output = Outcome>>>;

struct Court<'a> {
    office: &'a Office,
    epoch: u64,
    wheel: Wheel,
    appending: Option<Appending>,
    republish: bool,
    published: Rc<RefCell<Published>>,
    scribe: UnboundedSender<scribe::Page>,
    courier: UnboundedSender<Vec<(WorkKind, String, Bytes)>>,
    tells_deadlines: bool,
    former: Former,
    /// Rings when the broker has taken that we lead; deadlines that came while nobody led are
    /// not told before that.
    told: Option<tokio::sync::oneshot::Receiver<()>>,
}

/// Leads until deposed.
pub(super) async fn lead(office: &Office, lease: &Lease) {
    bugs::forget_position(office);
    let (scribe, pages) = unbounded_channel();
    let (courier, wishes) = unbounded_channel();
    let (end, ended) = tokio::sync::oneshot::channel();
    office.agent.spawn(scribe::write_all(office.agent.clone(), pages, end));
    let published = Rc::default();
    office.agent.spawn(carry(office.clone(), Rc::clone(&published), wishes));
    let is_first = office.seat.borrow().core.n_stored() == 0;
    let mut court = Court {
        office,
        epoch: lease.epoch,
        wheel: Wheel::default(),
        appending: None,
        republish: true,
        published,
        scribe,
        courier,
        tells_deadlines: is_first || !office.agent.world.bug(Bug::TimersLostAtFailover),
        former: BTreeMap::new(),
        told: say_that_we_lead(office, lease.epoch),
    };
    office.agent.world.node(office.agent.node).leads_since.set(Some(office.agent.now()));
    office.agent.world.leaderships.borrow_mut().push(office.agent.now());
    office.agent.world.disturbed(office.agent.node);
    court.begin().await;
    court.hold(lease).await;
    drop(court);
    // What is acknowledged is written, and answered, before anything else happens.
    drop(ended.await);
}

/// Tells the desk that we lead, until the broker has taken it.
fn say_that_we_lead(office: &Office, epoch: u64) -> Option<tokio::sync::oneshot::Receiver<()>> {
    let (agent, lanes) = (office.agent.clone(), office.lanes.clone());
    if agent.world.bug(Bug::DeadlinesFromBefore) {
        return None;
    }
    let (ring, told) = tokio::sync::oneshot::channel();
    office.agent.spawn(async move {
        loop {
            let id = format!("leadership/{epoch}/{}", agent.member);
            let input = Input::Timer(TimerFired::leadership(epoch, agent.utc()));
            if lanes.submit(&agent, &Envelope::new(id, input)).await.is_ok() {
                break;
            }
            agent.sleep(LEADERSHIP_AGAIN).await;
        }
        // Whoever waited may be deposed.
        ring.send(()).ok();
    });
    Some(told)
}

/// Publishes wishes, one after the other. What is not taken is published again later.
async fn carry(
    office: Office,
    published: Rc<RefCell<Published>>,
    mut waiting: tokio::sync::mpsc::UnboundedReceiver<Vec<(WorkKind, String, Bytes)>>,
) {
    while let Some(wishes) = waiting.recv().await {
        for (kind, id, payload) in wishes {
            let place = published.borrow_mut().place(&id);
            if let Some(place) = place.filter(|_| !office.agent.world.bug(Bug::OneQueueForAll)) {
                let op = Op::Holds { place, id: id.clone() };
                if let Some(Reply::Held(true)) = office.agent.call(op, TRY).await {
                    continue;
                }
            }
            let op = Op::Publish { kind, id: id.clone(), payload };
            if let Some(Reply::Stored(place)) = office.agent.call(op, TRY).await {
                published.borrow_mut().note(&id, place);
            }
        }
    }
}

impl Court<'_> {
    async fn begin(&self) {
        let (office, world) = (self.office, &self.office.agent.world);
        {
            let seat = office.seat.borrow();
            if 0 < seat.core.n_stored() {
                world.configure(office.agent.node, seat.core.desk().config().clone());
            }
        }
        archive::find(office).await;
        archive::make_room(office).await;
        office.agent.spawn(file::submit(office.clone()));
    }

    /// Submits inputs of our own without waiting for the broker.
    fn tell(&self, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            let (agent, lanes) = (self.office.agent.clone(), self.office.lanes.clone());
            self.office.agent.spawn(async move {
                // Deadlines stay and are told again; the rest is about ourselves.
                lanes.submit(&agent, &envelope).await.ok();
            });
        }
    }

    async fn hold(&mut self, lease: &Lease) {
        let agent = self.office.agent.clone();
        let mut republish_at = agent.now() + micros(REPUBLISH);
        let mut presence = Presence::default();
        let mut after = self.office.seat.borrow().core.read_after();
        loop {
            if !self.go_on() {
                return;
            }
            let (wait, may_read) = self.waits();
            let node = agent.world.node(agent.node);
            presence.waits(agent.utc(), wait);
            let until_republish = republish_at.saturating_sub(agent.now());
            tokio::select! {
                biased;
                () = lease.lost.notified() => return,
                outcome = under_way(&mut self.appending) => {
                    self.appending = None;
                    if !self.appended(outcome) {
                        return;
                    }
                }
                () = told(&mut self.told) => {}
                () = node.connected.notified() => self.republish = true,
                () = crate::sim::Sim::sleep(&agent.world, until_republish) => {
                    republish_at = agent.now() + micros(REPUBLISH);
                    self.republish = true;
                    let office = self.office.clone();
                    agent.spawn(async move { archive::shorten(&office).await });
                }
                reply = agent.call(Op::InboxRead { after }, READ), if may_read => {
                    if let Some(Reply::Inbox(messages)) = reply {
                        let mut seat = self.office.seat.borrow_mut();
                        for message in messages {
                            if message.seq == after + 1 {
                                after = message.seq;
                                let message = bugs::approve_anything(&agent, &seat.core, message);
                                let message = bugs::fail_refusals(&agent, message);
                                let message = bugs::forget_repeats(&agent, message);
                                let message =
                                    bugs::forget_refused(&agent, &seat.core, message);
                                let message = bugs::without_time(&agent, message);
                                seat.core.offer(&message);
                            }
                        }
                    }
                }
                () = agent.sleep(wait) => {}
            }
            if presence.was_away(agent.utc()) && !agent.world.bug(Bug::DeadlinesFromBefore) {
                return;
            }
            if self.told.is_some() {
                continue;
            }
            let due = {
                let seat = self.office.seat.borrow();
                self.wheel.due(seat.core.desk().deadlines(), agent.utc())
            };
            if self.tells_deadlines {
                self.tell(due);
            }
        }
    }

    /// Takes what became of an append. Returns whether to go on leading.
    fn appended(&mut self, outcome: Outcome) -> bool {
        let (office, world) = (self.office, &self.office.agent.world);
        let ended = match outcome {
            Outcome::Stored(batch, seq) => return self.stored(*batch, seq),
            Outcome::Deposed => "another one has decided",
            Outcome::TooLarge(batch) => {
                world.laws.borrow_mut().kept.too_large(world, batch.first);
                if !world.bug(Bug::QuietEndsAtOnce) {
                    office.seat.borrow_mut().core.too_large(&batch);
                }
                "a batch is too large"
            }
            Outcome::Full(room) => {
                office.seat.borrow_mut().core.snapshots_mut().full(room);
                "the ledger is full"
            }
        };
        office.agent.say(|| format!("leads no more: {ended}"));
        false
    }

    /// Withdraws orders, beside everything else.
    fn recall(&self, wanted: Vec<Recall>) {
        if self.office.agent.world.bug(Bug::PauseRecallsNothing) {
            return;
        }
        for recall in wanted {
            self.office.agent.spawn(withdraw(self.office.clone(), recall));
        }
    }

    fn waits(&self) -> (Duration, bool) {
        let seat = self.office.seat.borrow();
        let wait = self.wheel.wait(seat.core.desk().deadlines(), self.office.agent.utc(), IDLE);
        // Not at once again, since the clock here has whole microseconds only.
        let wait = wait.max(Duration::from_millis(1));
        let may_tell = self.tells_deadlines && self.told.is_none();
        (if may_tell { wait } else { IDLE }, !seat.core.is_full())
    }

    /// Decides what waits, and begins the next append when none is under way.
    fn go_on(&mut self) -> bool {
        let office = self.office;
        loop {
            let mut seat = office.seat.borrow_mut();
            if self.appending.is_none()
                && let Some((seq, snapshot)) = seat.core.snapshot()
            {
                let office = office.clone();
                let owned = office.clone();
                office.agent.spawn(async move { archive::store(&owned, seq, snapshot).await });
            }
            if self.republish && seat.core.is_settled() {
                self.republish = false;
                self.published.borrow_mut().turn();
                let wishes = seat.core.republish();
                let recalls = seat.core.desk().recalls().collect();
                drop(seat);
                self.recall(recalls);
                let wishes = bugs::as_new_attempts(&office.agent, packed(wishes));
                self.publish(wishes);
                continue;
            }
            // What must find the state settled waits for the append, and not for ever.
            let wants_settled = self.republish || seat.core.snapshots().is_due();
            if !(wants_settled && self.appending.is_some()) {
                seat.core.decide().expect("decisions have a form in JSON");
            }
            if self.appending.is_some() {
                return true;
            }
            let sealed = seat.core.seal(self.epoch).expect("decisions have a form in JSON");
            let Some(mut batch) = sealed else { return true };
            let room = seat.core.snapshots().room();
            let looks = packed(std::mem::take(&mut batch.looks));
            if office.agent.world.bug(Bug::WishBeforeAppend) {
                let wishes = packed(seat.core.desk().pending());
                drop(seat);
                self.publish(wishes);
            } else {
                drop(seat);
            }
            self.publish(looks);
            if batch.append.is_none() {
                if !self.stored(batch, None) {
                    return false;
                }
                continue;
            }
            self.appending = Some(Box::pin(append(office.clone(), batch, room)));
        }
    }

    fn publish(&mut self, wishes: Vec<(WorkKind, String, Bytes)>) {
        if self.office.agent.world.bug(Bug::GuardsSkippedForRetries) {
            bugs::remember(&mut self.former, &wishes);
        }
        if !wishes.is_empty() {
            drop(self.courier.send(wishes));
        }
    }

    /// Lets the consequences of what is stored be seen. Returns whether to go on.
    fn stored(&mut self, batch: Batch, seq: Option<u64>) -> bool {
        let (office, world) = (self.office, &self.office.agent.world);
        let consequences = {
            let mut seat = office.seat.borrow_mut();
            match seat.core.stored(batch, seq) {
                Ok(consequences) => consequences,
                Err(error) => {
                    world.fail("an append is stored where it was wanted", error.to_string());
                    return false;
                }
            }
        };
        let Consequences { lines, wishes, configuration, answers, faults, recorded, .. } =
            consequences;
        if let Some(fault) = faults.first() {
            world.fail("decisions fit the state that they are made in", fault.to_string());
            return false;
        }
        let is_recall = |it: &&Recorded| matches!(it.decision.fact, Fact::RecallRequested { .. });
        let recalls = recorded.iter().filter(is_recall).filter_map(|it| it.decision.incident);
        let desk = |id| office.seat.borrow().core.desk().recall(id);
        self.recall(recalls.filter_map(desk).collect());
        let mut wishes = packed(wishes);
        if world.bug(Bug::GuardsSkippedForRetries) {
            wishes.extend(bugs::again(&self.former, &lines));
        }
        self.publish(wishes);
        if let Some(config) = configuration {
            world.configure(office.agent.node, *config);
        }
        drop(self.scribe.send(scribe::Page { lines, answers }));
        world.laws.borrow_mut().leader(world, &office.seat.borrow().core);
        true
    }
}

async fn told(told: &mut Option<tokio::sync::oneshot::Receiver<()>>) {
    match told {
        Some(ringing) => {
            // Without a word deadlines go on all the same.
            drop(ringing.await);
            *told = None;
        }
        None => std::future::pending().await,
    }
}

/// Withdraws an order as `reign::recall`: claims its attempt before a fixer does, or keeps a
/// fixer that is silent from going on.
async fn withdraw(office: Office, recall: Recall) {
    let agent = &office.agent;
    let (by, work) = (agent.member.to_string(), recall.work);
    let give_up = agent.now() + micros(RECALL_FOR);
    let report = loop {
        match look(agent, &recall).await {
            Some(Outlook::Withdrawn) => {
                agent.say(|| format!("{} attempt {} is withdrawn", work.incident, work.attempt));
                break withdrawal::withdrawn(work, &by);
            }
            Some(Outlook::Ended(reason)) => {
                agent.say(|| format!("{} attempt {} is given up", work.incident, work.attempt));
                break withdrawal::ended(work, &by, reason);
            }
            Some(Outlook::Replace(_)) => {}
            Some(Outlook::Wait(wait)) => agent.sleep(wait).await,
            None => agent.sleep(RECALL_AGAIN).await,
        }
        // It is looked at again with all that is published again.
        if give_up <= agent.now() {
            return;
        }
    };
    let id = format!("{}/{by}", work.wish_id(WorkKind::Fix));
    office.lanes.submit(agent, &Envelope::new(id, Input::Fix(report))).await.ok();
}

/// Claims the attempt, or says what is to be done about whoever has. `None` when the broker does
/// not tell.
async fn look(agent: &Agent, recall: &Recall) -> Option<Outlook> {
    let id = format!("recall-{}-{}", agent.member, agent.now());
    let claim = Claim::new(id, agent.member.to_string(), agent.utc(), recall.plan_hash.clone());
    let first = Claim { state: ClaimState::Recalled, lease_ms: Some(0), ..claim.clone() };
    let key = format!("{}.{}", recall.work.incident, recall.claim_key);
    let op = Op::Claim { key: key.clone(), claim: first };
    if let Some(Reply::Stored(_)) = agent.call(op, TRY).await {
        return Some(Outlook::Withdrawn);
    }
    let op = Op::Holder { key: key.clone() };
    let Some(Reply::Holder(Some(record))) = agent.call(op, TRY).await else { return None };
    let outlook = withdrawal::outlook(&record, utc(agent.now()));
    if let Outlook::Replace(left) = outlook {
        let claim = withdrawal::replacement(claim, left);
        let op = Op::Renew { key, seen: record.seq, claim };
        if let Some(Reply::Stored(_)) = agent.call(op, TRY).await {
            agent.say(|| format!("{} may begin no further step", record.claim.by));
            return Some(Outlook::Wait(left));
        }
    }
    Some(outlook)
}

async fn under_way(appending: &mut Option<Appending>) -> Outcome {
    match appending {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

fn packed(wishes: Vec<Wish>) -> Vec<(WorkKind, String, Bytes)> {
    let pack = |it: Wish| {
        let payload = it.payload().expect("work has a form in JSON");
        (it.kind(), it.id().to_owned(), Bytes::from(payload))
    };
    wishes.into_iter().map(pack).collect()
}

/// Appends as `bus::Ledger`: when an answer is missing, whose message is there decides.
async fn append(office: Office, batch: Batch, room: Room) -> Outcome {
    let agent = &office.agent;
    let payload = batch.append.clone().unwrap_or_default();
    if bugs::quiet_ends_at_once(agent, &payload) {
        return Outcome::TooLarge(Box::new(batch));
    }
    let is_careless = agent.world.bug(Bug::AppendWithoutExpectation);
    let wanted = batch.expected_last + 1;
    let id = agent.now() * 64 + u64::try_from(agent.node).unwrap_or(0);
    let op = Op::LedgerAppend {
        id,
        expected: (!is_careless).then_some(batch.expected_last),
        payload,
        by: agent.node,
    };
    let full_tries = match (agent.world.bug(Bug::PurgeCountedInMessages), room.was_full) {
        (true, _) => u32::MAX,
        (false, true) => FULL_TRIES,
        (false, false) => 1,
    };
    let mut is_in_doubt = false;
    let (mut n_unknown, mut n_full) = (0, 0);
    while n_unknown < GIVE_UP_TRIES {
        match agent.call(op.clone(), TRY).await {
            Some(Reply::Stored(seq)) => {
                let seq = if is_careless { wanted } else { seq };
                return Outcome::Stored(Box::new(batch), Some(seq));
            }
            Some(Reply::WrongSequence) if !is_in_doubt => return Outcome::Deposed,
            Some(Reply::TooLarge) => return Outcome::TooLarge(Box::new(batch)),
            Some(Reply::Full) if !is_in_doubt => {
                n_full += 1;
                if full_tries <= n_full {
                    return Outcome::Full(room);
                }
                agent.sleep(FULL_WAIT).await;
                continue;
            }
            _ => {
                is_in_doubt = true;
                n_unknown += 1;
            }
        }
        match agent.call(Op::LedgerIdAt(wanted), TRY).await {
            Some(Reply::Id(Some(found))) if found == id => {
                return Outcome::Stored(Box::new(batch), Some(wanted));
            }
            Some(Reply::Id(Some(_))) => return Outcome::Deposed,
            _ => {}
        }
    }
    Outcome::Deposed
}
