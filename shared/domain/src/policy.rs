//! Policy: what may be done without asking, how often, and to how many.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::autonomy::Autonomy;
use crate::{
    autonomy::Risk,
    span::{Rates, Span},
};

/// The whole policy. Every field has a default that is safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// For runbooks of low risk; medium asks and high suggests, unless their autonomy is stated.
    pub autonomy: Autonomy,
    /// Stated autonomy of single runbooks, by name.
    pub runbooks: BTreeMap<String, RunbookPolicy>,
    /// How often, and to how many.
    pub budget: Budget,
    /// Fixes tried per incident before a person is asked.
    #[schemars(range(min = 1))]
    pub attempts: u32,
    /// Wait before attempt 2 of an incident; doubles with each further one, up to 5 min.
    pub backoff: Span,
    /// Least time between two fixes.
    pub cooldown: Cooldown,
    /// How long a target must stay well after a fix.
    pub soak: Span,
    /// How long it may take to become well after a fix.
    pub verify_within: Span,
    /// How many different people must approve a plan that needs an approval.
    #[schemars(range(min = 1, max = 5))]
    pub approvals: u8,
    /// How long an approval may be waited for.
    pub approval_timeout: Span,
    /// How long a plan may wait for its guards; then a person is asked.
    pub hold_timeout: Span,
    /// A plan that waited longer than this is made anew on fresh evidence.
    pub plan_max_age: Span,
    /// Firing events that are older than this when they arrive start no fix.
    pub event_max_age: Span,
    /// How long a diagnosis may take.
    pub diagnosis_timeout: Span,
    /// How often it is diagnosed again when nothing could be done for a reason that may pass.
    pub retry: Retry,
    /// Times in which no fix is started.
    pub freeze: Vec<Freeze>,
    /// Stops new fixes after failures.
    pub breaker: Breaker,
    /// Stops new fixes when too much is sick at once.
    pub storm: Limit,
    /// Who is told about escalations and approvals; older than [`crate::notify`], which can
    /// more, and as valid.
    pub notify: Vec<Notifier>,
}

/// What a policy states about one runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunbookPolicy {
    /// How far it may go by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// How often it may run, besides the other budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Rates>,
    /// How many different people must approve it, instead of `policy.approvals`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub approvals: Option<u8>,
}

/// How often, and to how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Fixes per target.
    pub per_target: Rates,
    /// Fixes per runbook.
    pub per_runbook: Rates,
    /// Fixes of the whole fleet.
    pub fleet: Rates,
    /// Targets under treatment at once.
    pub blast_radius: Limit,
}

/// A share and a count; the smaller wins.
///
/// The percentage is of all configured targets, rounded down, but a limit that is
/// not 0 allows at least one: otherwise a fleet of four could never be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Share of all configured targets.
    #[schemars(range(max = 100))]
    pub percent: u8,
    /// Number of targets.
    pub count: u32,
}

impl Limit {
    /// Returns how many of `n_targets` the limit allows.
    #[must_use]
    pub fn of(self, n_targets: usize) -> usize {
        if self.percent == 0 || self.count == 0 {
            return 0;
        }
        let share = n_targets.saturating_mul(usize::from(self.percent)) / 100;
        share.max(1).min(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

/// Least time between the end of one fix and the start of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cooldown {
    /// On the same target.
    pub per_target: Span,
    /// Of the same runbook.
    pub per_runbook: Span,
    /// Of any two fixes.
    pub fleet: Span,
}

/// A time in which no fix is started. It always ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Begin.
    pub from: DateTime<Utc>,
    /// End.
    pub until: DateTime<Utc>,
    /// Why; shown wherever a fix is held.
    pub reason: String,
}

/// Stops all new fixes when they fail too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failed attempts that trip it.
    pub failures: u32,
    /// Within this time.
    pub within: Span,
    /// How long it stays tripped.
    pub reset_after: Span,
}

/// When an incident is diagnosed again after nothing could be done: no cause was found, a
/// program or image is missing, no analyzer answered, or no fixer began the fix. The wait
/// doubles with each retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Wait before the first retry.
    pub first: Span,
    /// Longest wait.
    pub max: Span,
    /// How long after the first failure retries go on; then it is escalated. `0s`: at once.
    #[serde(rename = "for")]
    pub lasts: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Span::from_secs(5), max: Span::from_secs(60), lasts: Span::from_secs(5 * 60) }
    }
}

impl Retry {
    /// Returns how long to wait before retry `n` (the first is 0).
    #[must_use]
    pub fn wait(self, n: u32) -> Span {
        let factor = 1_u64.checked_shl(n.min(20)).unwrap_or(u64::MAX);
        let first = self.first.max(RETRY_MIN).as_millis();
        let max = self.max.max(RETRY_MIN).as_millis();
        Span::from_millis(first.saturating_mul(factor).min(max))
    }
}

/// No retry comes sooner, whatever is configured.
const RETRY_MIN: Span = Span::from_secs(1);

