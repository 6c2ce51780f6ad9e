//! The supervisor: `supervisor::core` decides. The shell is as `following` and `reign`:
//! fold, wait for the lease, lead, and begin anew when another one leads.

pub(crate) mod archive;
mod bugs;
mod file;
mod lending;
mod missed;
mod reign;
mod scribe;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use ::monitor::{incidents::Open, report::SOURCE};
use ::supervisor::core::{
    Core, Error, Lines,
    agents::Vigil,
    recovery::{self, Found, Search, Step, Use},
};
use bus::{LedgerMessage, Subjects};
use domain::desk::Desk;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Agent, lane::Lanes, lease};
use crate::{
    broker::{Op, Reply},
    clock::SECOND,
    world::Asked,
};

const TRY: Duration = Duration::from_secs(2);
const LONG_POLL: Duration = Duration::from_micros(31 * SECOND);
const AGAIN: Duration = Duration::from_millis(100);

/// The state of a supervisor.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) core: Core,
    pub(crate) is_leading: bool,
    is_caught_up: bool,
}

#[derive(Clone)]
pub(crate) struct Office {
    agent: Agent,
    lanes: Lanes,
    seat: Rc<RefCell<Seat>>,
    vigil: Rc<RefCell<Vigil>>,
    /// The state is that of the ledger from its start, not from a snapshot.
    is_from_start: Rc<Cell<bool>>,
    /// Held while the ledger is shortened.
    shortening: Rc<tokio::sync::Mutex<()>>,
}

pub(crate) fn start(agent: &Agent, asked: UnboundedReceiver<Asked>) {
    let core = Core::new(Subjects::new("selfheal"));
    let seat = Seat { core, is_leading: false, is_caught_up: false };
    let seat = Rc::new(RefCell::new(seat));
    *agent.world.node(agent.node).seat.borrow_mut() = Some(Rc::clone(&seat));
    agent.spawn(answer(agent.clone(), Rc::clone(&seat), asked));
    let office = Office {
        agent: agent.clone(),
        lanes: Lanes::of_agent(),
        seat,
        vigil: Rc::default(),
        is_from_start: Rc::default(),
        shortening: Rc::default(),
    };
    agent.spawn(missed::watch(office.clone()));
    agent.spawn(file::follow(office.clone()));
    agent.spawn(lending::fill(office.clone()));
    agent.spawn(async move { office.run().await });
}

impl Office {
    async fn run(&self) {
        loop {
            self.begin().await;
            self.catch_up().await;
            let Some(lease) = self.follow().await else { continue };
            self.seat.borrow_mut().is_leading = true;
            self.agent.say(|| format!("leads, epoch {}", lease.epoch));
            let is_over = Rc::new(Cell::new(false));
            self.agent.spawn(missed::look(self.clone(), Rc::clone(&is_over)));
            reign::lead(self, &lease).await;
            is_over.set(true);
            self.agent.say(|| "follows".to_owned());
            let mut seat = self.seat.borrow_mut();
            (seat.is_leading, seat.is_caught_up) = (false, false);
            self.agent.world.node(self.agent.node).leads_since.set(None);
        }
    }

    /// Begins with a snapshot, or with the first message of the ledger, as `recovery::begin`.
    async fn begin(&self) {
        let (agent, world) = (&self.agent, &self.agent.world);
        world.node(agent.node).disk.borrow_mut().forget_backlog();
        self.seat.borrow_mut().is_caught_up = false;
        let (mut search, mut is_first) = (Search::default(), true);
        loop {
            match search.step() {
                Step::Look => {
                    if !std::mem::take(&mut is_first) {
                        agent.sleep(recovery::AGAIN).await;
                    }
                    search.look(&self.look().await);
                }
                Step::Start => {
                    self.is_from_start.set(true);
                    return self.seat.borrow_mut().core.reset(Desk::default(), 0);
                }
                Step::Read(seq) => {
                    if self.begin_with(&mut search, seq).await {
                        return;
                    }
                }
                // The process ends, and is started again.
                Step::NotGiven => search = Search::default(),
                Step::GiveUp => {
                    let member = &agent.member;
                    let why = format!("{member} finds no snapshot for the ledger that is left");
                    return world.fail("a supervisor can begin", why);
                }
            }
        }
    }

    /// Looks what there is to begin with.
    async fn look(&self) -> Found {
        let agent = &self.agent;
        loop {
            let fill = agent.call(Op::LedgerFill, TRY).await;
            let listed = agent.call(Op::SnapshotList, TRY).await;
            if let (Some(Reply::Fill(fill)), Some(Reply::Snapshots(snapshots))) = (fill, listed) {
                let (ledger_first, ledger_last) = (fill.first_seq, fill.last_seq);
                let log_entry = agent.world.node(agent.node).disk.borrow().last_entry();
                return Found { ledger_first, ledger_last, snapshots, log_entry };
            }
            agent.sleep(AGAIN).await;
        }
    }

