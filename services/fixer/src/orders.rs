//! From an order to its report: asked, claimed, carried out, reported, and only then
//! acknowledged.

use std::{sync::Arc, time::Duration};

use bus::{BrokerClock, Bus, ClaimRecord, Held, Holding, InboxWriter, Job, NotAccepted};
use chrono::Utc;
use domain::wire::{
    Envelope, FixMode, FixOrder, FixOutcome, FixReport, Input, InputKind, Refusal, WorkRef,
};
use metrics::counter;
use service::{
    Chain,
    trace::{self, KeyValue, Open, Role},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    actions::Tools,
    alive::{self, Alive},
    attempt::{Attempt, Holder, Next, Outlook, report_id},
    lease::Tenure,
    memory::{Memory, Seen},
    progress::Progress,
    runner::{Ended, carry_out},
    turns::Turns,
};

/// When an order comes again that somebody else is at work on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Wait between two tries to claim or to report while the broker is away.
const RETRY: Duration = Duration::from_secs(1);

/// Tries to report that are still made when this process must end.
const LAST_TRIES: u32 = 3;

/// What becomes of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its report is stored: it is done with.
    Reported,
    /// It is to come again.
    Later(Duration),
}

/// Handles orders.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) bus: Bus,
    pub(crate) writer: InboxWriter,
    pub(crate) tools: Arc<Tools>,
    pub(crate) progress: Progress,
    pub(crate) by: String,
    /// Shows other fixers of this host that this one runs, for as long as an order is handled.
    pub(crate) _alive: Option<Alive>,
    pub(crate) memory: Memory,
    pub(crate) turns: Turns,
    pub(crate) stop: CancellationToken,
}

impl Orders {
    /// Handles one piece of work, and keeps it ours meanwhile.
    pub(crate) async fn handle(&self, job: Job) {
        let keep_alive = job.keep_alive();
        let fate = match serde_json::from_slice::<FixOrder>(&job.payload) {
            Ok(order) => {
                let span = Open::below(job.trace, "fix", Role::Consumer);
                trace::within(span.context(), self.order(order, span)).await
            }
            Err(error) => self.unreadable(&job, &error).await,
        };
        // Before the last word: a sign of life after it would put the next delivery off.
        drop(keep_alive);
        match fate {
            Fate::Reported => job.ack().await,
            Fate::Later(delay) => job.nak(delay).await,
        }
    }

    async fn order(&self, order: FixOrder, mut span: Open) -> Fate {
        span.say(|| about(&order, &self.by));
        let key = (order.work.incident, order.claim_key());
        let entry = match self.memory.enter(key) {
            Seen::First(entry) => entry,
            Seen::UnderWay => return Fate::Later(LOOK_AGAIN),
            Seen::Reported(report) => return self.report(*report).await,
        };
        let _turn = self.turns.wait(&order.plan.target).await;
        let begun = Instant::now();
        let Some(clock) = self.clock(&order).await else { return Fate::Later(LOOK_AGAIN) };
        let permitted = self.tools.permits_soon(&order).await;
        let attempt = Attempt::new(order, &self.by, permitted, clock.latest());
        let claiming = Open::here("claim", Role::Internal);
        let claimed = self.claim(&attempt, &clock).await;
        drop(claiming);
        let (holder, holding) = match claimed {
            Ok(Held::Ours(holding)) => (Holder::Us, Some(holding)),
            Ok(Held::Other(record)) => (Holder::Other(record), None),
            Err(fate) => return fate,
        };
        let ended = match (attempt.claimed(&holder, clock.latest()), holding) {
            // Claimed even so: from here on "it was not begun" is true of all fixers.
            (Next::Report(ended), _) => *ended,
            (Next::CarryOut, Some(holding)) => self.carry_out(&attempt, holding, clock).await,
            (Next::Wait(wait), _) => return Fate::Later(wait),
            (Next::Held(record), _) => match self.held(&attempt, &record, &clock).await {
                Ok(ended) => ended,
                Err(fate) => return fate,
            },
            (Next::CarryOut, None) => return Fate::Later(LOOK_AGAIN),
        };
        let report = attempt.report(ended, begun.elapsed());
        self.tell(&attempt, &report, begun.elapsed());
        match &report.outcome {
            FixOutcome::Succeeded => {}
            FixOutcome::Failed { reason }
            | FixOutcome::Unknown { reason }
            | FixOutcome::Refused { reason, .. } => span.fail(reason.clone()),
        }
        entry.reported(&report);
        self.report(report).await
    }

    /// Learns the broker's time: what must not be begun too late is judged by it, and not by the
    /// clock of this host. `None` when this process must end.
    async fn clock(&self, order: &FixOrder) -> Option<BrokerClock> {
        loop {
            match self.bus.clock().await {
                Ok(clock) => return Some(clock),
                Err(error) => {
                    warn!(incident.id = %order.work.incident, error = %Chain(&error), "the broker did not report its time, retrying");
                }
            }
            self.stop.run_until_cancelled(sleep(RETRY)).await?;
        }
    }

    /// Claims, for as long as the order lives: a claim that may have been stored is
    /// settled here, under its id, or by nobody.
    async fn claim(&self, attempt: &Attempt, clock: &BrokerClock) -> Result<Held, Fate> {
        let claims = self.bus.claims();
        let (order, key) = (attempt.order(), attempt.order().claim_key());
        let claim = attempt.claim(uuid::Uuid::new_v4().to_string(), Utc::now());
        loop {
            let first_step = attempt.first_step();
            match claims.hold(&order.work.incident, &key, claim.clone(), first_step).await {
                Ok(held) => return Ok(held),
                Err(error) => {
                    warn!(incident.id = %order.work.incident, attempt = key, error = %Chain(&error), "an attempt could not be claimed, trying again");
                }
            }
            if attempt.is_too_late(clock.latest()) || self.stop.is_cancelled() {
                return Err(Fate::Later(LOOK_AGAIN));
            }
            sleep(RETRY).await;
        }
    }

