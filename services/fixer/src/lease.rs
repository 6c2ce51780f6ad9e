//! What a fixer must have before each step: the right to act.

use std::time::Duration;

use bus::{BrokerClock, Holding};
use chrono::{DateTime, TimeDelta, Utc};
use domain::wire::Refusal;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::attempt::{Attempt, too_late};

/// Why nothing more may be done about an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Lost {
    /// For people.
    pub reason: String,
    /// For programs, when nothing was begun.
    pub code: Refusal,
}

impl Lost {
    /// Nothing more may be done, for a reason that is nobody's decision.
    #[must_use]
    pub const fn new(reason: String) -> Self {
        Self { reason, code: Refusal::Other }
    }
}

impl From<bus::Lost> for Lost {
    fn from(lost: bus::Lost) -> Self {
        let code = match lost {
            bus::Lost::Taken(_) => Refusal::Recalled,
            bus::Lost::Unrenewed(_) => Refusal::Other,
        };
        Self { reason: lost.to_string(), code }
    }
}

/// The right to act on an order. It is asked immediately before every step, pre-check and undo.
pub trait Lease: Send + Sync {
    /// Resolves when nobody else can act for so long from now; or with the reason why nothing
    /// more may be done.
    fn assure(&self, acts_for: Duration) -> BoxFuture<'_, Result<(), Lost>>;

    /// Says whether an order of which nothing was done yet may still be begun: waiting to be
    /// assured may have taken long.
    ///
    /// # Errors
    ///
    /// [`Lost`], when it is too late.
    fn may_begin(&self) -> Result<(), Lost> {
        Ok(())
    }
}

/// The right to act that a claim on the broker gives.
#[derive(Debug)]
pub(crate) struct Tenure {
    holding: Holding,
    clock: BrokerClock,
    /// By the broker's clock: nothing may be under way after it, as nobody waits for it then.
    ends_at: DateTime<Utc>,
    /// The same: nothing may be begun after it.
    not_after: DateTime<Utc>,
}

impl Tenure {
    pub(crate) fn new(holding: Holding, clock: BrokerClock, attempt: &Attempt) -> Self {
        let (ends_at, not_after) = (attempt.ends_at(), attempt.order().not_after);
        Self { holding, clock, ends_at, not_after }
    }

    /// Returns how long it is until a step of this length must have begun.
    fn left(&self, acts_for: Duration) -> Result<Duration, Lost> {
        let acts_for = TimeDelta::from_std(acts_for).unwrap_or(TimeDelta::MAX);
        let left = self.ends_at - self.clock.latest();
        left.checked_sub(&acts_for).and_then(|it| it.to_std().ok()).ok_or_else(|| {
            let at = self.ends_at.format("%F %T%.3fZ");
            Lost::new(format!("the time of the fix ends at {at}, before the step could end"))
        })
    }
}

impl Lease for Tenure {
    fn assure(&self, acts_for: Duration) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(async move {
            let give_up = Instant::now() + self.left(acts_for)?;
            self.holding.assure(acts_for, give_up).await?;
            // The broker may have been away for long.
            self.left(acts_for).map(drop)
        })
    }

    fn may_begin(&self) -> Result<(), Lost> {
        let refusal = too_late(self.not_after, self.clock.latest());
        refusal.map_or(Ok(()), |(code, reason)| Err(Lost { reason, code }))
    }
}
