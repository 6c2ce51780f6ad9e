//! One target under watch: `monitor::vigil` thinks, this looks.
//!
//! While a target stays as it is and all is said, further looks change nothing, so none is
//! taken until something happens. Nothing else differs from looking all the time.

use std::{sync::Arc, time::Duration};

use ::monitor::{
    report::Change,
    sample::{Finding, Outcome},
    vigil::Vigil,
    watch::{Note, Standing},
};
use domain::{
    check::Check,
    event::Status,
    target::Target,
    wire::{Envelope, Input},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Agent, monitor::Post};
use crate::{
    bug::Bug,
    clock::{MS, Micros, micros},
};

/// A look that is not answered takes so long.
const UNSEEN: Duration = Duration::from_millis(1500);
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// After so many looks of each check at the same state, nothing new can come of more.
const LOOKS_MAX: u32 = 12;

/// A report that was stored: of this condition, with this status.
type Sent = (usize, Status);

pub(crate) struct Watch {
    agent: Agent,
    post: Post,
    idx: usize,
    standing: Arc<Standing>,
    vigil: Vigil,
    checks: Vec<Check>,
    /// When each check is looked at next, and how often it was since something happened.
    next: Vec<(Micros, u32)>,
    sent: UnboundedSender<Sent>,
    stored: UnboundedReceiver<Sent>,
}

impl Watch {
    pub(crate) fn new(
        agent: &Agent,
        post: &Post,
        target: Arc<Target>,
        idx: usize,
        standing: Arc<Standing>,
    ) -> Self {
        let (sent, stored) = unbounded_channel();
        let vigil = Vigil::new((&*agent.member).into(), target, Arc::clone(&standing));
        let checks = vigil.checks().to_vec();
        let next = checks.iter().map(|_| (agent.now(), 0)).collect();
        let (agent, post) = (agent.clone(), post.clone());
        Self { agent, post, idx, standing, vigil, checks, next, sent, stored }
    }

    pub(crate) async fn run(mut self, mut notes: UnboundedReceiver<Note>) {
        let world = std::rc::Rc::clone(&self.agent.world);
        let spot = &world.targets.spots[self.idx];
        loop {
            let changed = spot.changed.notified();
            self.look().await;
            self.report();
            let next = self.next_look();
            tokio::select! {
                biased;
                Some((condition_idx, status)) = self.stored.recv() => {
                    self.vigil.sent(condition_idx, status, self.agent.instant());
                    self.disturb(false);
                }
                note = notes.recv() => match note {
                    Some(note) => {
                        let wanted = self.vigil.heed(&note, self.agent.instant());
                        self.disturb(!wanted.is_empty());
                    }
                    None => return,
                },
                () = changed => self.changed(),
                () = wait(&self.agent, next) => {}
            }
        }
    }

    /// Something has happened: all checks are looked at for a while; `soon`: at once.
    fn disturb(&mut self, soon: bool) {
        let now = self.agent.now();
        for (next, n_looks) in &mut self.next {
            *n_looks = 0;
            if soon {
                *next = now;
            }
        }
    }

    /// The platform tells of the end and the start of a process or container at once;
    /// everything else is seen at the next look.
    fn changed(&mut self) {
        self.disturb(false);
        let now = self.agent.now();
        for ((next, _), check) in self.next.iter_mut().zip(&self.checks) {
            let every = micros(check.every.to_std());
            if check.process == Some(true) || check.docker == Some(true) {
                *next = now;
            } else if *next <= now {
                // Where in its period the look falls is as good as any other place.
                *next = now + now % every.max(1);
            }
        }
    }

    async fn look(&mut self) {
        let now = self.agent.now();
        let begun = self.agent.begun();
        let mut looks = Vec::new();
        let mut slowest = Duration::ZERO;
        for (check_idx, check) in self.checks.iter().enumerate() {
            if self.is_settled(check_idx) || now < self.next[check_idx].0 {
                continue;
            }
            let (finding, took) = self.agent.world.targets.look(self.idx, check, now);
            let (finding, took) = seen(&self.agent, finding, took);
            slowest = slowest.max(took);
            looks.push((check_idx, finding, took));
        }
        if 5 <= slowest.as_millis() {
            self.agent.sleep(slowest).await;
        }
        let now = self.agent.now();
        for (check_idx, finding, took) in looks {
            let check = &self.checks[check_idx];
            let failed = finding.outcome == Outcome::Failed;
            let doubted = self.vigil.take(check_idx, begun.ended_after(took, finding));
            let every = micros(check.every.to_std());
            let is_sure = self.standing.is_sick(&check.label());
            let wait = if failed && !is_sure { every / 2 } else { every };
            let (next, n_looks) = &mut self.next[check_idx];
            (*next, *n_looks) = (now + wait, *n_looks + 1);
            for idx in doubted {
                self.next[idx] = (now, 0);
            }
        }
    }

    /// Returns whether more of the same looks of a check could change nothing.
    fn is_settled(&self, check_idx: usize) -> bool {
        LOOKS_MAX <= self.next[check_idx].1 && self.is_at_rest()
    }

    fn is_at_rest(&self) -> bool {
        let is_sick = self.checks.iter().any(|it| self.standing.is_sick(&it.label()));
        let is_well = self.checks.iter().all(|it| self.standing.is_well(&it.label()));
        is_sick && self.standing.is_firing() || is_well && !self.standing.is_firing()
    }

    fn next_look(&self) -> Option<Micros> {
        let wanted = (0..self.next.len()).filter(|idx| !self.is_settled(*idx));
        wanted.map(|idx| self.next[idx].0).min()
    }

    fn report(&mut self) {
        let (agent, n_changes) = (self.agent.clone(), &self.post.n_changes);
        let id = || {
            n_changes.set(n_changes.get() + 1);
            format!("{}-{}-{}", agent.member, agent.utc().timestamp_millis(), n_changes.get())
        };
        for (condition_idx, change) in self.vigil.due(self.agent.instant(), id) {
            let (agent, post, sent) = (self.agent.clone(), self.post.clone(), self.sent.clone());
            self.agent.spawn(async move {
                deliver(&agent, &post, change, condition_idx, &sent).await;
            });
        }
    }
}

/// Returns what a monitor sees of a finding: on a busy host the answer may not come in time.
pub(super) fn seen(agent: &Agent, finding: Finding, took: Duration) -> (Finding, Duration) {
    if !agent.world.is_unseen() {
        return (finding, took);
    }
    if agent.world.bug(Bug::UnseenCountsAsWell) {
        return (Finding { outcome: Outcome::Passed, ..finding }, took);
    }
    (Finding::unseen("no answer in time"), UNSEEN)
}

async fn wait(agent: &Agent, next: Option<Micros>) {
    match next {
        Some(at) => {
            let wait = at.saturating_sub(agent.now()).max(MS);
            crate::sim::Sim::sleep(&agent.world, wait).await;
        }
        None => std::future::pending().await,
    }
}

/// Sends a change until it is stored, or nobody watches the target here any more.
async fn deliver(
    agent: &Agent,
    post: &Post,
    change: Change,
    condition_idx: usize,
    sent: &UnboundedSender<Sent>,
) {
    let status = change.status;
    agent.say(|| format!("{} is {status:?}", change.target.name));
    let envelope = Envelope::new(change.id.clone(), Input::Event(change.bare_event()));
    let mut again = AGAIN_MIN;
    while !sent.is_closed() {
        if post.lanes.submit(agent, &envelope).await.is_ok() {
            sent.send((condition_idx, status)).ok();
            return;
        }
        agent.sleep(again).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}
