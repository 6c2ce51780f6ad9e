//! The fixer: orders are judged by `fixer::attempt`, remembered by `fixer::memory`; claims
//! and reports are as in `fixer::orders`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use ::fixer::{
    AllowList, Ended, Tools,
    attempt::{Attempt, Holder, Next, Outlook, report_id},
    memory::{Memory, Seen},
};
use bus::{ClaimRecord, topology::CLAIM_TTL};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    action::Action,
    wire::{
        Claim, Envelope, FixMode, FixOrder, FixOutcome, FixReport, Input, Refusal, StepReport,
        WorkKind,
    },
};
use tokio::sync::Notify;

use super::{
    Agent,
    hand::{self, Fate},
    lane::Lanes,
};
use crate::{
    broker::{Job, Op, Reply},
    bug::Bug,
    clock::{Micros, micros, utc},
    targets::{Failure, Targets},
    world::Kind,
};

const LOOK_AGAIN: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
const TRY: Duration = Duration::from_secs(2);

/// Orders wait here for others on the same target.
#[derive(Default)]
struct Turns(RefCell<BTreeMap<String, u32>>, Notify);

/// The right to act on an order, as `bus::Holding` gives it.
struct Tenure {
    key: String,
    claim: Claim,
    seq: Cell<u64>,
    /// When the last renewal was sent that was acknowledged.
    sent: Cell<Micros>,
    ends_at: DateTime<Utc>,
}

struct Bench {
    agent: Agent,
    lanes: Lanes,
    memory: Memory,
    turns: Turns,
    tools: std::sync::Arc<Tools>,
    n_claims: Cell<u64>,
}

pub(crate) fn start(agent: &Agent) {
    let scene = &agent.world.scene;
    let tools = tools(scene.allows[agent.node - 1].clone());
    if scene.allows[agent.node - 1].is_some() {
        // All configurations of a scene have the same targets, or fewer.
        tools.targets().set(&scene.configs[0].targets);
    }
    let bench = Rc::new(Bench {
        agent: agent.clone(),
        lanes: Lanes::default(),
        memory: Memory::default(),
        turns: Turns::default(),
        tools,
        n_claims: Cell::new(0),
    });
    let work = move |job: Job| {
        let bench = Rc::clone(&bench);
        async move { bench.handle(job).await }
    };
    agent.spawn(hand::serve(agent.clone(), WorkKind::Fix, 4, work));
}

/// Returns the tools of a fixer that allows what it is told, or all.
fn tools(allow: Option<String>) -> std::sync::Arc<Tools> {
    let args = ::fixer::Args {
        state_dir: std::path::PathBuf::from("/nonexistent"),
        parallel: 4,
        allow: allow.or_else(|| Some("all".to_owned())),
        allow_file: None,
    };
    let allow = AllowList::load(&args).unwrap_or_default();
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    std::sync::Arc::new(Tools::new(allow, args.state_dir, tasks, stop))
}

impl Bench {
    async fn handle(&self, job: Job) -> Fate {
        let order: FixOrder = serde_json::from_slice(&job.payload).expect("orders can be read");
        let agent = &self.agent;
        let key = (order.work.incident, order.claim_key());
        let entry = match self.memory.enter(key) {
            Seen::First(entry) => entry,
            Seen::UnderWay => return Fate::Later(LOOK_AGAIN),
            Seen::Reported(report) => return self.report(*report).await,
        };
        let _turn = self.turn(&order.plan.target).await;
        let begun = agent.now();
        let permitted = self.tools.permits(&order);
        let mut attempt = Attempt::new(order, &agent.member, permitted, utc(agent.now()));
        if agent.world.bug(Bug::FixerIgnoresNotAfter) {
            attempt = self.as_if_in_time(&attempt);
        }
        let (holder, tenure) = match self.claim(&attempt).await {
            Ok(claimed) => claimed,
            Err(fate) => return fate,
        };
        let late = agent.world.bug(Bug::FixerIgnoresNotAfter);
        let now = if late { attempt.order().not_after } else { utc(agent.now()) };
        // Between its claim and its first step it hurts, too.
        agent.world.freeze(agent.node, 6);
        let ended = match attempt.claimed(&holder, now) {
            Next::Report(ended) => *ended,
            Next::Wait(wait) => return Fate::Later(wait),
            Next::CarryOut => self.carry_out(attempt.order(), tenure.as_ref()).await,
            Next::Held(record) => match self.held(&attempt, &record).await {
                Ok(ended) => ended,
                Err(fate) => return fate,
            },
        };
        let took = Duration::from_micros(agent.now() - begun);
        let report = attempt.report(ended, took);
        agent.say(|| {
            let work = report.work;
            format!("{} attempt {} ended: {:?}", work.incident, work.attempt, report.outcome)
        });
        entry.reported(&report);
        self.report(report).await
    }