    async fn carry_out(&self, attempt: &Attempt, holding: Holding, clock: BrokerClock) -> Ended {
        let lease = Tenure::new(holding, clock, attempt);
        carry_out(attempt.order(), &self.tools, &self.progress, &lease).await
    }

    /// An attempt that another one has claimed. It is over when its holder cannot act any more,
    /// and then it is made sure of that: its claim is replaced before anything is said about it.
    async fn held(
        &self,
        attempt: &Attempt,
        record: &ClaimRecord,
        clock: &BrokerClock,
    ) -> Result<Ended, Fate> {
        let (id, who) = (attempt.order().work.incident, &record.claim.by);
        // A claim of ours that this process does not hold was never followed by an action.
        let is_gone = *who == self.by || alive::is_proven_gone(&self.tools.state_dir, who);
        let ended = match attempt.held(record, is_gone, clock.earliest()) {
            Outlook::TakeOver(ended) => *ended,
            Outlook::Wait(wait) => {
                debug!(incident.id = %id, claimed_by = who, "an order is another fixer's");
                return Err(Fate::Later(wait));
            }
        };
        let fence = attempt.fence(uuid::Uuid::new_v4().to_string(), Utc::now());
        let key = attempt.order().claim_key();
        match self.bus.claims().take_over(&id, &key, record, &fence).await {
            Ok(true) => {
                info!(incident.id = %id, claimed_by = who, is_gone, "an attempt was begun by a fixer that cannot act any more");
                Ok(ended)
            }
            Ok(false) => Err(Fate::Later(LOOK_AGAIN)),
            Err(error) => {
                warn!(incident.id = %id, claimed_by = who, error = %Chain(&error), "a claim could not be replaced, trying again");
                Err(Fate::Later(LOOK_AGAIN))
            }
        }
    }

    fn tell(&self, attempt: &Attempt, report: &FixReport, took: Duration) {
        let outcome = match &report.outcome {
            FixOutcome::Succeeded => "succeeded",
            FixOutcome::Failed { .. } => "failed",
            FixOutcome::Unknown { .. } => "unknown",
            FixOutcome::Refused { .. } => "refused",
        };
        counter!("selfheal_fixer_orders_total", "outcome" => outcome).increment(1);
        let (work, plan) = (report.work, &attempt.order().plan);
        info!(incident.id = %work.incident, attempt = work.attempt, target.name = plan.target, runbook = plan.runbook, outcome, ?took, "an order was handled");
    }

    /// Stores a report, trying until it is accepted: it is the only word about what was
    /// done. Ends without success only when this process must end.
    async fn report(&self, mut report: FixReport) -> Fate {
        let id = report_id(&report);
        let mut n_last_tries = 0;
        loop {
            let envelope = Envelope::new(&id, Input::Fix(report.clone()));
            let envelope = envelope.traced(trace::current());
            let Err(refused) = self.writer.submit(InputKind::Fix, envelope).await else {
                return Fate::Reported;
            };
            warn!(incident.id = %report.work.incident, error = %refused, hint = refused.hint(), "a report was not accepted, trying again");
            match refused {
                NotAccepted::TooLarge { .. } => {
                    report.steps.iter_mut().for_each(|step| step.output.clear());
                }
                NotAccepted::Full(_) | NotAccepted::Unavailable(_) => {}
                NotAccepted::Unwritable(_) => {
                    error!(incident.id = %report.work.incident, "a report cannot be written");
                    return Fate::Later(LOOK_AGAIN);
                }
            }
            if self.stop.is_cancelled() {
                n_last_tries += 1;
                if LAST_TRIES <= n_last_tries {
                    return Fate::Later(LOOK_AGAIN);
                }
            }
            sleep(RETRY).await;
        }
    }

    /// An order that this build cannot read: nothing is touched, and whoever waits is told.
    async fn unreadable(&self, job: &Job, error: &serde_json::Error) -> Fate {
        #[derive(serde::Deserialize)]
        struct Outline {
            work: WorkRef,
            mode: FixMode,
        }
        counter!("selfheal_fixer_orders_total", "outcome" => "unreadable").increment(1);
        let Ok(Outline { work, mode }) = serde_json::from_slice(&job.payload) else {
            error!(subject = job.subject, %error, "an order cannot be read and names no incident, it is dropped");
            return Fate::Reported;
        };
        warn!(incident.id = %work.incident, %error, "an order cannot be read");
        let reason = format!(
            "this fixer cannot read the order: {error}; run supervisor and fixer in the same version"
        );
        self.report(FixReport {
            work,
            mode,
            by: self.by.clone(),
            outcome: FixOutcome::Refused { reason, code: Refusal::Unreadable },
            steps: Vec::new(),
            undone: false,
            took_ms: 0,
        })
        .await
    }
}

/// What the span of an order says.
fn about(order: &FixOrder, by: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("selfheal.incident.id", order.work.incident.to_string()),
        KeyValue::new("selfheal.attempt", i64::from(order.work.attempt)),
        KeyValue::new("selfheal.member", by.to_owned()),
        KeyValue::new("selfheal.target", order.plan.target.clone()),
        KeyValue::new("selfheal.runbook", order.plan.runbook.clone()),
        KeyValue::new("selfheal.plan.hash", order.plan_hash.clone()),
        KeyValue::new("selfheal.undo", order.mode == FixMode::Undo),
    ]
}
