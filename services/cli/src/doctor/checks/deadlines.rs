//! Does every incident come to an end in time?

use chrono::TimeDelta;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "deadlines", asks: "does every incident move on in time?", look };

/// A timer may be so late on a busy system.
const LATE: TimeDelta = TimeDelta::minutes(1);

/// Incidents that a finding names.
const NAMED_MAX: usize = 3;

fn look(facts: &Facts) -> Looked {
    let open = facts.open.as_ref().map_err(NotSeen::clone)?;
    let now = facts.broker_now();
    let late: Vec<_> =
        open.incidents.iter().filter(|it| it.deadline.is_some_and(|at| at + LATE < now)).collect();
    if late.is_empty() {
        return Ok(Vec::new());
    }
    let named: Vec<_> = late.iter().take(NAMED_MAX).map(|it| it.id.to_string()).collect();
    Ok(vec![Finding::new(
        Severity::Error,
        format!("{} incidents are past their deadline, such as {}", late.len(), named.join(", ")),
        "every state has a time after which something else is tried or a person is called; that is not happening",
        "see the checks `leader` and `lag`: without a leader, or with one that cannot keep up, timers are not carried out; `selfheal incidents show ID` tells what an incident waits for",
    )])
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    fn incident(deadline: Option<TimeDelta>) -> domain::view::IncidentView {
        let deadline = deadline.map(|it| (well::now() + it).to_rfc3339());
        serde_json::from_value(serde_json::json!({
            "id": "01990000-0000-7000-8000-00000000000a", "status": "fixing", "type": "a",
            "severity": "error", "target": null, "zone": "default", "source": "s", "fingerprint": "f",
            "opened_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "closed_at": null, "count": 1, "attempt": 1, "analysis": null, "resolution": null,
            "symptom_of": null, "previous": null, "plan": null, "waiting": null,
            "acknowledged_by": null, "deadline": deadline,
        }))
        .unwrap()
    }

    #[test]
    fn only_incidents_that_are_late_by_far_are_told() {
        let mut facts = well::facts();
        let open = facts.open.as_mut().unwrap();
        open.incidents = vec![
            incident(None),
            incident(Some(TimeDelta::seconds(-30))),
            incident(Some(TimeDelta::hours(1))),
        ];
        assert_eq!(look(&facts), Ok(Vec::new()));
        facts.open.as_mut().unwrap().incidents.push(incident(Some(TimeDelta::minutes(-2))));
        assert!(look(&facts).unwrap()[0].what.starts_with("1 incidents"));
    }
}
