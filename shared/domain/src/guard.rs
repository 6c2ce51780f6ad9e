//! The only path to the fixer.
//!
//! All stages are listed in [`PIPELINE`], in their order. Each allows, asks, holds or
//! refuses, with a reason. What comes out at the end is [`Authorized`], which nothing
//! else can build and without which no fix is published: a guard denies unless it allows.

mod stages;

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    action::Action,
    autonomy::Risk,
    incident::{Approval, Incident},
    plan::Plan,
    policy::Policy,
    target::Target,
    wire::{Evidence, FixMode, FixOrder, WorkRef},
};

/// A fix that has not been begun so long after it was authorized is not begun at all.
pub const START_WITHIN: TimeDelta = TimeDelta::seconds(120);
/// How long a fix may take beyond the longest time of its plan, for a claim whose renewal waits
/// for the broker. Nothing is under way any more after it.
pub const FIX_DELAY_MAX: TimeDelta = TimeDelta::seconds(5);
/// How long an approval is worth something after it was given.
pub const APPROVAL_WORTH: TimeDelta = TimeDelta::minutes(5);

/// Something that all guards allowed. It cannot be read from anywhere but a snapshot of what
/// the guards allowed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authorized<T> {
    inner: T,
    approved_by: Option<String>,
}

impl<T> Authorized<T> {
    /// Takes up what was authorized before: the ledger holds only such plans.
    pub(crate) const fn from_ledger(inner: T, approved_by: Option<String>) -> Self {
        Self { inner, approved_by }
    }

    /// Returns who approved it, when somebody had to.
    #[must_use]
    pub fn approved_by(&self) -> Option<&str> {
        self.approved_by.as_deref()
    }
}

/// Reads a plan that was authorized before, from a snapshot.
pub(crate) fn from_snapshot<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Authorized<Plan>, D::Error> {
    #[derive(Deserialize)]
    struct Stored {
        inner: Plan,
        approved_by: Option<String>,
    }
    let Stored { inner, approved_by } = Stored::deserialize(deserializer)?;
    Ok(Authorized::from_ledger(inner, approved_by))
}

impl Authorized<Plan> {
    /// Turns the plan into the order that is published to fixers.
    #[must_use]
    pub fn order(
        &self,
        work: WorkRef,
        mode: FixMode,
        not_after: DateTime<Utc>,
    ) -> Authorized<FixOrder> {
        Authorized {
            inner: FixOrder {
                work,
                mode,
                plan: self.inner.clone(),
                plan_hash: self.inner.hash(),
                approved_by: self.approved_by.clone(),
                not_after,
            },
            approved_by: self.approved_by.clone(),
        }
    }
}

impl<T> std::ops::Deref for Authorized<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

/// Whether somebody may still approve who might when he did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// He may, as far as can be seen.
    Stands,
    /// He may not any more; why, in words that follow "but".
    Ended(String),
    /// It cannot be seen now; why, likewise.
    NotKnown(String),
}

/// Everything that guards look at.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Time of the decision.
    pub now: DateTime<Utc>,
    /// The incident.
    pub incident: &'a Incident,
    /// Its target, as configured now.
    pub target: &'a Target,
    /// The plan.
    pub plan: &'a Plan,
    /// When the plan's evidence was taken.
    pub diagnosed_at: DateTime<Utc>,
    /// Whether who approved it, if anybody did, may still approve.
    pub approver: Standing,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Who stopped new fixes, and why.
    pub paused: Option<&'a str>,
    /// Until when the breaker is tripped.
    pub breaker_until: Option<DateTime<Utc>>,
    /// Until when the trouble is silenced or its target being maintained, and why.
    pub silenced: Option<(DateTime<Utc>, String)>,
    /// All fixes that budgets look at, the oldest first.
    pub history: &'a VecDeque<FixRecord>,
    /// Names of targets under treatment by other incidents, each once.
    pub under_treatment: &'a [String],
    /// Number of configured targets.
    pub n_targets: usize,
    /// Number of targets that are sick by themselves, this one among them.
    pub n_sick: usize,
    /// Whether the plan only starts a target for the first time; see [`is_bring_up`].
    pub bring_up: bool,
}

