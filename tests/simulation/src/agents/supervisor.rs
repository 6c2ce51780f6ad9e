//! The supervisor: `supervisor::core` decides. The shell is as `following` and `reign`:
//! fold, wait for the lease, lead, and begin anew when another one leads.

mod bugs;
mod file;
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
use ::supervisor::core::{Core, Error, agents::Vigil};
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
}

pub(crate) fn start(agent: &Agent, asked: UnboundedReceiver<Asked>) {
    let core = Core::new(Subjects::new("selfheal"));
    let seat = Seat { core, is_leading: false, is_caught_up: false };
    let seat = Rc::new(RefCell::new(seat));
    *agent.world.node(agent.node).seat.borrow_mut() = Some(Rc::clone(&seat));
    agent.spawn(answer(agent.clone(), Rc::clone(&seat), asked));
    let vigil = Rc::default();
    let office = Office { agent: agent.clone(), lanes: Lanes::default(), seat, vigil };
    agent.spawn(missed::watch(office.clone()));
    agent.spawn(file::follow(office.clone()));
    agent.spawn(async move { office.run().await });
}

impl Office {
    async fn run(&self) {
        loop {
            self.seat.borrow_mut().core.reset(Desk::default(), 0);
            self.catch_up().await;
            let lease = self.follow().await;
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

    /// Folds all that is stored.
    async fn catch_up(&self) {
        let last = self.last().await;
        while self.seat.borrow().core.ledger_seq() < last {
            let after = self.seat.borrow().core.ledger_seq();
            if let Some(Reply::Ledger(messages)) =
                self.agent.call(Op::LedgerRead { after }, TRY).await
            {
                self.fold(&messages).await;
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

    /// Folds what comes, until the lease is ours and all is folded that was decided before.
    async fn follow(&self) -> lease::Lease {
        let mut lead = std::pin::pin!(lease::lead(&self.agent));
        let lease = loop {
            let after = self.seat.borrow().core.ledger_seq();
            tokio::select! {
                biased;
                lease = &mut lead => break lease,
                reply = self.agent.call(Op::LedgerRead { after }, LONG_POLL) => {
                    if let Some(Reply::Ledger(messages)) = reply {
                        self.fold(&messages).await;
                    }
                }
            }
        };
        self.catch_up().await;
        lease
    }

    async fn fold(&self, messages: &[LedgerMessage]) {
        let (agent, disk) = (&self.agent, &self.agent.world.node(self.agent.node).disk);
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
        agent.output().await;
        agent.sleep(scribe::sync_time(agent)).await;
        let mut disk = disk.borrow_mut();
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
