//! Do all who give signs of life also answer?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "agents", asks: "does everybody who lives also answer?", look };

fn look(facts: &Facts) -> Looked {
    let living = facts.living()?;
    let answering = facts.answering.as_ref().map_err(NotSeen::clone)?;
    let mut found = Vec::new();
    let silent = living.signs.iter().filter(|it| !answering.contains(&it.member.id));
    for sign in silent {
        let member = &sign.member;
        found.push(Finding::new(
            Severity::Warning,
            format!(
                "{} (process {} on {}) gave a sign of life but does not answer",
                member.id, member.pid, member.host
            ),
            "it may have stopped a moment ago, hang, or be cut off; its work goes to others after some seconds",
            "check again; if it stays so, see its log and restart it",
        ));
    }
    if 0 < living.n_unreadable {
        found.push(Finding::new(
            Severity::Warning,
            format!("{} entries of the list of the living cannot be read", living.n_unreadable),
            "agents of a version that this one does not know, or another program that writes into the bucket",
            "run one version everywhere; see `nats kv ls` for who writes there",
        ));
    }
    if !living.signs.iter().any(|it| it.member.kind == "gateway") {
        found.push(Finding::new(
            Severity::Warning,
            "no gateway lives",
            "no event comes in by HTTP, and no notification goes out",
            "start one: `selfheal-gateway`",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn one_that_does_not_answer_is_named_with_its_process() {
        let mut facts = well::facts();
        facts.answering.as_mut().unwrap().remove("monitor-1");
        facts.signs_mut().retain(|it| it.member.kind != "gateway");
        let found = look(&facts).unwrap();
        assert!(found[0].what.contains("monitor-1 (process 7 on here)"), "{found:?}");
        assert!(found[1].what.contains("no gateway"), "{found:?}");
    }
}
