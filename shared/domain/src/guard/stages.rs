//! The stages of the guard pipeline, in its order. Each is one question.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{BRING_UP_MAX, FixRecord, Opinion, Situation, Standing, approved_by, storm_limit};
use crate::{
    policy::Autonomy,
    span::{Rates, Span},
};

/// When a hold has no natural end, it is looked at again after this time. What ends it
/// earlier (a fix that ends, a resume) makes the desk look at once.
const LOOK_AGAIN: Span = Span::from_secs(30);

/// Tells whether a fix counts for one of the limits.
type Concerns<'a> = &'a dyn Fn(&FixRecord) -> bool;

/// Has somebody stopped all new fixes?
pub(super) fn kill_switch(it: &Situation<'_>) -> Opinion {
    match it.paused {
        Some(why) => {
            Opinion::Hold(it.now + LOOK_AGAIN.to_delta(), format!("fixes are paused: {why}"))
        }
        None => Opinion::Allow,
    }
}

/// Is this a time in which nothing is to be touched?
pub(super) fn freeze_window(it: &Situation<'_>) -> Opinion {
    let now = it.now;
    let freeze = it.policy.freeze.iter().find(|one| one.from <= now && now < one.until);
    freeze.map_or(Opinion::Allow, |one| {
        Opinion::Hold(one.until, format!("frozen until {}: {}", one.until, one.reason))
    })
}

/// Is the target being maintained, or has somebody silenced its trouble?
pub(super) fn maintenance(it: &Situation<'_>) -> Opinion {
    match &it.silenced {
        Some((until, why)) => Opinion::Hold(*until, format!("nothing is touched: {why}")),
        None => Opinion::Allow,
    }
}

/// May this be done without asking?
pub(super) fn autonomy(it: &Situation<'_>) -> Opinion {
    let plan = it.plan;
    let autonomy =
        it.policy.autonomy_of(&plan.runbook, plan.autonomy, plan.risk, it.target.autonomy);
    match autonomy {
        Autonomy::Auto => Opinion::Allow,
        Autonomy::Approve => match (approved_by(it), &it.approver) {
            (Some(_), Standing::Stands) => Opinion::Allow,
            (Some(by), Standing::Ended(why)) => {
                Opinion::Ask(format!("{by} approved it, but {why}; another approver is required"))
            }
            // A guard denies unless it allows.
            (Some(by), Standing::NotKnown(why)) => Opinion::Hold(
                it.now + LOOK_AGAIN.to_delta(),
                format!("{by} approved it, but {why}"),
            ),
            (None, _) => Opinion::Ask(format!("runbook `{}` needs an approval", plan.runbook)),
        },
        Autonomy::Suggest => Opinion::Suggest(format!("policy only allows to suggest: {plan}")),
        Autonomy::Observe => Opinion::Suggest(format!("policy only observes; would do: {plan}")),
    }
}

/// Is the evidence still true?
pub(super) fn staleness(it: &Situation<'_>) -> Opinion {
    let about = it.incident.target.as_deref();
    if about != Some(it.plan.target.as_str()) || it.target.name != it.plan.target {
        return Opinion::Refuse(format!(
            "the plan is for `{}`, the incident is about `{}`",
            it.plan.target,
            about.unwrap_or("no configured target")
        ));
    }
    if it.diagnosed_at + it.policy.plan_max_age.to_delta() < it.now {
        return Opinion::Stale(format!(
            "the plan's evidence is older than {}",
            it.policy.plan_max_age
        ));
    }
    // A fresh look at the target counts more than the age of the event.
    const LOOKS: [&str; 4] = ["check", "process", "container", "dependency"];
    let seen = it.incident.evidence.iter().any(|one| LOOKS.contains(&one.source.as_str()));
    let starts_at = it.incident.event.starts_at.unwrap_or(it.incident.opened_at);
    if !seen && starts_at + it.policy.event_max_age.to_delta() < it.now {
        return Opinion::Refuse(format!(
            "the event is of {starts_at}, older than {}, and no newer check confirms it",
            it.policy.event_max_age
        ));
    }
    Opinion::Allow
}

/// Is somebody at it already?
pub(super) fn one_fix_per_target(it: &Situation<'_>) -> Opinion {
    if it.under_treatment.contains(&it.plan.target) {
        return Opinion::Hold(
            it.now + LOOK_AGAIN.to_delta(),
            format!("another fix of `{}` is under way", it.plan.target),
        );
    }
    Opinion::Allow
}