/// One fix, as budgets see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixRecord {
    /// Its incident.
    pub incident: crate::id::IncidentId,
    /// Its attempt.
    pub attempt: u32,
    /// Its target.
    pub target: String,
    /// Its runbook.
    pub runbook: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was known whether it helped.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether it did not help.
    pub failed: bool,
    /// Whether it was the first start of its target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bring_up: bool,
}

/// What one stage says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing speaks against it.
    Allow,
    /// A person must say yes.
    Ask(String),
    /// Not now; at this time it is looked at again.
    Hold(DateTime<Utc>, String),
    /// Its evidence is too old; the cause is sought anew.
    Stale(String),
    /// No.
    Refuse(String),
    /// Not by itself: a person is told what would be done.
    Suggest(String),
}

/// Name of the stage that holds while another fix of the same target is under way.
pub const ONE_FIX_PER_TARGET: &str = "one fix per target";
/// Name of the stage that holds while too many targets are under treatment.
pub const BLAST_RADIUS: &str = "blast radius";
/// Name of the stage that holds when too much is sick at once. The desk tells people once
/// per storm.
pub const STORM_BRAKE: &str = "storm brake";
/// The storm brake never holds a fleet for fewer sick targets.
const STORM_MIN: usize = 3;

/// Returns how many targets may be sick by themselves before that is a storm.
#[must_use]
pub fn storm_limit(policy: &Policy, n_targets: usize) -> usize {
    policy.storm.of(n_targets).max(STORM_MIN)
}

/// Targets that may be brought up at once, whatever the blast radius: what is down already
/// cannot be harmed by its first start, but a host can by too many at once.
pub(crate) const BRING_UP_MAX: usize = 32;
/// Within this time a target is brought up [`BRING_UPS_MAX`] times at most; then budgets count.
const BRING_UP_AGAIN: TimeDelta = TimeDelta::hours(1);
/// A host that is started again brings up all its targets again, and so does the next start.
const BRING_UPS_MAX: usize = 3;
/// A start that did not help may have been too slow for a busy host; two are the target's own
/// trouble.
const BRING_UPS_FAILED_MAX: usize = 1;
/// Who is believed that a target was never healthy and does not run.
const MONITOR: &str = "selfheal/monitor";

/// Returns whether a plan only starts a target for the first time, or for the first time since
/// its host was started: our own monitor has never seen it healthy, the diagnosis saw that nothing of it runs, and the plan is of low risk
/// and does nothing but start it. Budgets, blast radius, breaker and storm brake are about
/// what runs; this touches nothing that does.
#[must_use]
pub fn is_bring_up(
    incident: &Incident,
    plan: &Plan,
    history: &VecDeque<FixRecord>,
    now: DateTime<Utc>,
) -> bool {
    let starts =
        |it: &Action| matches!(it, Action::ProcessRestart { .. } | Action::DockerStart { .. });
    let only_starts = plan.steps.iter().all(|it| starts(&it.action) && it.undo.is_none());
    let flag = |it: &Evidence, name: &str| it.detail.get(name).and_then(Value::as_bool);
    let status = |it: &Evidence| it.detail.get("status").and_then(Value::as_str).map(str::to_owned);
    let is_down = incident.evidence.iter().any(|it| {
        let is_own = it.target.as_deref() == Some(plan.target.as_str());
        is_own
            && match it.source.as_str() {
                "process" => flag(it, "running") == Some(false),
                "container" => {
                    flag(it, "exists") == Some(true)
                        && matches!(status(it).as_deref(), Some("created" | "exited"))
                }
                _ => false,
            }
    });
    let from = now - BRING_UP_AGAIN;
    let earlier =
        history.iter().filter(|it| it.bring_up && it.target == plan.target && from < it.started_at);
    let n_failed = earlier.clone().filter(|it| it.failed).count();
    let may_again = earlier.count() < BRING_UPS_MAX && n_failed <= BRING_UPS_FAILED_MAX;
    &*incident.event.source == MONITOR
        && incident.event.seen_well() == Some(false)
        && plan.risk == Risk::Low
        && only_starts
        && is_down
        && may_again
}

