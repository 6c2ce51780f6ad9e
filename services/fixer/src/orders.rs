//! From an order to its report: asked, claimed, carried out, reported, and only then
//! acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus::{Bus, Claimed, InboxWriter, Job, NotAccepted};
use chrono::Utc;
use domain::wire::{
    Claim, Envelope, FixMode, FixOrder, FixOutcome, FixReport, Input, InputKind, Member, WorkKind,
    WorkRef,
};
use metrics::counter;
use service::Chain;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    actions::Tools,
    memory::{Memory, Seen},
    progress::Progress,
    runner::{Ended, carry_out},
    turns::Turns,
};

/// When an order comes again that somebody else is at work on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long a missing member may take to show up again: after a restart of the broker
/// all enter the list anew, once a second.
const SHOW_UP: Duration = Duration::from_millis(1500);

/// How long after its end an order is still believed to be under way with a living fixer.
const LATE_MAX: Duration = Duration::from_secs(60);

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
    pub(crate) members: watch::Receiver<BTreeMap<String, Member>>,
    pub(crate) memory: Memory,
    pub(crate) turns: Turns,
    pub(crate) stop: CancellationToken,
}

impl Orders {
    /// Handles one piece of work, and keeps it ours meanwhile.
    pub(crate) async fn handle(&self, job: Job) {
        let keep_alive = job.keep_alive();
        let fate = match serde_json::from_slice::<FixOrder>(&job.payload) {
            Ok(order) => self.order(order).await,
            Err(error) => self.unreadable(&job, &error).await,
        };
        // Before the last word: a sign of life after it would put the next delivery off.
        drop(keep_alive);
        match fate {
            Fate::Reported => job.ack().await,
            Fate::Later(delay) => job.nak(delay).await,
        }
    }

    async fn order(&self, order: FixOrder) -> Fate {
        let key = (order.work.incident, order.claim_key());
        let entry = match self.memory.enter(key) {
            Seen::First(entry) => entry,
            Seen::UnderWay => return Fate::Later(LOOK_AGAIN),
            Seen::Reported(report) => return self.report(*report).await,
        };
        let _turn = self.turns.wait(&order.plan.target).await;
        let begun = Instant::now();
        let refusal = self.refusal(&order);
        let claim = self.claim_of(&order);
        let claimed = match self.claim(&order, &claim).await {
            Ok(claimed) => claimed,
            Err(fate) => return fate,
        };
        let ended = match (claimed, refusal.or_else(|| expired(&order))) {
            // Claimed even so: from here on "it was not begun" is true of all fixers.
            (Claimed::Won, Some(reason)) => not_begun(FixOutcome::Refused { reason }),
            (Claimed::Won, None) => carry_out(&order, &self.tools, &self.progress).await,
            (Claimed::Lost(other), _) => match self.lost(&order, &other).await {
                Ok(ended) => ended,
                Err(fate) => return fate,
            },
        };
        let report = self.report_of(&order, ended, begun.elapsed());
        entry.reported(&report);
        self.report(report).await
    }

    /// Says why an order must not be carried out here.
    fn refusal(&self, order: &FixOrder) -> Option<String> {
        if let Some(reason) = expired(order) {
            return Some(reason);
        }
        let hash = order.plan.hash();
        if hash != order.plan_hash {
            return Some(format!(
                "changed plan: its hash is {hash:.12}…, what was authorized has {:.12}…; it is to be planned and approved anew",
                order.plan_hash
            ));
        }
        let permitted = self.tools.allow.permits(order, &self.tools.environment);
        permitted.err().map(|denied| denied.to_string())
    }

    fn claim_of(&self, order: &FixOrder) -> Claim {
        Claim {
            id: uuid::Uuid::new_v4().to_string(),
            by: self.by.clone(),
            at: Utc::now(),
            plan_hash: order.plan_hash.clone(),
        }
    }

