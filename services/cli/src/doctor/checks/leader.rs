//! Does exactly one supervisor lead?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "leader", asks: "does exactly one supervisor lead?", look };

const UNDECIDED: &str = "events are stored, but nothing is decided, and so nothing is healed";

fn look(facts: &Facts) -> Looked {
    let living = facts.living()?;
    let n_living = living.signs.iter().filter(|it| it.member.kind == "supervisor").count();
    let leaders = facts.leaders.as_ref().map_err(NotSeen::clone)?;
    if n_living == 0 && leaders.is_empty() {
        return Ok(vec![Finding::new(
            Severity::Error,
            "no supervisor lives",
            UNDECIDED,
            "start one: `selfheal-supervisor`; if it ends by itself, its last log line says why",
        )]);
    }
    let mut found = Vec::new();
    if leaders.is_empty() {
        found.push(Finding::new(
            Severity::Error,
            format!("{n_living} supervisors live, and none leads"),
            UNDECIDED,
            "a lease that was lost is taken within 3 s: look again; if it stays so, the supervisors' logs say what they wait for, such as a ledger that does not fit their log",
        ));
    }
    if 1 < leaders.len() {
        let names: Vec<_> = leaders.iter().map(String::as_str).collect();
        found.push(Finding::new(
            Severity::Warning,
            format!("{} supervisors say that they lead: {}", leaders.len(), names.join(", ")),
            "the ledger lets only one of them decide, so nothing is done twice; but the others do not know it and decide nothing",
            "look again: one that was frozen notices within seconds; restart those that stay",
        ));
    }
    if n_living == 1 {
        found.push(Finding::new(
            Severity::Note,
            "there is one supervisor",
            "while it restarts, nothing is decided; and there is one copy of the log",
            "start a second one on another machine, with its own --data-dir",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    fn severities(facts: &Facts) -> Vec<Severity> {
        look(facts).unwrap().iter().map(|it| it.severity).collect()
    }

    #[test]
    fn none_several_and_one_are_told_apart() {
        let mut facts = well::facts();
        assert_eq!(severities(&facts), []);
        facts.leaders.as_mut().unwrap().insert("supervisor-2".to_owned());
        assert_eq!(severities(&facts), [Severity::Warning]);
        facts.leaders.as_mut().unwrap().clear();
        assert_eq!(severities(&facts), [Severity::Error]);
        facts.signs_mut().retain(|it| it.member.id != "supervisor-2");
        assert_eq!(severities(&facts), [Severity::Error, Severity::Note]);
        facts.signs_mut().retain(|it| it.member.kind != "supervisor");
        assert!(look(&facts).unwrap()[0].what.contains("no supervisor lives"));
    }
}
