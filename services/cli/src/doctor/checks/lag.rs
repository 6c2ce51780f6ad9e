//! Do decisions and the log keep up?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "lag", asks: "do decisions and the log keep up?", look };

/// Inputs that may wait on a busy system: less than a second's worth.
const INPUTS_MANY: u64 = 5_000;

fn look(facts: &Facts) -> Looked {
    let views = facts.views.as_ref().map_err(NotSeen::clone)?;
    let view = facts.view()?;
    let mut found = Vec::new();
    if INPUTS_MANY <= view.inbox_lag {
        found.push(Finding::new(
            Severity::Warning,
            format!("{} inputs wait for a decision", view.inbox_lag),
            "new incidents are handled only after all that came before them; a full inbox refuses events",
            "a storm passes by itself; if it does not shrink, see the supervisor's processor and disk, and who sends so much: `selfheal incidents ls --limit 5`",
        ));
    }
    for view in views.iter().filter(|it| 0 < it.log_lag) {
        found.push(Finding::new(
            Severity::Warning,
            format!("{} lines of {} wait for the disk of its log", view.log_lag, view.answered_by),
            "healing goes on, but this copy of the log is not complete until there is room; 50 000 lines are kept in memory",
            "free some space on the disk of its data directory; the lines are written by themselves then",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn inputs_and_lines_that_wait_are_told() {
        let mut facts = well::facts();
        facts.view_mut().inbox_lag = 10;
        assert_eq!(look(&facts), Ok(Vec::new()));
        facts.view_mut().inbox_lag = INPUTS_MANY;
        facts.view_mut().log_lag = 1;
        assert_eq!(look(&facts).unwrap().len(), 2);
    }
}
