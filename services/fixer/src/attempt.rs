//! What becomes of one order: claimed, carried out or refused, reported. Waits for
//! nothing and looks at no clock; whoever does asks it what comes next.
//!
//! All times are the broker's.

use std::time::Duration;

use bus::{ClaimRecord, topology::CLAIM_TTL};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    guard::FIX_DELAY_MAX,
    plan::Step,
    wire::{Claim, ClaimState, FixMode, FixOrder, FixOutcome, FixReport, Refusal, WorkKind},
};

use crate::runner::Ended;

/// First and last wait before an order is looked at again that another one has claimed.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LAST: Duration = Duration::from_secs(10);

/// Who has the claim of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// We do.
    Us,
    /// Somebody else, or we before we were started anew.
    Other(ClaimRecord),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The plan is carried out, and what came of it is reported.
    CarryOut,
    /// Nothing is done, and this is reported.
    Report(Box<Ended>),
    /// Another one may be at it; see [`Attempt::held`].
    Held(ClaimRecord),
    /// A step that another one began may still act: it is looked at again after this time.
    Wait(Duration),
}

/// What becomes of an attempt that another one has claimed.
#[derive(Clone, Debug, PartialEq)]
pub enum Outlook {
    /// Its holder may still act: it is looked at again after this time.
    Wait(Duration),
    /// Its holder cannot act any more. When [`Attempt::fence`] is stored in the place of the
    /// record, this is reported.
    TakeOver(Box<Ended>),
}

/// An order that has come.
#[derive(Clone, Debug)]
pub struct Attempt {
    order: FixOrder,
    by: String,
    refusal: Option<(Refusal, String)>,
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
        Claim::new(id, self.by.clone(), now, plan_hash)
    }

    /// Returns whether it is too late to begin.
    #[must_use]
    pub fn is_too_late(&self, now: DateTime<Utc>) -> bool {
        self.too_late(now).is_some()
    }

    fn too_late(&self, now: DateTime<Utc>) -> Option<(Refusal, String)> {
        too_late(self.order.not_after, now)
    }

    /// Returns how long the first step may take.
    #[must_use]
    pub fn first_step(&self) -> Duration {
        let steps = &self.order.plan.steps;
        let longest = match self.order.mode {
            FixMode::Apply => steps.first().map(Step::longest),
            FixMode::Undo => {
                steps.iter().rev().find(|it| it.undo.is_some()).map(Step::undo_longest)
            }
        };
        longest.unwrap_or_default().to_std()
    }

    /// Returns when nothing may be under way any more.
    #[must_use]
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.order.not_after + self.order.plan.timeout().to_delta() + FIX_DELAY_MAX
    }

    /// Says what follows from the claim. Refused, too, is only what nobody else can begin.
    #[must_use]
    pub fn claimed(&self, holder: &Holder, now: DateTime<Utc>) -> Next {
        match holder {
            Holder::Us => match self.refusal.clone().or_else(|| self.too_late(now)) {
                Some((code, reason)) => not_begun(FixOutcome::Refused { reason, code }),
                None => Next::CarryOut,
            },
            Holder::Other(other) => match other.claim.state {
                ClaimState::Held => Next::Held(other.clone()),
                // Whoever wrote it may have ended before it was reported.
                ClaimState::Expired => match self.held(other, false, now) {
                    Outlook::Wait(wait) => Next::Wait(wait),
                    Outlook::TakeOver(ended) => Next::Report(ended),
                },
                ClaimState::Recalled => not_begun(FixOutcome::Refused {
                    reason: format!("{} withdrew it before it started", other.claim.by),
                    code: Refusal::Recalled,
                }),
            },
        }
    }

    /// Says what becomes of an attempt that another one has claimed. `is_gone` is true when it is
    /// proven that nothing more comes from its holder; a holder that is only silent may be frozen
    /// or cut off, and act until its claim has run out.
    #[must_use]
    pub fn held(&self, record: &ClaimRecord, is_gone: bool, now: DateTime<Utc>) -> Outlook {
        let lease = record.claim.lease_ms.map(Duration::from_millis);
        // Who does not renew may be at it for as long as the whole plan takes.
        let lease = lease.unwrap_or_else(|| self.order.plan.timeout().to_std() + CLAIM_TTL);
        let until =
            TimeDelta::from_std(lease).map_or_else(|_| self.ends_at(), |it| record.stored_at + it);
        match (until - now).to_std() {
            Ok(left) if !is_gone && !left.is_zero() => {
                Outlook::Wait(left.clamp(LOOK_FIRST, LOOK_LAST))
            }
            Ok(_) | Err(_) => Outlook::TakeOver(Box::new(gone(&record.claim))),
        }
    }

    /// Returns the record that keeps a former holder from acting again. `id` is random.
    #[must_use]
    pub fn fence(&self, id: String, now: DateTime<Utc>) -> Claim {
        Claim { state: ClaimState::Expired, lease_ms: Some(0), ..self.claim(id, now) }
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
fn refusal(
    order: &FixOrder,
    permitted: Result<(), String>,
    now: DateTime<Utc>,
) -> Option<(Refusal, String)> {
    if let Some(refusal) = too_late(order.not_after, now) {
        return Some(refusal);
    }
    let hash = order.plan.hash();
    if hash != order.plan_hash {
        let reason = format!(
            "changed plan: its hash is {hash:.12}…, what was authorized has {:.12}…; it is to be planned and approved anew",
            order.plan_hash
        );
        return Some((Refusal::ChangedPlan, reason));
    }
    permitted.err().map(|reason| (Refusal::NotAllowed, reason))
}

/// Says why an order must not be begun any more, by the broker's clock.
pub(crate) fn too_late(not_after: DateTime<Utc>, now: DateTime<Utc>) -> Option<(Refusal, String)> {
    (not_after < now).then(|| {
        let reason = format!(
            "too late: it had to start before {}, and by the broker's clock it is {}",
            not_after.format("%F %T%.3fZ"),
            now.format("%F %T%.3fZ")
        );
        (Refusal::TooLate, reason)
    })
}

fn gone(found: &Claim) -> Ended {
    let did = match found.state {
        ClaimState::Held => "claimed this attempt",
        ClaimState::Expired | ClaimState::Recalled => "took over this attempt's claim",
    };
    let (by, at) = (&found.by, found.at.format("%H:%M:%S%.3f"));
    let reason = format!(
        "{by} {did} at {at}, and its holder cannot act any more; how far it came is not known"
    );
    Ended { outcome: FixOutcome::Unknown { reason }, steps: Vec::new(), undone: false }
}

fn not_begun(outcome: FixOutcome) -> Next {
    Next::Report(Box::new(Ended { outcome, steps: Vec::new(), undone: false }))
}
