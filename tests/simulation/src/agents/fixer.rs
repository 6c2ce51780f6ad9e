//! The fixer: orders are judged by `fixer::attempt`, remembered by `fixer::memory`; claims
//! and reports are as in `fixer::orders`.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use ::fixer::{
    AllowList, Ended, Tools,
    attempt::{Attempt, Holder, Next, report_id},
    memory::{Memory, Seen},
};
use domain::{
    action::Action,
    wire::{
        Claim, Envelope, FixMode, FixOrder, FixOutcome, FixReport, Input, StepReport, WorkKind,
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
    targets::Targets,
};

const LOOK_AGAIN: Duration = Duration::from_secs(2);
const SHOW_UP: Duration = Duration::from_millis(1500);
const RETRY: Duration = Duration::from_secs(1);
const TRY: Duration = Duration::from_secs(2);

/// Orders wait here for others on the same target.
#[derive(Default)]
struct Turns(RefCell<BTreeMap<String, u32>>, Notify);

struct Bench {
    agent: Agent,
    lanes: Lanes,
    memory: Memory,
    turns: Turns,
    tools: std::sync::Arc<Tools>,
    n_claims: std::cell::Cell<u64>,
}

pub(crate) fn start(agent: &Agent) {
    let bench = Rc::new(Bench {
        agent: agent.clone(),
        lanes: Lanes::default(),
        memory: Memory::default(),
        turns: Turns::default(),
        tools: tools(),
        n_claims: std::cell::Cell::new(0),
    });
    let work = move |job: Job| {
        let bench = Rc::clone(&bench);
        async move { bench.handle(job).await }
    };
    agent.spawn(hand::serve(agent.clone(), WorkKind::Fix, 4, work));
}

/// Returns the tools of a fixer that allows what it allows by default.
fn tools() -> std::sync::Arc<Tools> {
    let args = ::fixer::Args {
        state_dir: std::path::PathBuf::from("/nonexistent"),
        parallel: 4,
        allow: None,
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
        let mut attempt = Attempt::new(order, &agent.member, permitted, agent.utc());
        if agent.world.bug(Bug::FixerIgnoresNotAfter) {
            attempt = self.as_if_in_time(&attempt);
        }
        let holder = match self.claim(&attempt).await {
            Ok(holder) => holder,
            Err(fate) => return fate,
        };
        let late = agent.world.bug(Bug::FixerIgnoresNotAfter);
        let now = if late { attempt.order().not_after } else { agent.utc() };
        let ended = match attempt.claimed(&holder, now) {
            Next::Report(ended) => *ended,
            Next::CarryOut => self.carry_out(attempt.order()).await,
            Next::AskFor(who) => match self.lost(&attempt, &holder, &who).await {
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

    async fn claim(&self, attempt: &Attempt) -> Result<Holder, Fate> {
        let agent = &self.agent;
        if agent.world.bug(Bug::FixerSkipsClaim) {
            return Ok(Holder::Us);
        }
        let order = attempt.order();
        self.n_claims.set(self.n_claims.get() + 1);
        let id = format!("{}-{}", agent.member, self.n_claims.get());
        let claim = attempt.claim(id, agent.utc());
        let key = format!("{}.{}", order.work.incident, order.claim_key());
        loop {
            let op = Op::Claim { key: key.clone(), claim: claim.clone() };
            match agent.call(op, TRY).await {
                Some(Reply::Won) => return Ok(Holder::Us),
                _ => {
                    // Taken by another, or by our own try whose answer was lost.
                    let op = Op::Holder { key: key.clone() };
                    if let Some(Reply::Holder(Some(holder))) = agent.call(op, TRY).await {
                        let is_ours = holder.id == claim.id;
                        return Ok(if is_ours { Holder::Us } else { Holder::Other(holder) });
                    }
                }
            }
            if attempt.expired(agent.utc()).is_some() {
                return Err(Fate::Later(LOOK_AGAIN));
            }
            agent.sleep(RETRY).await;
        }
    }

    async fn lost(&self, attempt: &Attempt, holder: &Holder, who: &str) -> Result<Ended, Fate> {
        let Holder::Other(claim) = holder else { return Err(Fate::Later(LOOK_AGAIN)) };
        let lives = self.lives(who, claim).await;
        match attempt.holder_lives(claim, lives) {
            Some(Next::Report(ended)) => Ok(*ended),
            Some(Next::CarryOut | Next::AskFor(_)) | None => Err(Fate::Later(LOOK_AGAIN)),
        }
    }

    /// Tells whether a fixer lives. While we do not see ourselves, we see nothing.
    async fn lives(&self, who: &str, _claim: &Claim) -> bool {
        let agent = &self.agent;
        let mut members = agent.world.node(agent.node).members.subscribe();
        let seen = tokio::select! {
            biased;
            seen = members.wait_for(|all| all.contains_key(who)) => seen.is_ok(),
            () = agent.sleep(SHOW_UP) => false,
        };
        let all = agent.world.node(agent.node).members.borrow();
        seen || !all.contains_key(&*agent.member)
    }

    async fn carry_out(&self, order: &FixOrder) -> Ended {
        let mut steps = Vec::new();
        match order.mode {
            FixMode::Apply => {
                for (idx, step) in order.plan.steps.iter().enumerate() {
                    let ok = self.step(order, idx, &step.action, false, &mut steps).await;
                    let Err(reason) = ok else { continue };
                    let done: Vec<usize> = (0..idx).rev().collect();
                    let before = order.plan.steps.iter().take(idx);
                    let whole = 0 < idx && before.clone().all(|it| it.undo.is_some());
                    let undone = self.undo(order, done, &mut steps).await && whole;
                    return Ended { outcome: FixOutcome::Failed { reason }, steps, undone };
                }
                Ended { outcome: FixOutcome::Succeeded, steps, undone: false }
            }
            FixMode::Undo => {
                let all = (0..order.plan.steps.len()).rev().collect();
                let ok = self.undo(order, all, &mut steps).await;
                let failed = FixOutcome::Failed { reason: "it cannot be taken back".to_owned() };
                let outcome = if ok { FixOutcome::Succeeded } else { failed };
                Ended { outcome, steps, undone: false }
            }
        }
    }

    async fn undo(&self, order: &FixOrder, back: Vec<usize>, done: &mut Vec<StepReport>) -> bool {
        let mut all = true;
        for idx in back {
            if let Some(undo) = order.plan.steps.get(idx).and_then(|it| it.undo.as_ref()) {
                all &= self.step(order, idx, undo, true, done).await.is_ok();
            }
        }
        all
    }

    async fn step(
        &self,
        order: &FixOrder,
        step_idx: usize,
        action: &Action,
        is_back: bool,
        done: &mut Vec<StepReport>,
    ) -> Result<(), String> {
        let step = &order.plan.steps[step_idx];
        let (agent, world) = (&self.agent, &self.agent.world);
        agent.output().await;
        let begun = agent.now();
        let Some(idx) = world.targets.acted_upon(action) else {
            return Err(format!("nothing is there for {action}"));
        };
        agent.say(|| {
            let work = order.work;
            format!("{} attempt {} step `{}`: {action}", work.incident, work.attempt, step.name)
        });
        world.laws.borrow_mut().effect(world, order, step_idx, is_back, idx);
        let (restarts, starts) = match action {
            Action::ProcessRestart { .. } | Action::DockerRestart { .. } => (true, true),
            Action::DockerStart { .. } => (false, true),
            Action::DockerStop { .. } => (true, false),
            Action::CommandRun { .. } | Action::HttpRequest { .. } | Action::DiskClean { .. } => {
                (false, false)
            }
        };
        let result = tokio::select! {
            biased;
            result = Targets::treat(world, idx, restarts, starts) => result,
            () = agent.sleep(step.timeout.to_std()) => Err("it did not end in time".to_owned()),
        };
        agent.output().await;
        let took_ms = (agent.now() - begun) / 1000;
        let (ok, summary) = match &result {
            Ok(summary) => (true, summary.clone()),
            Err(reason) => (false, reason.clone()),
        };
        let (name, action) = (step.name.clone(), action.to_string());
        done.push(StepReport { name, action, ok, summary, output: String::new(), took_ms });
        result.map(drop).map_err(|reason| format!("step `{}`: {reason}", step.name))
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

struct Turn<'a>(&'a Turns, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
        self.0.1.notify_waiters();
    }
}
