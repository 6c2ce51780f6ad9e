//! What becomes of one order: claimed, carried out or refused, reported. Waits for
//! nothing and looks at no clock; whoever does asks it what comes next.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::wire::{Claim, FixOrder, FixOutcome, FixReport, WorkKind};

use crate::runner::Ended;

/// How long after its end an order is still believed to be under way with a living fixer.
const LATE_MAX: TimeDelta = TimeDelta::seconds(60);

/// Who has the claim of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// We do.
    Us,
    /// Somebody else, or we before we were started anew.
    Other(Claim),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The plan is carried out, and what came of it is reported.
    CarryOut,
    /// Nothing is done, and this is reported.
    Report(Box<Ended>),
    /// Whether this member lives decides; see [`Attempt::holder_lives`].
    AskFor(String),
}

/// An order that has come.
#[derive(Clone, Debug)]
pub struct Attempt {
    order: FixOrder,
    by: String,
    refusal: Option<String>,
}

impl Attempt {
    /// Takes an order of member `by`. `permitted` is what its local list says of it.
    #[must_use]
    pub fn new(
        order: FixOrder,
        by: &str,
        permitted: Result<(), String>,
        now: DateTime<Utc>,
    ) -> Self {
        let refusal = refusal(&order, permitted, now);
        Self { order, by: by.to_owned(), refusal }
    }

    /// Returns the order.
    #[must_use]
    pub const fn order(&self) -> &FixOrder {
        &self.order
    }

    /// Returns the claim that must be won before anything is touched. `id` is random.
    #[must_use]
    pub fn claim(&self, id: String, now: DateTime<Utc>) -> Claim {
        let plan_hash = self.order.plan_hash.clone();
        Claim { id, by: self.by.clone(), at: now, plan_hash }
    }

    /// Returns whether it is too late to begin, and why.
    #[must_use]
    pub fn expired(&self, now: DateTime<Utc>) -> Option<String> {
        expired(&self.order, now)
    }

    /// Says what follows from the claim. Refused, too, is only what nobody else can begin.
    #[must_use]
    pub fn claimed(&self, holder: &Holder, now: DateTime<Utc>) -> Next {
        match holder {
            Holder::Us => match self.refusal.clone().or_else(|| self.expired(now)) {
                Some(reason) => not_begun(FixOutcome::Refused { reason }),
                None => Next::CarryOut,
            },
            Holder::Other(other) => {
                let end = self.order.not_after + self.order.plan.timeout().to_delta() + LATE_MAX;
                if other.by != self.by && now <= end {
                    return Next::AskFor(other.by.clone());
                }
                gone(other)
            }
        }
    }

    /// Says what follows when the holder is known to live or not: an attempt is theirs while
    /// they live (`None`: come again later), unknown when they are gone.
    #[must_use]
    pub fn holder_lives(&self, holder: &Claim, lives: bool) -> Option<Next> {
        (!lives).then(|| gone(holder))
    }

    /// Writes the report.
    #[must_use]
    pub fn report(&self, ended: Ended, took: Duration) -> FixReport {
        FixReport {
            work: self.order.work,
            mode: self.order.mode,
            by: self.by.clone(),
            outcome: ended.outcome,
            steps: ended.steps,
            undone: ended.undone,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Returns the id of a report: the same each time it is sent.
#[must_use]
pub fn report_id(report: &FixReport) -> String {
    format!("{}/{}", report.work.wish_id(WorkKind::Fix), report.by)
}

/// Says why an order must not be carried out here.
fn refusal(order: &FixOrder, permitted: Result<(), String>, now: DateTime<Utc>) -> Option<String> {
    if let Some(reason) = expired(order, now) {
        return Some(reason);
    }
    let hash = order.plan.hash();
    if hash != order.plan_hash {
        return Some(format!(
            "changed plan: its hash is {hash:.12}…, what was authorized has {:.12}…; it is to be planned and approved anew",
            order.plan_hash
        ));
    }
    permitted.err()
}

fn expired(order: &FixOrder, now: DateTime<Utc>) -> Option<String> {
    (order.not_after < now).then(|| {
        format!(
            "too late: it should have been begun before {}, and now it is {}; if that is not so, set the clocks",
            order.not_after.format("%F %T%.3fZ"),
            now.format("%F %T%.3fZ")
        )
    })
}

fn gone(holder: &Claim) -> Next {
    let reason = format!(
        "{} claimed this attempt at {} and is gone; how far it came is not known",
        holder.by,
        holder.at.format("%H:%M:%S%.3f")
    );
    not_begun(FixOutcome::Unknown { reason })
}

fn not_begun(outcome: FixOutcome) -> Next {
    Next::Report(Box::new(Ended { outcome, steps: Vec::new(), undone: false }))
}