    /// Claims, for as long as the order lives: a claim that may have been stored is
    /// settled here, under its id, or by nobody.
    async fn claim(&self, order: &FixOrder, claim: &Claim) -> Result<Claimed, Fate> {
        let claims = self.bus.claims();
        let key = order.claim_key();
        loop {
            match claims.claim(&order.work.incident, &key, claim).await {
                Ok(claimed) => return Ok(claimed),
                Err(error) => {
                    warn!(incident.id = %order.work.incident, attempt = key, error = %Chain(&error), "an attempt could not be claimed, trying again");
                }
            }
            if expired(order).is_some() || self.stop.is_cancelled() {
                return Err(Fate::Later(LOOK_AGAIN));
            }
            sleep(RETRY).await;
        }
    }

    /// An attempt that another one has claimed: theirs while they live, unknown when
    /// they are gone.
    async fn lost(&self, order: &FixOrder, other: &Claim) -> Result<Ended, Fate> {
        let id = order.work.incident;
        let end = order.not_after + order.plan.timeout().to_delta() + LATE_MAX;
        if other.by != self.by && Utc::now() <= end && self.lives(&other.by).await {
            debug!(incident.id = %id, claimed_by = other.by, "an order is another fixer's");
            return Err(Fate::Later(LOOK_AGAIN));
        }
        info!(incident.id = %id, claimed_by = other.by, "an attempt was begun by a fixer that is gone");
        let reason = format!(
            "{} claimed this attempt at {} and is gone; how far it came is not known",
            other.by,
            other.at.format("%H:%M:%S%.3f")
        );
        Ok(not_begun(FixOutcome::Unknown { reason }))
    }

    /// Tells whether a fixer lives. While we do not see ourselves, we see nothing.
    async fn lives(&self, who: &str) -> bool {
        let mut members = self.members.clone();
        let there = |all: &BTreeMap<String, Member>| all.contains_key(who);
        // A closed list tells no more than one in which the other does not show up.
        let seen = timeout(SHOW_UP, members.wait_for(there)).await.is_ok_and(|it| it.is_ok());
        seen || !self.members.borrow().contains_key(&self.by)
    }

    fn report_of(&self, order: &FixOrder, ended: Ended, took: Duration) -> FixReport {
        let outcome = match &ended.outcome {
            FixOutcome::Succeeded => "succeeded",
            FixOutcome::Failed { .. } => "failed",
            FixOutcome::Unknown { .. } => "unknown",
            FixOutcome::Refused { .. } => "refused",
        };
        counter!("selfheal_fixer_orders_total", "outcome" => outcome).increment(1);
        let work = order.work;
        info!(incident.id = %work.incident, attempt = work.attempt, target.name = order.plan.target, runbook = order.plan.runbook, outcome, ?took, "an order was handled");
        FixReport {
            work,
            mode: order.mode,
            by: self.by.clone(),
            outcome: ended.outcome,
            steps: ended.steps,
            undone: ended.undone,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Stores a report, trying until it is accepted: it is the only word about what was
    /// done. Ends without success only when this process must end.
    async fn report(&self, mut report: FixReport) -> Fate {
        let id = format!("{}/{}", report.work.wish_id(WorkKind::Fix), self.by);
        let mut n_last_tries = 0;
        loop {
            let envelope = Envelope::new(&id, Input::Fix(report.clone()));
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
            outcome: FixOutcome::Refused { reason },
            steps: Vec::new(),
            undone: false,
            took_ms: 0,
        })
        .await
    }
}

fn expired(order: &FixOrder) -> Option<String> {
    let now = Utc::now();
    (order.not_after < now).then(|| {
        format!(
            "too late: it should have been begun before {}, and now it is {}; if that is not so, set the clocks",
            order.not_after.format("%F %T%.3fZ"),
            now.format("%F %T%.3fZ")
        )
    })
}

fn not_begun(outcome: FixOutcome) -> Ended {
    Ended { outcome, steps: Vec::new(), undone: false }
}
