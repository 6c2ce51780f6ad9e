//! What a person must confirm before a configuration replaces another: it loosens the policy,
//! or removes so much that the text may have been cut.
//!
//! A supervisor that finds such a text in its file asks first; see [`Config::to_confirm`].
//! What is not known to be harmless is asked.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Config, cut, validate::built_in_risk};
use crate::{
    autonomy::{Autonomy, Risk},
    policy::{Breaker, Budget, Cooldown, Freeze, Limit, Policy, Retry},
    silence::{Flapping, InhibitRule, Window},
    span::{Rates, Span},
    target::Target,
};

/// Differences that are named; a person who has read so many looks at the file.
const NAMED_MAX: usize = 20;
/// Fewer targets may be replaced by half and more in one edit.
const HALF_FROM: usize = 3;

impl Config {
    /// Returns what a person must confirm before `new` replaces this configuration, one
    /// difference in each sentence; empty when `new` may come into force by itself.
    ///
    /// What ended before `now`, such as a freeze window, can be removed without a question.
    #[must_use]
    pub fn to_confirm(&self, new: &Self, now: DateTime<Utc>) -> Vec<String> {
        let mut found = Vec::new();
        targets(self, new, &mut found);
        cut::sections(self, new, &mut found);
        policy(&self.policy, &new.policy, now, &mut found);
        autonomy(self, new, &mut found);
        windows(&self.maintenance, &new.maintenance, now, &mut found);
        inhibit(&self.inhibit, &new.inhibit, &mut found);
        flapping(self.flapping, new.flapping, &mut found);
        let n = found.len();
        if NAMED_MAX < n {
            found.truncate(NAMED_MAX);
            found.push(format!("and {} more", n - NAMED_MAX));
        }
        found
    }
}

fn targets(old: &Config, new: &Config, found: &mut Vec<String>) {
    let names: BTreeSet<&str> = new.targets.iter().map(|it| it.name.as_str()).collect();
    let n = old.targets.len();
    let n_removed = old.targets.iter().filter(|it| !names.contains(it.name.as_str())).count();
    if 0 < n && new.targets.is_empty() {
        found.push(format!("all {n} targets are removed"));
        return;
    }
    if HALF_FROM <= n && n < 2 * n_removed {
        found.push(format!("{n_removed} of {n} targets are removed"));
    } else {
        cut::targets(&old.targets, &new.targets, found);
    }
}

/// Differences of one value that make it looser when they point this way.
struct Looser<'a> {
    found: &'a mut Vec<String>,
}

impl Looser<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "callers have values and borrowed ones")]
    fn say(&mut self, is_looser: bool, path: &str, old: impl ToString, new: impl ToString) {
        if is_looser {
            self.found.push(format!("{path}: {} -> {}", old.to_string(), new.to_string()));
        }
    }

    fn raised<T: PartialOrd + ToString>(&mut self, path: &str, old: T, new: T) {
        self.say(old < new, path, old, new);
    }

    fn lowered<T: PartialOrd + ToString>(&mut self, path: &str, old: T, new: T) {
        self.say(new < old, path, old, new);
    }

    fn limit(&mut self, path: &str, old: Limit, new: Limit) {
        self.raised(&format!("{path}.percent"), old.percent, new.percent);
        self.raised(&format!("{path}.count"), old.count, new.count);
    }

    fn rates(&mut self, path: &str, old: &Rates, new: &Rates) {
        // Each of the old rates must follow from one of the new ones.
        let kept = old
            .0
            .iter()
            .all(|old| new.0.iter().any(|new| new.count <= old.count && old.per <= new.per));
        self.say(!kept, path, old, new);
    }
}

