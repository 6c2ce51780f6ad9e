//! Is all input understood?

use bus::topology::StreamId;
use chrono::TimeDelta;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check = Check { name: "rejected", asks: "is all input understood?", look };

/// Input that was rejected within this time is worth a look; older is worth a note.
const LATELY: TimeDelta = TimeDelta::hours(24);

fn look(facts: &Facts) -> Looked {
    let rejected = facts.stream(StreamId::Rejected)?;
    if rejected.state.messages == 0 {
        return Ok(Vec::new());
    }
    let lately = rejected.last_at.is_some_and(|at| facts.broker_now() < at + LATELY);
    let last = rejected.last_at.map(|at| at.to_rfc3339()).unwrap_or_default();
    Ok(vec![Finding::new(
        if lately { Severity::Warning } else { Severity::Note },
        format!("{} inputs were not understood, the last one at {last}", rejected.state.messages),
        "an event that could not be read opens no incident, although its sender believes that it was taken",
        "`nats stream view` of that stream shows each whole, with the reason in the header Selfheal-Why; correct the sender, then empty the stream with `nats stream purge`",
    )])
}

#[cfg(test)]
mod tests {
    use bus::inspect::Which;

    use super::{super::super::facts::well, *};

    #[test]
    fn lately_rejected_input_is_a_warning() {
        let mut facts = well::facts();
        facts.stream_mut(Which::Stream(StreamId::Rejected)).state.messages = 3;
        assert_eq!(look(&facts).unwrap()[0].severity, Severity::Warning);
        let rejected = facts.stream_mut(Which::Stream(StreamId::Rejected));
        rejected.last_at = Some(well::now() - TimeDelta::days(2));
        assert_eq!(look(&facts).unwrap()[0].severity, Severity::Note);
        facts.stream_mut(Which::Stream(StreamId::Rejected)).state.messages = 0;
        assert_eq!(look(&facts), Ok(Vec::new()));
    }
}