/// Has enough time passed since the end of the last fix?
pub(super) fn cool_down(it: &Situation<'_>) -> Opinion {
    let cooldown = it.policy.cooldown;
    let (target, runbook) = (&it.plan.target, &it.plan.runbook);
    let attempt = it.incident.n_tried() + 1;
    let waits: [(&str, Span, Concerns<'_>); 4] = [
        ("this incident", it.policy.backoff_before(attempt), &|one| one.incident == it.incident.id),
        ("this target", cooldown.per_target, &|one| one.target == *target),
        ("this runbook", cooldown.per_runbook, &|one| one.runbook == *runbook),
        ("the fleet", cooldown.fleet, &|_| true),
    ];
    for (whose, wait, concerns) in waits {
        // The one that began last need not be the one that ends last, and what is under
        // way has not ended yet.
        let ends = it.history.iter().filter(|one| concerns(one));
        let last = ends.map(|one| one.ended_at.unwrap_or(it.now)).max();
        let until = last.map(|last| last + wait.to_delta());
        if let Some(until) = until.filter(|until| it.now < *until) {
            return Opinion::Hold(until, format!("cool-down of {whose}, {wait}"));
        }
    }
    Opinion::Allow
}

/// Has it been done too often?
pub(super) fn budget(it: &Situation<'_>) -> Opinion {
    if it.bring_up {
        return Opinion::Allow;
    }
    let budget = &it.policy.budget;
    let (target, runbook) = (&it.plan.target, &it.plan.runbook);
    let own = it.policy.runbooks.get(runbook).and_then(|one| one.budget.as_ref());
    let budgets: [(&str, &Rates, Concerns<'_>); 3] = [
        ("this target", &budget.per_target, &|one| one.target == *target),
        ("this runbook", own.unwrap_or(&budget.per_runbook), &|one| one.runbook == *runbook),
        ("the fleet", &budget.fleet, &|_| true),
    ];
    for (whose, rates, concerns) in budgets {
        for rate in &rates.0 {
            let from: DateTime<Utc> = it.now - rate.per.to_delta();
            let is_in = |one: &&FixRecord| !one.bring_up && from < one.started_at && concerns(one);
            let n = it.history.iter().filter(is_in).count();
            if usize::try_from(rate.count).unwrap_or(usize::MAX) <= n {
                return Opinion::Refuse(format!(
                    "budget of {whose} is used up: {n} fixes within {}, allowed are {}",
                    rate.per, rate.count
                ));
            }
        }
    }
    Opinion::Allow
}

/// Would too many be touched at once?
pub(super) fn blast_radius(it: &Situation<'_>) -> Opinion {
    let limit = it.policy.budget.blast_radius;
    let allowed = limit.of(it.n_targets);
    // A radius of 0 says that nothing is to be touched.
    let allowed = if it.bring_up && allowed != 0 { BRING_UP_MAX.max(allowed) } else { allowed };
    if allowed == 0 {
        return Opinion::Refuse("the blast radius is 0: no target may be touched".to_owned());
    }
    let others: BTreeSet<_> =
        it.under_treatment.iter().filter(|one| **one != it.plan.target).collect();
    if allowed <= others.len() {
        return Opinion::Hold(
            it.now + LOOK_AGAIN.to_delta(),
            format!(
                "{} targets are under treatment; the blast radius ({} % of {}, at most {}) allows {allowed}",
                others.len(),
                limit.percent,
                it.n_targets,
                limit.count
            ),
        );
    }
    Opinion::Allow
}

/// Do fixes fail too often?
pub(super) fn circuit_breaker(it: &Situation<'_>) -> Opinion {
    if let Some(until) = it.breaker_until.filter(|until| it.now < *until) {
        return Opinion::Hold(
            until,
            format!("too many fixes failed; no new fix starts until {until}"),
        );
    }
    Opinion::Allow
}

/// Is too much sick at once? Then something is wrong that no runbook knows.
pub(super) fn storm_brake(it: &Situation<'_>) -> Opinion {
    let limit = storm_limit(it.policy, it.n_targets);
    if it.bring_up {
        return Opinion::Allow;
    }
    if limit < it.n_sick {
        return Opinion::Hold(
            it.now + LOOK_AGAIN.to_delta(),
            format!("storm: {} targets are unhealthy at once, limit {limit}", it.n_sick),
        );
    }
    Opinion::Allow
}