/// Every field is named, so that a new one cannot be forgotten here.
fn policy(old: &Policy, new: &Policy, now: DateTime<Utc>, found: &mut Vec<String>) {
    if *new == Policy::default() && *old != *new {
        found.push("the section `policy` is removed".to_owned());
    }
    let Policy {
        // With the runbooks and targets that it is about.
        autonomy: _,
        runbooks,
        budget,
        attempts,
        backoff,
        cooldown,
        soak,
        // A fix is longer in the balance, but nothing more is done.
        verify_within: _,
        approvals,
        approval_timeout,
        // A plan waits longer for guards that still hold it.
        hold_timeout: _,
        plan_max_age,
        event_max_age,
        // Nothing is done before the diagnosis is there.
        diagnosis_timeout: _,
        retry,
        freeze,
        breaker,
        storm,
        // Whole or in part: see `cut::sections`.
        notify: _,
    } = old;
    let mut is = Looser { found };
    for name in runbooks.keys().chain(new.runbooks.keys()) {
        let path = format!("policy.runbooks.{name}.approvals");
        // Said once, where it is set.
        if old.runbooks.get(name).map(|it| it.approvals)
            != new.runbooks.get(name).map(|it| it.approvals)
        {
            is.lowered(&path, old.approvals_of(name), new.approvals_of(name));
        }
    }
    for (name, stated) in runbooks {
        let Some(budget) = &stated.budget else { continue };
        let path = format!("policy.runbooks.{name}.budget");
        match new.runbooks.get(name).and_then(|it| it.budget.as_ref()) {
            Some(new) => is.rates(&path, budget, new),
            None => is.say(true, &path, budget, "none"),
        }
    }
    self::budget(&mut is, budget, &new.budget);
    is.raised("policy.attempts", *attempts, new.attempts);
    is.lowered("policy.backoff", *backoff, new.backoff);
    self::cooldown(&mut is, *cooldown, new.cooldown);
    is.lowered("policy.soak", *soak, new.soak);
    is.lowered("policy.approvals", *approvals, new.approvals);
    is.raised("policy.approval_timeout", *approval_timeout, new.approval_timeout);
    is.raised("policy.plan_max_age", *plan_max_age, new.plan_max_age);
    is.raised("policy.event_max_age", *event_max_age, new.event_max_age);
    self::retry(&mut is, *retry, new.retry);
    self::breaker(&mut is, *breaker, new.breaker);
    is.limit("policy.storm", *storm, new.storm);
    freezes(freeze, &new.freeze, now, found);
}

fn budget(is: &mut Looser<'_>, old: &Budget, new: &Budget) {
    let Budget { per_target, per_runbook, fleet, blast_radius } = old;
    is.rates("policy.budget.per_target", per_target, &new.per_target);
    is.rates("policy.budget.per_runbook", per_runbook, &new.per_runbook);
    is.rates("policy.budget.fleet", fleet, &new.fleet);
    is.limit("policy.budget.blast_radius", *blast_radius, new.blast_radius);
}

fn cooldown(is: &mut Looser<'_>, old: Cooldown, new: Cooldown) {
    let Cooldown { per_target, per_runbook, fleet } = old;
    is.lowered("policy.cooldown.per_target", per_target, new.per_target);
    is.lowered("policy.cooldown.per_runbook", per_runbook, new.per_runbook);
    is.lowered("policy.cooldown.fleet", fleet, new.fleet);
}

fn retry(is: &mut Looser<'_>, old: Retry, new: Retry) {
    let Retry { first, max, lasts } = old;
    is.lowered("policy.retry.first", first, new.first);
    is.lowered("policy.retry.max", max, new.max);
    is.raised("policy.retry.for", lasts, new.lasts);
}

fn breaker(is: &mut Looser<'_>, old: Breaker, new: Breaker) {
    let Breaker { failures, within, reset_after } = old;
    is.raised("policy.breaker.failures", failures, new.failures);
    is.lowered("policy.breaker.within", within, new.within);
    is.lowered("policy.breaker.reset_after", reset_after, new.reset_after);
}

fn freezes(old: &[Freeze], new: &[Freeze], now: DateTime<Utc>, found: &mut Vec<String>) {
    for freeze in old.iter().filter(|it| now < it.until) {
        let from = freeze.from.max(now);
        if !new.iter().any(|it| it.from <= from && freeze.until <= it.until) {
            let Freeze { from, until, reason } = freeze;
            found
                .push(format!("policy.freeze: {from} to {until} ({reason}) is removed or shorter"));
        }
    }
}