/// Somebody who is told. Exactly one field names the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct Notifier {
    /// URL that takes the notice as JSON by POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://."))]
    pub webhook: Option<String>,
    /// `true`: a line in the gateway's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            autonomy: Autonomy::Auto,
            runbooks: BTreeMap::new(),
            budget: Budget::default(),
            attempts: 3,
            backoff: Span::from_secs(2),
            cooldown: Cooldown::default(),
            soak: Span::from_secs(3),
            verify_within: Span::from_secs(30),
            approvals: 1,
            approval_timeout: Span::from_secs(30 * 60),
            hold_timeout: Span::from_secs(60 * 60),
            plan_max_age: Span::from_secs(60),
            event_max_age: Span::from_secs(15 * 60),
            diagnosis_timeout: Span::from_secs(60),
            retry: Retry::default(),
            freeze: Vec::new(),
            breaker: Breaker::default(),
            storm: Limit { percent: 50, count: 20 },
            notify: Vec::new(),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            per_target: Rates(vec![rate(3, 3600), rate(10, 86_400)]),
            per_runbook: Rates(vec![rate(20, 3600)]),
            fleet: Rates(vec![rate(30, 3600)]),
            blast_radius: Limit { percent: 20, count: 5 },
        }
    }
}

const fn rate(count: u32, per_s: u64) -> crate::span::Rate {
    crate::span::Rate { count, per: Span::from_secs(per_s) }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            within: Span::from_secs(10 * 60),
            reset_after: Span::from_secs(10 * 60),
        }
    }
}

impl Policy {
    /// Returns how far a plan may go by itself: what is stated for the runbook here,
    /// else what the runbook states, else what its risk allows of the default. A
    /// target's own autonomy can only lower the result.
    #[must_use]
    pub fn autonomy_of(
        &self,
        runbook: &str,
        stated: Option<Autonomy>,
        risk: Risk,
        target: Option<Autonomy>,
    ) -> Autonomy {
        let here = self.runbooks.get(runbook).and_then(|it| it.autonomy);
        let by_risk = match risk {
            Risk::Low => Autonomy::Auto,
            Risk::Medium => Autonomy::Approve,
            Risk::High => Autonomy::Suggest,
        };
        let base = here.or_else(|| stated.map(|it| it.min(self.autonomy)));
        let base = base.unwrap_or_else(|| by_risk.min(self.autonomy));
        target.map_or(base, |target| base.min(target))
    }

    /// Returns how many different people must approve a plan of a runbook.
    #[must_use]
    pub fn approvals_of(&self, runbook: &str) -> usize {
        let here = self.runbooks.get(runbook).and_then(|it| it.approvals);
        usize::from(here.unwrap_or(self.approvals).max(1))
    }

    /// Returns how long to wait before attempt `n` (the first is 1) of one incident.
    #[must_use]
    pub fn backoff_before(&self, attempt: u32) -> Span {
        const BACKOFF_MAX_MS: u64 = 5 * 60_000;
        let Some(doublings) = attempt.checked_sub(2) else { return Span::ZERO };
        let factor = 1_u64.checked_shl(doublings.min(20)).unwrap_or(u64::MAX);
        Span::from_millis(self.backoff.as_millis().saturating_mul(factor).min(BACKOFF_MAX_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_share_and_count_wins_and_shares_are_rounded_down() {
        for (percent, count, n_targets, allowed) in [
            (20, 5, 2, 1),
            (20, 5, 10, 2),
            (20, 5, 14, 2),
            (20, 5, 100, 5),
            (100, 1, 100, 1),
            (0, 5, 100, 0),
            (50, 0, 100, 0),
            (20, 5, 0, 1),
        ] {
            assert_eq!(Limit { percent, count }.of(n_targets), allowed, "{percent}% {n_targets}");
        }
    }

    #[test]
    fn medium_asks_and_high_suggests_unless_stated() {
        use Autonomy as A;
        let mut policy = Policy::default();
        let of = |policy: &Policy, stated, risk| policy.autonomy_of("r", stated, risk, None);
        assert_eq!(of(&policy, None, Risk::Low), A::Auto);
        assert_eq!(of(&policy, None, Risk::Medium), A::Approve);
        assert_eq!(of(&policy, None, Risk::High), A::Suggest);
        assert_eq!(of(&policy, Some(A::Auto), Risk::High), A::Auto);
        policy.autonomy = A::Observe;
        assert_eq!(of(&policy, Some(A::Auto), Risk::Low), A::Observe);
        let stated = RunbookPolicy { autonomy: Some(A::Auto), budget: None, approvals: None };
        policy.runbooks.insert("r".to_owned(), stated);
        assert_eq!(of(&policy, None, Risk::High), A::Auto);
        assert_eq!(policy.autonomy_of("r", None, Risk::Low, Some(A::Approve)), A::Approve);
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        let policy = Policy::default();
        let waits: Vec<_> = (1..=4).map(|n| policy.backoff_before(n).as_millis()).collect();
        assert_eq!(waits, [0, 2000, 4000, 8000]);
        assert_eq!(policy.backoff_before(1000).as_millis(), 300_000);
    }
}