    fn as_if_in_time(&self, attempt: &Attempt) -> Attempt {
        let order = attempt.order().clone();
        let permitted = self.tools.permits(&order);
        let in_time = order.not_after;
        Attempt::new(order, &self.agent.member, permitted, in_time)
    }

    async fn turn(&self, target: &str) -> Turn<'_> {
        while self.turns.0.borrow().contains_key(target) {
            self.turns.1.notified().await;
        }
        self.turns.0.borrow_mut().insert(target.to_owned(), 1);
        Turn(&self.turns, target.to_owned())
    }

    async fn claim(&self, attempt: &Attempt) -> Result<(Holder, Option<Tenure>), Fate> {
        let agent = &self.agent;
        if agent.world.bug(Bug::FixerSkipsClaim) {
            return Ok((Holder::Us, None));
        }
        let order = attempt.order();
        let claim = lasting(attempt.claim(self.new_id(), agent.utc()), attempt.first_step());
        let key = format!("{}.{}", order.work.incident, order.claim_key());
        let sent = agent.now();
        let ours = |seq: u64| {
            let (key, claim, ends_at) = (key.clone(), claim.clone(), attempt.ends_at());
            let (seq, sent) = (Cell::new(seq), Cell::new(sent));
            (Holder::Us, Some(Tenure { key, claim, seq, sent, ends_at }))
        };
        loop {
            let op = Op::Claim { key: key.clone(), claim: claim.clone() };
            match agent.call(op, TRY).await {
                Some(Reply::Stored(seq)) => return Ok(ours(seq)),
                _ => {
                    // Taken by another, or by our own try whose answer was lost.
                    let op = Op::Holder { key: key.clone() };
                    if let Some(Reply::Holder(Some(holder))) = agent.call(op, TRY).await {
                        let is_ours = holder.claim.id == claim.id;
                        return Ok(if is_ours {
                            ours(holder.seq)
                        } else {
                            (Holder::Other(holder), None)
                        });
                    }
                }
            }
            if attempt.is_too_late(utc(agent.now())) {
                return Err(Fate::Later(LOOK_AGAIN));
            }
            agent.sleep(RETRY).await;
        }
    }

    fn new_id(&self) -> String {
        self.n_claims.set(self.n_claims.get() + 1);
        format!("{}-{}", self.agent.member, self.n_claims.get())
    }

    /// An attempt that another one has claimed.
    async fn held(&self, attempt: &Attempt, record: &ClaimRecord) -> Result<Ended, Fate> {
        let (agent, who) = (&self.agent, record.claim.by.as_str());
        let runs = |node: usize| agent.world.is_up(node) && agent.world.member(node) == who;
        let mut is_gone =
            !agent.world.all(Kind::Fixer).into_iter().any(runs) || who == &*agent.member;
        if agent.world.bug(Bug::StepsWithoutLease) {
            is_gone |= !agent.world.members.borrow().contains_key(who);
        }
        let ended = match attempt.held(record, is_gone, utc(agent.now())) {
            Outlook::TakeOver(ended) => *ended,
            Outlook::Wait(wait) => return Err(Fate::Later(wait)),
        };
        let claim = attempt.fence(self.new_id(), agent.utc());
        let order = attempt.order();
        let key = format!("{}.{}", order.work.incident, order.claim_key());
        match agent.call(Op::Renew { key, seen: record.seq, claim }, TRY).await {
            Some(Reply::Stored(_)) => Ok(ended),
            _ => Err(Fate::Later(LOOK_AGAIN)),
        }
    }

    /// Makes sure, before a step, that nobody takes over while it lasts.
    async fn assure(&self, tenure: Option<&Tenure>, acts_for: Duration) -> Result<(), String> {
        let agent = &self.agent;
        let Some(it) = tenure else { return Ok(()) };
        if agent.world.bug(Bug::StepsWithoutLease) {
            return Ok(());
        }
        let ends_at = it.ends_at - TimeDelta::from_std(acts_for).unwrap_or_default();
        while utc(agent.now()) <= ends_at {
            let (key, seen) = (it.key.clone(), it.seq.get());
            let claim = lasting(it.claim.clone(), acts_for);
            let sent = agent.now();
            match agent.call(Op::Renew { key: key.clone(), seen, claim }, TRY).await {
                Some(Reply::Stored(seq)) => {
                    it.seq.set(seq);
                    it.sent.set(sent);
                }
                _ => {
                    if let Some(Reply::Holder(found)) = agent.call(Op::Holder { key }, TRY).await {
                        let ours = found.filter(|it| it.claim.id == tenure_id(tenure));
                        let Some(ours) = ours else { return Err("the claim was lost".to_owned()) };
                        it.seq.set(ours.seq);
                    }
                    agent.sleep(RETRY).await;
                    continue;
                }
            }
            if agent.now() < it.sent.get() + micros(CLAIM_TTL) {
                return Ok(());
            }
        }
        Err("its time is over".to_owned())
    }

    async fn carry_out(&self, order: &FixOrder, tenure: Option<&Tenure>) -> Ended {
        let mut steps = Vec::new();
        match order.mode {
            FixMode::Apply => {
                for (idx, step) in order.plan.steps.iter().enumerate() {
                    let assured = self.assure(tenure, step.longest().to_std()).await;
                    let assured = assured.map_err(|reason| (Refusal::Recalled, reason));
                    let begins = assured.and_then(|()| match self.too_late(order) {
                        Some(why) if idx == 0 => Err(why),
                        Some(_) | None => Ok(()),
                    });
                    if let Err((code, reason)) = begins {
                        self.lost(order);
                        let outcome = if steps.is_empty() {
                            FixOutcome::Refused { reason, code }
                        } else {
                            FixOutcome::Unknown { reason }
                        };
                        return Ended { outcome, steps, undone: false };
                    }
                    let ok = self.step(order, idx, &step.action, false, &mut steps).await;
                    let Err(Failure { reason, is_refusal }) = ok else { continue };
                    if is_refusal && idx == 0 {
                        let outcome = FixOutcome::Refused { reason, code: Refusal::Other };
                        return Ended { outcome, steps, undone: false };
                    }
                    let itself = usize::from(!self.agent.world.bug(Bug::FailedStepStays));
                    let begun: Vec<usize> = (0..idx + itself).rev().collect();
                    let whole = order.plan.steps.iter().take(idx).all(|it| it.undo.is_some());
                    let any = order.plan.steps.iter().take(idx + 1).any(|it| it.undo.is_some());
                    let undone = self.undo(order, tenure, begun, &mut steps).await && whole && any;
                    return Ended { outcome: FixOutcome::Failed { reason }, steps, undone };
                }
                Ended { outcome: FixOutcome::Succeeded, steps, undone: false }
            }
            FixMode::Undo => {
                let all = (0..order.plan.steps.len()).rev().collect();
                let ok = self.undo(order, tenure, all, &mut steps).await;
                let failed = FixOutcome::Failed { reason: "it cannot be taken back".to_owned() };
                let outcome = if ok { FixOutcome::Succeeded } else { failed };
                Ended { outcome, steps, undone: false }
            }
        }
    }

    async fn undo(
        &self,
        order: &FixOrder,
        tenure: Option<&Tenure>,
        back: Vec<usize>,
        done: &mut Vec<StepReport>,
    ) -> bool {
        let mut all = true;
        for idx in back {
            let Some(step) = order.plan.steps.get(idx) else { continue };
            let Some(undo) = &step.undo else { continue };
            if self.assure(tenure, step.undo_longest().to_std()).await.is_err() {
                self.lost(order);
                return false;
            }
            all &= self.step(order, idx, undo, true, done).await.is_ok();
        }
        all
    }

    fn too_late(&self, order: &FixOrder) -> Option<(Refusal, String)> {
        let is_late = order.not_after < utc(self.agent.now());
        let counts = is_late && !self.agent.world.bug(Bug::FixerIgnoresNotAfter);
        counts.then(|| (Refusal::TooLate, "too late".to_owned()))
    }

    /// Notes for the laws that nothing more may be done about an order.
    fn lost(&self, order: &FixOrder) {
        self.agent.say(|| format!("{} may not be carried on", order.work.incident));
        self.agent.world.laws.borrow_mut().acts.lost(order);
    }

    async fn step(
        &self,
        order: &FixOrder,
        step_idx: usize,
        action: &Action,
        is_back: bool,
        done: &mut Vec<StepReport>,
    ) -> Result<(), Failure> {
        let step = &order.plan.steps[step_idx];
        let (agent, world) = (&self.agent, &self.agent.world);
        agent.output().await;
        let begun = agent.now();
        let Some(idx) = world.targets.acted_upon(action) else {
            return Err(Failure::new(format!("nothing is there for {action}")));
        };
        agent.say(|| {
            let work = order.work;
            format!("{} attempt {} step `{}`: {action}", work.incident, work.attempt, step.name)
        });
        world.laws.borrow_mut().effect(world, order, step_idx, is_back, idx);
        // It hurts most where more is to be done.
        world.freeze(agent.node, if step_idx + 1 < order.plan.steps.len() { 25 } else { 4 });
        let (restarts, starts) = match action {
            Action::ProcessRestart { .. } | Action::DockerRestart { .. } => (true, true),
            Action::DockerStart { .. } => (false, true),
            Action::DockerStop { .. } => (true, false),
            Action::CommandRun { .. } | Action::HttpRequest { .. } | Action::DiskClean { .. } => {
                (false, false)
            }
        };
        let act = async {
            match action {
                Action::ProcessRestart { .. } => Targets::restart(world, idx, &order.plan).await,
                _ => Targets::treat(world, idx, restarts, starts).await.map_err(Failure::new),
            }
        };
        let result = tokio::select! {
            biased;
            result = act => result,
            () = agent.sleep(step.timeout.to_std()) => Err(Failure::new("it did not end in time")),
        };
        agent.output().await;
        let took_ms = (agent.now() - begun) / 1000;
        let (ok, summary) = match &result {
            Ok(summary) => (true, summary.clone()),
            Err(failure) => (false, failure.reason.clone()),
        };
        let (name, action) = (step.name.clone(), action.to_string());
        done.push(StepReport { name, action, ok, summary, output: String::new(), took_ms });
        result.map(drop).map_err(|it| {
            let reason = format!("step `{}`: {}", step.name, it.reason);
            Failure { reason, ..it }
        })
    }

    async fn report(&self, report: FixReport) -> Fate {
        let id = report_id(&report);
        let envelope = Envelope::new(&id, Input::Fix(report));
        while self.lanes.submit(&self.agent, &envelope).await.is_err() {
            self.agent.sleep(RETRY).await;
        }
        Fate::Done
    }
}

/// A claim that announces how long its holder may act.
fn lasting(claim: Claim, acts_for: Duration) -> Claim {
    let lease_ms = u64::try_from((CLAIM_TTL + acts_for).as_millis()).ok();
    Claim { lease_ms, ..claim }
}

fn tenure_id(tenure: Option<&Tenure>) -> &str {
    tenure.map_or("", |it| &it.claim.id)
}

struct Turn<'a>(&'a Turns, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
        self.0.1.notify_waiters();
    }
}
