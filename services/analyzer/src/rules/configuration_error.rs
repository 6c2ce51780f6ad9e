//! It does not accept its configuration.

use chrono::TimeDelta;

use crate::{
    case::{Case, Life, said},
    ending::Doing,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "configuration_error",
    finds: "it ended by itself, and its log shows a wrong or missing setting",
    find,
};

/// How programs say it.
const LAST_WORDS: [&str; 20] = [
    "invalid config",
    "bad config",
    "config error",
    "configuration error",
    "error in config",
    "failed to load config",
    "failed to parse config",
    "failed to read config",
    "cannot read config",
    "could not parse config",
    "invalid configuration",
    "unknown option",
    "unrecognized option",
    "unexpected argument",
    "unrecognized arguments",
    "missing required",
    "required environment variable",
    "environment variable not found",
    "exec format error",
    "invalid option",
];

/// A change this long ago is suspicious.
const CHANGED_WITHIN: TimeDelta = TimeDelta::minutes(30);

/// A start with the same settings ends the same way.
const OUTWEIGHS: &[&str] = &["process_exited", "container_exited"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead || case.ending().doing() == Doing::Foreign {
        return None;
    }
    let because = case.log_line(&LAST_WORDS).map(said)?;
    let summary = format!("{} does not accept its configuration", case.name());
    let changed =
        case.work.changes.iter().rev().find(|it| case.findings.now - it.at <= CHANGED_WITHIN);
    let changed = changed.map(|it| format!("changed before: {}", it.what));
    let tried = case.work.attempts.last().map(|it| format!("`{}` did not help", it.runbook));
    let suspicion = if tried.is_some() {
        Suspicion::new(97, summary, because).outweighs(OUTWEIGHS)
    } else {
        // The line may be an old warning, and the change another one; a start shows it.
        Suspicion::new(if changed.is_some() { 75 } else { 70 }, summary, because)
    };
    Some(suspicion.and(changed).and(tried))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_log_line_is_certain_only_after_a_start_in_vain() {
        let dead = |name| Scene::process(name).exited(2).log(&["error: invalid config at line 3"]);
        for (scene, confidence) in [
            (dead("first time"), Some(70)),
            (dead("after a change").changed("configuration 7"), Some(75)),
            (dead("after a start in vain").tried("restart-process", 1), Some(97)),
            (Scene::process("killed").killed(9).log(&["invalid config, using default"]), None),
            (Scene::process("runs").log(&["invalid config"]), None),
            (Scene::process("other words").exited(2).log(&["bye"]), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