fn windows(old: &[Window], new: &[Window], now: DateTime<Utc>, found: &mut Vec<String>) {
    for window in old.iter().filter(|it| it.until.is_none_or(|until| now < until)) {
        let covers = |it: &&Window| {
            let Window { name, matchers, from, until, cron, lasts, time_zone, reason: _ } = it;
            let is_same = *name == window.name
                && (matchers, cron, time_zone)
                    == (&window.matchers, &window.cron, &window.time_zone);
            let begins = window.from.map(|it| it.max(now));
            is_same && *from <= begins && window.until <= *until && window.lasts <= *lasts
        };
        if !new.iter().any(|it| covers(&it)) {
            found.push(format!("maintenance: `{}` is removed or covers less", window.name));
        }
    }
}

fn inhibit(old: &[InhibitRule], new: &[InhibitRule], found: &mut Vec<String>) {
    let n = old.iter().filter(|it| !new.contains(it)).count();
    if 0 < n {
        found.push(format!("inhibit: {n} of {} rules are removed or changed", old.len()));
    }
}

fn flapping(old: Option<Flapping>, new: Option<Flapping>, found: &mut Vec<String>) {
    match (old, new) {
        (Some(_), None) => found.push("the section `flapping` is removed".to_owned()),
        (Some(old), Some(new)) => {
            let mut is = Looser { found };
            let Flapping { opens, within, quiet } = old;
            is.raised("flapping.opens", opens, new.opens);
            is.lowered("flapping.within", within, new.within);
            is.lowered("flapping.quiet", quiet, new.quiet);
        }
        (None, _) => {}
    }
}

/// How far each runbook may go by itself, and how far each target lets it.
fn autonomy(old: &Config, new: &Config, found: &mut Vec<String>) {
    let mut is = Looser { found };
    is.say(
        old.policy.autonomy < new.policy.autonomy,
        "policy.autonomy",
        word(Some(old.policy.autonomy)),
        word(Some(new.policy.autonomy)),
    );
    let (before, after) = (of_runbooks(old), of_runbooks(new));
    for (name, autonomy) in &before {
        let Some(then) = after.get(name) else { continue };
        let is_said = old.policy.autonomy < new.policy.autonomy && stated(old, name).is_none();
        let path = format!("autonomy of runbook `{name}`");
        is.say(autonomy < then && !is_said, &path, word(Some(*autonomy)), word(Some(*then)));
    }
    let targets: BTreeMap<&str, &Target> =
        new.targets.iter().map(|it| (it.name.as_str(), it)).collect();
    for target in &old.targets {
        let Some(then) = targets.get(target.name.as_str()) else { continue };
        let limit = |it: &Target| it.autonomy.unwrap_or(Autonomy::Auto);
        let path = format!("target `{}`: autonomy", target.name);
        let (was, is_now) = (word(target.autonomy), word(then.autonomy));
        is.say(limit(target) < limit(then), &path, was, is_now);
        if let Some(soak) = target.soak {
            let path = format!("target `{}`: soak", target.name);
            let then = then.soak.unwrap_or(new.policy.soak);
            is.lowered::<Span>(&path, soak, then);
        }
    }
}

fn word(autonomy: Option<Autonomy>) -> &'static str {
    match autonomy {
        None => "none",
        Some(Autonomy::Observe) => "observe",
        Some(Autonomy::Suggest) => "suggest",
        Some(Autonomy::Approve) => "approve",
        Some(Autonomy::Auto) => "auto",
    }
}

fn stated(config: &Config, runbook: &str) -> Option<Autonomy> {
    config.policy.runbooks.get(runbook).and_then(|it| it.autonomy)
}

/// How far each runbook may go by itself, on a target that says nothing about it.
fn of_runbooks(config: &Config) -> BTreeMap<&str, Autonomy> {
    let of = |name, own, risk| config.policy.autonomy_of(name, own, risk, None);
    let built_in = super::known_runbooks().iter().map(|name| {
        // One that is not known may do the least by itself, so that all else is more.
        let risk = built_in_risk(name).unwrap_or(Risk::High);
        (*name, of(*name, None, risk))
    });
    let own = config.runbooks.iter().map(|it| {
        let name = it.name.as_str();
        (name, of(name, it.autonomy, it.risk))
    });
    // One of the configuration replaces a built-in one of its name.
    built_in.chain(own).collect()
}

#[cfg(test)]
mod tests;
