//! Is something holding all fixes?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};
use crate::terminal::plain;

pub(super) const CHECK: Check = Check { name: "brakes", asks: "may fixes begin?", look };

fn look(facts: &Facts) -> Looked {
    let view = facts.view()?;
    let mut found = Vec::new();
    if let Some(why) = &view.paused {
        found.push(Finding::new(
            Severity::Warning,
            format!("fixes are paused: {}", plain(why)),
            "no new fix starts; incidents are escalated when their time has ended",
            "`selfheal resume` when the reason is gone",
        ));
    }
    if let Some(until) = view.breaker_until.filter(|until| facts.broker_now() < *until) {
        found.push(Finding::new(
            Severity::Warning,
            format!("the circuit breaker is tripped until {}", until.to_rfc3339()),
            "too many fixes have failed one after the other, so no new one begins",
            "see why they failed: `selfheal incidents ls --status escalated`; then `selfheal resume` resets it at once",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::{super::super::facts::well, *};

    #[test]
    fn a_pause_and_a_tripped_breaker_are_told_and_one_that_is_over_is_not() {
        let mut facts = well::facts();
        facts.view_mut().breaker_until = Some(well::now() - TimeDelta::seconds(9));
        assert_eq!(look(&facts), Ok(Vec::new()));
        facts.view_mut().breaker_until = Some(well::now() + TimeDelta::seconds(9));
        facts.view_mut().paused = Some("the sale".to_owned());
        assert_eq!(look(&facts).unwrap().len(), 2);
    }
}
