//! What became of attempts to heal, as far as the decisions of a batch tell.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    desk::{Desk, Recorded, Treatment},
    fact::{Escalation, Fact},
    incident::{Ending, Incident, Phase},
};

/// A trouble that comes again so soon after a proven fix was not healed. Longer than any soak
/// time that people wait for, shorter than what usually lies between two troubles.
pub const FALSE_HEAL_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// Proven by fresh samples.
    Healed,
    /// It did not help.
    Failed,
    /// It made a neighbour sick.
    Regressed,
    /// A person closed the incident while it was under way.
    Abandoned,
}

impl HowEnded {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healed, Self::Failed, Self::Regressed, Self::Abandoned];

    /// Returns its name, for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::Failed => "failed",
            Self::Regressed => "regressed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended.
    Ended(String, HowEnded),
    /// It had ended with a proof, and yet the trouble is there again.
    FalseHeal(String),
}

/// Returns what became of attempts. Looks at the desk behind the batch.
pub(super) fn of(recorded: &[Recorded], desk: &Desk) -> Vec<Outcome> {
    recorded.iter().filter_map(|it| one(it, desk)).collect()
}

fn one(recorded: &Recorded, desk: &Desk) -> Option<Outcome> {
    let incident = desk.incident(recorded.decision.incident?)?;
    if let Fact::Opened { previous, .. } = &recorded.decision.fact {
        let former = desk.incident((*previous)?)?;
        let runbook = runbook_of_false_heal(former, recorded.decision.at)?;
        return Some(Outcome::FalseHeal(runbook.to_owned()));
    }
    let how = how_ended(recorded)?;
    let attempt = recorded.before?.attempt;
    let record = incident.attempts.iter().find(|it| it.attempt == attempt)?;
    Some(Outcome::Ended(record.runbook.clone(), how))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other facts end no attempt")]
fn how_ended(recorded: &Recorded) -> Option<HowEnded> {
    let is_under_way = recorded.before?.treatment == Treatment::UnderWay;
    match &recorded.decision.fact {
        Fact::AttemptFailed => Some(HowEnded::Failed),
        Fact::UndoStarted { .. } => Some(HowEnded::Regressed),
        // What ends without an attempt under way, with its cause for instance, was not healed
        // by one; and what is being taken back was counted before.
        _ if !is_under_way => None,
        Fact::Resolved => Some(HowEnded::Healed),
        Fact::Escalated { why: Escalation::Regression } => Some(HowEnded::Regressed),
        Fact::Escalated { .. } => Some(HowEnded::Failed),
        Fact::Closed { .. } => Some(HowEnded::Abandoned),
        _ => None,
    }
}

/// Returns the runbook of the proven fix that did not hold.
fn runbook_of_false_heal(former: &Incident, again_at: DateTime<Utc>) -> Option<&str> {
    let is_proven = matches!(former.phase, Phase::Over(Ending::Resolved));
    let closed_at = former.closed_at.filter(|_| is_proven)?;
    let healed = former.attempts.last().filter(|it| it.failure.is_none())?;
    (again_at - closed_at <= FALSE_HEAL_WITHIN).then_some(healed.runbook.as_str())
}

#[cfg(test)]
mod tests {
    use domain::{
        desk::Before,
        fact::Decision,
        id::{IncidentId, Position},
        view::Status,
    };

    use super::*;

    fn recorded(fact: Fact, treatment: Treatment) -> Recorded {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let before = Before {
            status: Status::Fixing,
            entered_at: at,
            revision: 4,
            attempt: 1,
            treatment,
            is_acknowledged: false,
            opened_at: at,
            has_left: true,
        };
        let cause = Position::new(1, 0);
        let incident = Some(IncidentId::derive(at, cause, "a"));
        Recorded {
            decision: Decision { seq: 9, at, cause, incident, fact, reason: String::new() },
            status: None,
            kind: "service_down".to_owned(),
            target: None,
            analysis: None,
            resolution: None,
            before: Some(before),
        }
    }

    #[test]
    fn an_attempt_is_counted_once_by_how_it_ended() {
        let escalated = |why| Fact::Escalated { why };
        let closed = || Fact::Closed { by: "a".to_owned() };
        for (fact, treatment, wanted) in [
            (Fact::Resolved, Treatment::UnderWay, Some(HowEnded::Healed)),
            (Fact::Resolved, Treatment::None, None),
            (Fact::AttemptFailed, Treatment::UnderWay, Some(HowEnded::Failed)),
            (escalated(Escalation::AttemptsExhausted), Treatment::UnderWay, Some(HowEnded::Failed)),
            (escalated(Escalation::Regression), Treatment::UnderWay, Some(HowEnded::Regressed)),
            (escalated(Escalation::Regression), Treatment::Undoing, None),
            (
                Fact::UndoStarted { broken: Vec::new() },
                Treatment::UnderWay,
                Some(HowEnded::Regressed),
            ),
            (escalated(Escalation::NoCause), Treatment::None, None),
            (closed(), Treatment::UnderWay, Some(HowEnded::Abandoned)),
            (closed(), Treatment::None, None),
            (Fact::FixEnded { report: None }, Treatment::UnderWay, None),
        ] {
            let recorded = recorded(fact, treatment);
            assert_eq!(how_ended(&recorded), wanted, "{recorded:#?}");
        }
    }
}