/// A stage: its name, and the question it asks.
pub type Stage = (&'static str, fn(&Situation<'_>) -> Opinion);

/// All stages, in their order.
pub const PIPELINE: [Stage; 11] = [
    ("kill switch", stages::kill_switch),
    ("freeze window", stages::freeze_window),
    ("maintenance", stages::maintenance),
    ("autonomy", stages::autonomy),
    ("staleness", stages::staleness),
    (ONE_FIX_PER_TARGET, stages::one_fix_per_target),
    ("cool-down", stages::cool_down),
    ("budget", stages::budget),
    (BLAST_RADIUS, stages::blast_radius),
    ("circuit breaker", stages::circuit_breaker),
    (STORM_BRAKE, stages::storm_brake),
];

/// What the whole pipeline says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go.
    Allow(Authorized<Plan>),
    /// The named guard says something else.
    Otherwise(&'static str, Opinion),
}

/// Asks all stages. The first that does not allow decides; but nobody is asked for an
/// approval of what a later stage would refuse.
#[must_use]
pub fn authorize(situation: &Situation<'_>) -> Verdict {
    let mut first: Option<(&'static str, Opinion)> = None;
    for (name, stage) in PIPELINE {
        let opinion = stage(situation);
        match (&first, opinion) {
            (_, Opinion::Allow) => {}
            (None, opinion @ Opinion::Ask(_)) => first = Some((name, opinion)),
            (None, opinion) => return Verdict::Otherwise(name, opinion),
            (Some(_), opinion @ Opinion::Refuse(_)) => return Verdict::Otherwise(name, opinion),
            (
                Some(_),
                Opinion::Ask(_) | Opinion::Hold(..) | Opinion::Stale(_) | Opinion::Suggest(_),
            ) => {}
        }
    }
    match first {
        Some((name, opinion)) => Verdict::Otherwise(name, opinion),
        None => Verdict::Allow(Authorized {
            inner: situation.plan.clone(),
            approved_by: valid_approval(situation).map(str::to_owned),
        }),
    }
}

/// Says why a fix that was ordered must not begin any more: what stops new fixes also stops those
/// that are ordered and not begun. `None` when nothing does. Counts of fixes, cool-downs and the
/// breaker were asked when it was ordered.
#[must_use]
pub fn recalls(situation: &Situation<'_>, approved_by: Option<&str>) -> Option<String> {
    for stage in [stages::kill_switch, stages::freeze_window, stages::maintenance] {
        match stage(situation) {
            Opinion::Allow => {}
            Opinion::Hold(_, why)
            | Opinion::Ask(why)
            | Opinion::Stale(why)
            | Opinion::Refuse(why)
            | Opinion::Suggest(why) => return Some(why),
        }
    }
    match stages::autonomy(situation) {
        Opinion::Allow | Opinion::Hold(..) => None,
        Opinion::Ask(why) => Some(why).filter(|_| approved_by.is_none()),
        Opinion::Stale(why) | Opinion::Refuse(why) | Opinion::Suggest(why) => Some(why),
    }
}

/// Returns who approved exactly this plan, if the approval is still worth something and he may
/// still approve.
fn valid_approval<'a>(situation: &Situation<'a>) -> Option<&'a str> {
    approved_by(situation).filter(|_| situation.approver == Standing::Stands)
}

/// Returns who approved exactly this plan, not too long ago.
fn approved_by<'a>(situation: &Situation<'a>) -> Option<&'a str> {
    let approval = situation.incident.approval.as_ref()?;
    let hash = situation.plan.hash();
    let valid = approval.plan_hash == hash && situation.now < approval.expires_at;
    let before = situation.incident.approvals_before.iter().filter(|it| it.plan_hash == hash);
    let people: BTreeSet<String> = before.chain([approval]).map(Approval::person).collect();
    let enough = situation.policy.approvals_of(&situation.plan.runbook) <= people.len();
    (valid && enough).then_some(approval.by.as_str())
}
