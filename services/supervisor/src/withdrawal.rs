//! What becomes of an order that must not begin any more, once somebody has claimed it. Waits for
//! nothing and looks at no clock.
//!
//! A fixer that renews its claim is at work, and carries its fix to the end. One that does not may
//! be stopped or cut off, before its first step or in the midst of one: its claim is replaced, so
//! that it begins no further step when it comes back, and when the step that it may have begun
//! must have ended, the outcome is unknown.

use std::time::Duration;

use bus::{ClaimRecord, topology::CLAIM_TTL};
use chrono::{DateTime, TimeDelta, Utc};
use domain::wire::{Claim, ClaimState, FixMode, FixOutcome, FixReport, Refusal, WorkRef};

/// Beyond the moment from which something else is due.
const MARGIN: Duration = Duration::from_millis(50);

/// What follows from the record that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The order is withdrawn.
    Withdrawn,
    /// Its holder renews it, or may still act: it is looked at again after this time.
    Wait(Duration),
    /// Its holder has not renewed it in time: a record that says so replaces it, for as long as a
    /// step may still act.
    Replace(Duration),
    /// Nobody can act any more: this is reported.
    Ended(String),
}

/// Judges the record that stands, at a time that is not later than the broker's.
#[must_use]
pub fn outlook(record: &ClaimRecord, now: DateTime<Utc>) -> Outlook {
    let claim = &record.claim;
    // Who does not renew claims is of a former version, and is asked for nothing.
    let Some(lease) = claim.lease_ms.map(Duration::from_millis) else {
        return match claim.state {
            ClaimState::Held => Outlook::Wait(CLAIM_TTL),
            ClaimState::Expired => Outlook::Ended(why(claim)),
            ClaimState::Recalled => Outlook::Withdrawn,
        };
    };
    let left = until(record, lease, now);
    match claim.state {
        ClaimState::Recalled => Outlook::Withdrawn,
        ClaimState::Expired if left.is_zero() => Outlook::Ended(why(claim)),
        ClaimState::Expired => Outlook::Wait(left + MARGIN),
        ClaimState::Held => {
            let renewed_within = until(record, CLAIM_TTL.min(lease), now);
            if renewed_within.is_zero() {
                Outlook::Replace(left)
            } else {
                Outlook::Wait(renewed_within + MARGIN)
            }
        }
    }
}

/// Returns the record that replaces one whose holder is silent. `claim.id` is random.
#[must_use]
pub fn replacement(claim: Claim, left: Duration) -> Claim {
    let lease_ms = u64::try_from(left.as_millis()).ok();
    Claim { state: ClaimState::Expired, lease_ms, ..claim }
}

/// Returns the report that an order was withdrawn before it was begun.
#[must_use]
pub fn withdrawn(work: WorkRef, by: &str) -> FixReport {
    let reason = format!("{by} withdrew it");
    report(work, by, FixOutcome::Refused { reason, code: Refusal::Recalled })
}

/// Returns the report that nobody can act on an order any more, and that nobody knows how far it
/// came.
#[must_use]
pub fn ended(work: WorkRef, by: &str, reason: String) -> FixReport {
    report(work, by, FixOutcome::Unknown { reason })
}

fn report(work: WorkRef, by: &str, outcome: FixOutcome) -> FixReport {
    let (by, steps) = (by.to_owned(), Vec::new());
    FixReport { work, mode: FixMode::Apply, by, outcome, steps, undone: false, took_ms: 0 }
}

fn until(record: &ClaimRecord, span: Duration, now: DateTime<Utc>) -> Duration {
    let end = TimeDelta::from_std(span).ok().and_then(|it| record.stored_at.checked_add_signed(it));
    end.map_or(Duration::MAX, |it| (it - now).to_std().unwrap_or_default())
}

fn why(claim: &Claim) -> String {
    let at = claim.at.format("%H:%M:%S%.3f");
    format!(
        "its fixer had not renewed the claim in time, so {} took it over at {at}; which steps were carried out is not known",
        claim.by
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
    }

    fn record(state: ClaimState, lease_ms: Option<u64>) -> ClaimRecord {
        let claim = Claim::new("id".to_owned(), "fixer-1".to_owned(), at(0), "hash".to_owned());
        ClaimRecord { claim: Claim { state, lease_ms, ..claim }, seq: 7, stored_at: at(0) }
    }

    #[test]
    fn a_holder_is_kept_from_going_on_when_it_is_silent_and_given_up_when_its_step_has_ended() {
        let ttl = i64::try_from(CLAIM_TTL.as_millis()).unwrap();
        let ms = |n: i64| Duration::from_millis(u64::try_from(n).unwrap());
        let long = Some(60_000);
        for (state, lease, now, right) in [
            (ClaimState::Held, long, 0, Outlook::Wait(CLAIM_TTL + MARGIN)),
            (ClaimState::Held, long, ttl - 1, Outlook::Wait(ms(1) + MARGIN)),
            (ClaimState::Held, long, ttl, Outlook::Replace(ms(60_000 - ttl))),
            (ClaimState::Held, long, 70_000, Outlook::Replace(Duration::ZERO)),
            (ClaimState::Held, Some(0), 0, Outlook::Replace(Duration::ZERO)),
            // Its clock is behind.
            (ClaimState::Held, long, -1000, Outlook::Wait(CLAIM_TTL + ms(1000) + MARGIN)),
            (ClaimState::Held, None, 500_000, Outlook::Wait(CLAIM_TTL)),
            (ClaimState::Expired, Some(3000), 1000, Outlook::Wait(ms(2000) + MARGIN)),
            (ClaimState::Recalled, Some(0), 0, Outlook::Withdrawn),
            (ClaimState::Recalled, None, 0, Outlook::Withdrawn),
        ] {
            let found = outlook(&record(state, lease), at(now));
            assert_eq!(found, right, "{state:?} {lease:?} at {now}");
        }
        for (lease, now) in [(Some(3000), 3000), (Some(0), 0), (None, 0)] {
            let found = outlook(&record(ClaimState::Expired, lease), at(now));
            let Outlook::Ended(why) = found else { panic!("{lease:?} at {now}: {found:?}") };
            assert!(why.contains("fixer-1") && why.contains("not known"), "{why}");
        }
    }
}