    /// Begins with a snapshot. Returns whether that was possible.
    async fn begin_with(&self, search: &mut Search, seq: u64) -> bool {
        let (agent, world) = (&self.agent, &self.agent.world);
        let desk = match archive::load(self, seq).await {
            Some(Ok(desk)) => desk,
            unreadable => {
                search.unreadable(unreadable.is_none());
                return false;
            }
        };
        let mut disk = world.node(agent.node).disk.borrow_mut();
        match search.read(desk.n_decisions(), disk.last_seq()) {
            Use::Pass => return false,
            Use::Whole => disk.has_whole(seq),
            // What is missing must be remembered, for which there must be room: without, the
            // process ends, and is started again.
            Use::LeaveOut(_) if !disk.has_room(agent.now()) => {
                *search = Search::default();
                return false;
            }
            Use::LeaveOut(up_to) => {
                agent.say(|| format!("lacks the lines {} to {up_to}", disk.last_seq() + 1));
                disk.leave_out(up_to);
            }
        }
        agent.say(|| format!("begins with the snapshot behind message {seq}"));
        self.is_from_start.set(false);
        self.seat.borrow_mut().core.reset(desk, seq);
        true
    }

    /// Folds all that is stored.
    async fn catch_up(&self) {
        let last = self.last().await;
        while self.seat.borrow().core.ledger_seq() < last {
            let after = self.seat.borrow().core.ledger_seq();
            match self.agent.call(Op::LedgerRead { after }, TRY).await {
                Some(Reply::Ledger(messages)) => self.fold(&messages).await,
                // It was shortened meanwhile.
                Some(Reply::Purged) => self.begin().await,
                _ => {}
            }
        }
        self.seat.borrow_mut().is_caught_up = true;
    }

    async fn last(&self) -> u64 {
        loop {
            if let Some(Reply::Last(last)) = self.agent.call(Op::LedgerLast, TRY).await {
                return last;
            }
            self.agent.sleep(AGAIN).await;
        }
    }

    /// Folds what comes, until the lease is ours and all is folded that was decided before. `None`
    /// when what comes next is not there any more.
    async fn follow(&self) -> Option<lease::Lease> {
        let mut lead = std::pin::pin!(lease::lead(&self.agent));
        let lease = loop {
            let after = self.seat.borrow().core.ledger_seq();
            tokio::select! {
                biased;
                lease = &mut lead => break lease,
                () = self.agent.sleep(scribe::TRY_AGAIN), if self.is_failing() => {
                    scribe::write(&self.agent, &Lines::default());
                    self.sync().await;
                }
                reply = self.agent.call(Op::LedgerRead { after }, LONG_POLL) => {
                    match reply {
                        Some(Reply::Ledger(messages)) => self.fold(&messages).await,
                        Some(Reply::Purged) => return None,
                        _ => {}
                    }
                }
            }
        };
        self.catch_up().await;
        Some(lease)
    }

    /// Takes the state that was made of the same messages before, as far as our log has their lines.
    fn skip(&self, messages: &[LedgerMessage]) {
        let (agent, world) = (&self.agent, &self.agent.world);
        let mut seat = self.seat.borrow_mut();
        let after = seat.core.ledger_seq();
        let Some(last) = messages.last().filter(|_| self.is_from_start.get()) else { return };
        let Some((seq, desk)) = world.desks.within(after, last.seq) else { return };
        if world.node(agent.node).disk.borrow().last_seq() <= desk.n_decisions() {
            return;
        }
        let mut snapshots = seat.core.snapshots().clone();
        let skipped = messages.iter().filter(|it| after < it.seq && it.seq <= seq);
        skipped.for_each(|it| snapshots.grown(it.seq, it.payload.len()));
        seat.core.reset(desk, seq);
        *seat.core.snapshots_mut() = snapshots;
    }

    async fn fold(&self, messages: &[LedgerMessage]) {
        let (agent, disk) = (&self.agent, &self.agent.world.node(self.agent.node).disk);
        self.skip(messages);
        for message in messages {
            let mut seat = self.seat.borrow_mut();
            if message.seq != seat.core.ledger_seq() + 1 {
                continue;
            }
            let from = disk.borrow().last_seq().max(1);
            match seat.core.fold(message.seq, &message.payload, from) {
                Ok(lines) => {
                    drop(seat);
                    scribe::write(agent, &lines);
                }
                Err(error) => agent.world.fail("a ledger can be folded", told(&error)),
            }
        }
        self.sync().await;
    }

    fn is_failing(&self) -> bool {
        self.agent.world.node(self.agent.node).disk.borrow().is_failing()
    }

    /// Syncs what is written of the log.
    async fn sync(&self) {
        let agent = &self.agent;
        agent.output().await;
        agent.sleep(scribe::sync_time(agent)).await;
        let mut disk = agent.world.node(agent.node).disk.borrow_mut();
        let all = disk.last_seq();
        disk.sync(all);
    }
}

fn told(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

/// Answers questions, once all that is stored has been folded, whoever leads.
async fn answer(agent: Agent, seat: Rc<RefCell<Seat>>, mut asked: UnboundedReceiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        let Asked::Open(sender) = asked else { continue };
        if !seat.borrow().is_caught_up || agent.world.is_cut(agent.node) {
            continue;
        }
        // As old as the moment of the answer: a monitor counts from its question.
        let asked_at = agent.instant();
        let mut open = Open { asked_at, by_monitors: BTreeMap::new(), all: BTreeMap::new() };
        for incident in seat.borrow().core.desk().open_incidents() {
            let Some(target) = incident.target.clone() else { continue };
            let kind = incident.event.kind.to_string();
            if &*incident.event.source == SOURCE {
                open.by_monitors.entry(target.clone()).or_default().insert(kind.clone());
            }
            open.all.entry(target).or_default().insert(kind);
        }
        let way = agent.world.net.way(&agent.world);
        agent.world.sim.after(way, move |_| drop(sender.send(open)));
    }
}
