//! What must hold whatever happens. Kept apart from the code that it judges: it sees
//! the decisions, has its own memory of them, and looks at the desk from outside.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{
    catalogue::Catalogue,
    config::Config,
    desk::Desk,
    event::{Event, Status},
    fact::{Decision, DiagnosedCause, Fact, Trigger},
    id::IncidentId,
    incident::Phase,
    matcher::Subject,
    plan::{Plan, Risk},
    policy::{Autonomy, Policy},
    silence::{Silence, SilenceId},
    span::{Rate, Span},
    wire::WorkKind,
};

/// How long an approval is worth something.
const APPROVAL_WORTH: TimeDelta = TimeDelta::minutes(5);

/// The memory of the laws.
#[derive(Clone, Default)]
pub(in crate::desk) struct Laws {
    config: Config,
    /// Parts of one that were recorded.
    parts: BTreeMap<String, Config>,
    paused: bool,
    breaker_until: Option<DateTime<Utc>>,
    last_seq: u64,
    cases: BTreeMap<IncidentId, Case>,
    /// The newest incident of each fingerprint.
    newest: BTreeMap<String, IncidentId>,
    starts: Vec<Start>,
    silences: BTreeMap<SilenceId, Silence>,
    /// Until when each fingerprint is kept quiet.
    quiet: BTreeMap<String, DateTime<Utc>>,
    /// Number of decisions by name, so that a test can show that it is not vacuous.
    pub(in crate::desk) counts: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen")]
struct Case {
    event: Option<Event>,
    target: Option<String>,
    is_over: bool,
    is_symptom: bool,
    attempt: u32,
    attempts_before_retry: u32,
    attempts_returned: u32,
    is_recalled: bool,
    /// The target that is being acted upon, until it is known whether it helped.
    treating: Option<String>,
    /// Whether a fixer may be at it right now.
    is_at_work: bool,
    diagnosed_at: Option<DateTime<Utc>>,
    /// The last plan that was made for it.
    planned: Option<Plan>,
    /// Samples must not be older.
    since: Option<DateTime<Utc>>,
    is_proven: bool,
    asked: Option<(String, DateTime<Utc>)>,
    approved: Option<(String, String, DateTime<Utc>)>,
    n_undos: u32,
    starts_at: Option<DateTime<Utc>>,
    sick_since: Option<DateTime<Utc>>,
    was_never_well: bool,
    is_acknowledged: bool,
    /// Its sender said last that it is over, or says nothing any more.
    is_said_over: bool,
}

/// A fix, as the laws saw it begin.
#[derive(Clone)]
struct Start {
    incident: IncidentId,
    attempt: u32,
    target: String,
    runbook: String,
    at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    bring_up: bool,
}

impl Case {
    /// Notes what its events say about its begin.
    fn seen(&mut self, event: &Event, at: DateTime<Utc>) {
        self.starts_at = self.starts_at.max(event.starts_at);
        self.sick_since = self.starts_at.or(self.sick_since).or(Some(at));
        if !event.payload.is_null() {
            self.was_never_well = event.payload.get("seen_well") == Some(&Value::Bool(false));
        }
    }

    /// A plan is what a runbook in force makes of the target, whatever a report says of it.
    fn may_be_planned(&self, config: &Config, found: &DiagnosedCause) {
        let Some(plan) = &found.plan else { return };
        assert_eq!(Some(&plan.target), self.target.as_ref(), "{plan:?}");
        let target = config.target(&plan.target).expect("a plan for what is not configured");
        let own = config.runbooks.iter().find(|it| it.name == plan.runbook);
        let built_in = Catalogue::default();
        let runbook = own.or_else(|| built_in.runbook(&plan.runbook)).expect("no such runbook");
        let event = self.event.as_ref().unwrap();
        let applies = runbook.applies(&found.cause, &event.kind, event.whose(), target);
        assert!(applies, "{plan:?}");
        let Policy { soak, verify_within, .. } = config.policy;
        assert_eq!(runbook.plan(&found.cause, target, soak, verify_within).as_ref(), Ok(plan));
    }
}

impl Laws {
    /// Judges one decision.
    pub(in crate::desk) fn observe(&mut self, decision: &Decision) {
        assert_eq!(decision.seq, self.last_seq + 1, "decisions are numbered without a gap");
        assert!(!decision.reason.is_empty(), "without a reason: {decision:?}");
        self.last_seq = decision.seq;
        *self.counts.entry(decision.fact.name()).or_default() += 1;
        match decision.incident {
            None => self.observe_all(decision),
            Some(id) => self.observe_one(id, decision),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other facts are about an incident")]
    fn observe_all(&mut self, decision: &Decision) {
        match &decision.fact {
            Fact::ConfigurationPart { sha256, part, .. } => {
                self.parts.insert(sha256.clone(), (**part).clone());
            }
            Fact::Configured { config, parts, .. } => {
                self.config = config.joined(parts.iter().map(|it| &self.parts[it]));
            }
            Fact::Paused { .. } => self.paused = true,
            Fact::Resumed { .. } => {
                self.paused = false;
                self.breaker_until = None;
            }
            Fact::BreakerTripped { until } => self.breaker_until = Some(*until),
            Fact::Silenced { silence } => {
                self.silences.insert(silence.id.clone(), (**silence).clone());
            }
            Fact::SilenceEnded { id, .. } => {
                self.silences.remove(id).expect("a silence ends once");
            }
            Fact::Suppressed { event, target, fingerprint, until, .. } => {
                assert!(decision.at < *until, "what is kept quiet is looked at again");
                assert_eq!(event.status, Status::Firing);
                let former = self.newest.get(fingerprint).map(|id| &self.cases[id]);
                assert!(former.is_none_or(|it| it.is_over), "quiet beside an open incident");
                let known = target.as_deref().is_none_or(|it| self.config.target(it).is_some());
                assert!(known, "its target is configured");
                self.quiet.insert(fingerprint.clone(), *until);
            }
            Fact::SuppressionEnded { fingerprint } => {
                self.quiet.remove(fingerprint).expect("what was quiet is so no more");
            }
            Fact::LeadershipTaken { .. }
            | Fact::CommandRefused { .. }
            | Fact::RecoveryNoted { .. }
            | Fact::EventOver { .. } => {}
            Fact::SuppressionExtended { fingerprint, .. } => {
                assert!(self.quiet.contains_key(fingerprint), "it is quiet: {decision:?}");
            }
            Fact::InputRejected { position, .. } => assert_eq!(*position, decision.cause),
            Fact::Changed { change, .. } => {
                assert!(change.at <= decision.at, "a change lies ahead: {decision:?}");
            }
            Fact::ConfigurationHeld { held } => {
                assert!(!held.differences.is_empty(), "nothing is to be confirmed: {held:?}");
            }
            Fact::ConfigurationUnchanged { .. } => {}
            fact => panic!("{fact:?} is about an incident"),
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each fact that promises something")]
    fn observe_one(&mut self, id: IncidentId, decision: &Decision) {
        let fact = &decision.fact;
        if let Fact::Opened { event, target, fingerprint, previous } = fact {
            self.opened(id, target.as_ref(), fingerprint, *previous);
            self.may_be_heard(event, target.as_deref(), fingerprint, decision.at);
            let case = self.cases.get_mut(&id).unwrap();
            case.event = Some((**event).clone());
            return case.seen(event, decision.at);
        }
        if let Fact::FixStarted { attempt, plan, approved_by, not_after, bring_up, .. } = fact {
            assert!(decision.at < *not_after);
            let by = approved_by.as_deref();
            self.fix_started(id, decision.at, (*attempt, *bring_up), plan, by);
        }
        let is_measured = self.is_measured(id);
        let all_sick_before = self.all_sick_before(id, fact);
        if let Fact::BecameSymptom { of } = fact {
            let cause = self.cases.get(of).expect("a symptom of nothing");
            // So nothing can wait for itself, over however many.
            assert!(*of != id && !cause.is_over && !cause.is_symptom, "{decision:?}");
        }
        let case = self.cases.get_mut(&id).expect("a fact about an incident that was opened");
        let told = matches!(
            fact,
            Fact::Notified { .. }
                | Fact::NoticesDue { .. }
                | Fact::LateReport { .. }
                | Fact::CommandRefused { .. }
        );
        assert!(!case.is_over || told, "an incident that is over takes nothing: {decision:?}");
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other facts promise nothing")]
        match fact {
            Fact::BecameSymptom { .. } => case.is_symptom = true,
            Fact::Released => case.is_symptom = false,
            Fact::Repeated { event, .. } => {
                case.is_said_over = false;
                case.seen(event, decision.at);
            }
            Fact::Diagnosed { report, chosen } => {
                case.diagnosed_at = Some(decision.at);
                let of = |it: &DiagnosedCause| case.may_be_planned(&self.config, it);
                report.hypotheses.iter().for_each(of);
                let chosen = chosen.and_then(|idx| report.hypotheses.get(idx));
                case.planned = chosen.and_then(|it| it.plan.clone());
            }
            Fact::ApprovalRequested { plan_hash, expires_at } => {
                case.asked = Some((plan_hash.clone(), *expires_at));
            }
            Fact::Approved { by, plan_hash, .. } => {
                let (hash, expires_at) = case.asked.as_ref().expect("nobody was asked");
                assert_eq!(hash, plan_hash, "approved is what was asked for");
                assert!(decision.at < *expires_at, "approved too late");
                case.approved = Some((by.clone(), plan_hash.clone(), decision.at));
            }
            Fact::RecoveryReported { .. } | Fact::LeaseEnded => case.is_said_over = true,
            Fact::RecallRequested { .. } => {
                assert!(case.is_at_work && !case.is_recalled, "{decision:?}");
                case.is_recalled = true;
            }
            Fact::FixRecalled { .. } => {
                assert!(case.is_recalled, "withdrawn what was not to be: {decision:?}");
                case.is_at_work = false;
                case.is_recalled = false;
                case.treating = None;
                case.attempts_returned += 1;
                // What was not begun uses up no budget, and nothing cools down after it.
                let last = self.starts.iter().rposition(|it| it.incident == id).unwrap();
                self.starts.remove(last);
            }
            Fact::FixEnded { .. } | Fact::RecheckStarted => {
                let is_recheck = matches!(fact, Fact::RecheckStarted);
                assert!(!is_recheck || is_measured, "no check measures it: {decision:?}");
                case.is_recalled = false;
                case.is_at_work = false;
                case.is_symptom = false;
                case.since = Some(decision.at);
                case.is_proven = false;
            }
            Fact::Verified { report } => {
                let since = case.since.expect("verified is what was fixed or reported well");
                assert!(report.passed && since <= report.samples_from, "{report:?}");
                assert!(0 < report.n_samples && all_sick_before, "{report:?}");
                case.is_proven = true;
            }
            Fact::Acknowledged { .. } => case.is_acknowledged = true,
            Fact::Paged { .. } => assert!(!case.is_acknowledged, "sought after somebody came"),
            Fact::UndoEnded { .. } => case.is_at_work = false,
            Fact::Closed { .. } => assert!(!case.is_at_work, "closed while a fixer is at it"),
            Fact::UndoStarted { .. } => {
                case.is_at_work = true;
                case.n_undos += 1;
                assert!(case.treating.is_some() && case.n_undos <= case.attempt);
            }
            Fact::Resolved => assert!(case.is_proven, "resolved without a proof"),
            Fact::SelfResolved => {
                let on_word = case.is_said_over && !is_measured;
                assert!(case.is_proven || on_word, "closed without a proof");
            }
            Fact::RediagnosisStarted { trigger: Trigger::News } => {
                (case.attempts_before_retry, case.attempts_returned) = (case.attempt, 0);
                // An approval is worth nothing after news.
                case.approved = None;
            }
            Fact::AttemptReturned => {
                assert!(case.treating.take().is_some(), "returned is what was begun");
                case.is_at_work = false;
                case.attempts_returned += 1;
                let last = self.starts.iter().rposition(|it| it.incident == id).unwrap();
                self.starts.remove(last);
            }
            Fact::Retried { target, .. } => {
                case.attempts_before_retry = case.attempt;
                case.attempts_returned = 0;
                assert!(target.is_none() || case.target.is_none(), "a target never changes");
                case.target = case.target.take().or_else(|| target.clone());
            }
            _ => {}
        }
        self.ended(id, decision);
    }

    /// Notes what ends a treatment, and what ends an incident.
    fn ended(&mut self, id: IncidentId, decision: &Decision) {
        let over =
            matches!(decision.fact, Fact::Resolved | Fact::SelfResolved | Fact::Closed { .. });
        let ended = matches!(decision.fact, Fact::AttemptFailed | Fact::Escalated { .. });
        if over || ended {
            let case = self.cases.get_mut(&id).unwrap();
            case.is_over = over;
            case.is_symptom = false;
            if case.treating.take().is_some() {
                let start = self.starts.iter_mut().rev().find(|it| it.incident == id).unwrap();
                start.ended_at = Some(decision.at);
            }
        }
    }

    /// Returns whether all neighbours that a proof tells to be sick have trouble of their
    /// own, from before the fix or from ever.
    fn all_sick_before(&self, id: IncidentId, fact: &Fact) -> bool {
        let Fact::Verified { report } = fact else { return true };
        let begun = self.starts.iter().rev().find(|it| it.incident == id).map(|it| it.at);
        report.broken_neighbours.iter().all(|name| {
            self.cases.iter().any(|(other, it)| {
                let before = begun.is_some_and(|begun| it.sick_since < Some(begun));
                !it.is_over
                    && *other != id
                    && it.target.as_ref() == Some(name)
                    && (before || it.was_never_well)
            })
        })
    }

    /// Nothing is opened that is silenced, or is kept quiet already.
    fn may_be_heard(
        &self,
        event: &Event,
        target: Option<&str>,
        fingerprint: &str,
        at: DateTime<Utc>,
    ) {
        assert!(!self.quiet.contains_key(fingerprint), "opened, and quiet too");
        // A cause that diagnosis has found is opened whatever is silenced: fixes are held.
        if event.source != "selfheal/analyzer" {
            assert!(!self.is_silenced(event, target, at), "opened while it is silenced");
        }
    }

    fn is_silenced(&self, event: &Event, target: Option<&str>, at: DateTime<Utc>) -> bool {
        let target = target.and_then(|name| self.config.target(name));
        let subject = Subject { event, target };
        let silenced =
            self.silences.values().any(|it| it.is_active(at) && it.matchers.fit(&subject));
        let windows = &self.config.maintenance;
        silenced
            || windows.iter().any(|it| it.active_until(at).is_some() && it.matchers.fit(&subject))
    }

    /// Returns whether a check of its target measures what an incident is about.
    fn is_measured(&self, id: IncidentId) -> bool {
        let Some(case) = self.cases.get(&id) else { return false };
        let Some(event) = &case.event else { return false };
        let target = case.target.as_deref().and_then(|name| self.config.target(name));
        let is_ours = event.source.starts_with("selfheal/");
        target
            .is_some_and(|it| !it.all_checks().is_empty() && (is_ours || it.measures(&event.kind)))
    }

    fn opened(
        &mut self,
        id: IncidentId,
        target: Option<&String>,
        fingerprint: &str,
        previous: Option<IncidentId>,
    ) {
        let former = self.newest.insert(fingerprint.to_owned(), id);
        let is_over = former.is_none_or(|former| self.cases[&former].is_over);
        assert!(is_over, "two open incidents of {fingerprint}");
        assert_eq!(previous, former, "it is linked to the former one");
        let case = Case { target: target.cloned(), ..Case::default() };
        assert!(self.cases.insert(id, case).is_none(), "{id} was there before");
    }

    fn fix_started(
        &mut self,
        id: IncidentId,
        at: DateTime<Utc>,
        (attempt, bring_up): (u32, bool),
        plan: &Plan,
        approved_by: Option<&str>,
    ) {
        let policy = &self.config.policy;
        let case = self.cases.get(&id).expect("a fix belongs to an incident");
        assert!(!self.paused, "begun while paused");
        let frozen = policy.freeze.iter().any(|it| it.from <= at && at < it.until);
        assert!(!frozen, "begun in a freeze");
        let event = case.event.as_ref().expect("an incident has an event");
        assert!(!self.is_silenced(event, case.target.as_deref(), at), "begun while silenced");
        assert!(self.breaker_until.is_none_or(|until| until <= at), "begun with a tripped breaker");
        assert_eq!(attempt, case.attempt + 1, "attempts are numbered without a gap");
        let tried = attempt - case.attempts_before_retry - case.attempts_returned;
        assert!(tried <= policy.attempts, "attempt {tried} of {}", policy.attempts);
        assert_eq!(case.target.as_ref(), Some(&plan.target), "a plan for another target");
        assert_eq!(case.planned.as_ref(), Some(plan), "another plan than the one that was made");
        let diagnosed_at = case.diagnosed_at.expect("a plan comes from a diagnosis");
        assert!(at <= diagnosed_at + policy.plan_max_age.to_delta(), "begun on stale evidence");
        self.may_act(case, at, plan, approved_by);
        if bring_up {
            assert_eq!(plan.risk, Risk::Low, "a bring-up is a start of low risk");
        }
        self.is_alone(plan, bring_up);
        self.is_cool(id, at, plan);
        let (target, runbook) = (plan.target.clone(), plan.runbook.clone());
        self.starts.push(Start {
            incident: id,
            attempt,
            target,
            runbook,
            at,
            ended_at: None,
            bring_up,
        });
        if !bring_up {
            self.is_in_budget(plan, at);
        }
        let case = self.cases.get_mut(&id).unwrap();
        case.attempt = attempt;
        case.treating = Some(plan.target.clone());
        case.is_at_work = true;
        case.approved = None;
    }

    /// An approval is by a person, for this exact plan, asked for, and not too old.
    fn may_act(&self, case: &Case, at: DateTime<Utc>, plan: &Plan, approved_by: Option<&str>) {
        let target = self.config.target(&plan.target).expect("its target is configured");
        let stated = (plan.autonomy, plan.risk, target.autonomy);
        match self.config.policy.autonomy_of(&plan.runbook, stated.0, stated.1, stated.2) {
            Autonomy::Auto => {}
            Autonomy::Approve => {
                let (by, hash, approved_at) = case.approved.as_ref().expect("nobody approved it");
                assert_eq!(approved_by, Some(by.as_str()));
                assert_eq!(*hash, plan.hash(), "approved was another plan");
                assert!(at < *approved_at + APPROVAL_WORTH, "the approval had expired");
            }
            autonomy @ (Autonomy::Suggest | Autonomy::Observe) => {
                panic!("begun with autonomy {autonomy:?}");
            }
        }
    }

    /// One fix per target, and no more targets than the blast radius.
    fn is_alone(&self, plan: &Plan, bring_up: bool) {
        let treated: BTreeSet<_> =
            self.cases.values().filter_map(|it| it.treating.as_ref()).collect();
        assert!(!treated.contains(&plan.target), "two fixes of {} at once", plan.target);
        let allowed = self.config.policy.budget.blast_radius.of(self.config.targets.len());
        let allowed = if bring_up { allowed.max(32) } else { allowed };
        assert!(
            treated.len() < allowed,
            "{} targets at once, allowed {allowed}",
            treated.len() + 1
        );
    }

    fn is_cool(&self, id: IncidentId, at: DateTime<Utc>, plan: &Plan) {
        let cooldown = self.config.policy.cooldown;
        for start in &self.starts {
            let mut wait = cooldown.fleet;
            if start.target == plan.target {
                wait = wait.max(cooldown.per_target);
            }
            if start.runbook == plan.runbook {
                wait = wait.max(cooldown.per_runbook);
            }
            // A person who asks for a retry need not wait.
            if start.incident == id && self.cases[&id].attempts_before_retry < start.attempt {
                wait = wait.max(self.config.policy.backoff);
            }
            if wait != Span::ZERO {
                let ended_at = start.ended_at.expect("begun before the former one had ended");
                assert!(ended_at + wait.to_delta() <= at, "begun within the cool-down");
            }
        }
    }

    /// No window of any budget holds more fixes than allowed; this one is in already.
    fn is_in_budget(&self, plan: &Plan, at: DateTime<Utc>) {
        let budget = &self.config.policy.budget;
        let own = self.config.policy.runbooks.get(&plan.runbook).and_then(|it| it.budget.as_ref());
        let own = own.unwrap_or(&budget.per_runbook);
        let within = |rate: &Rate, counts: &dyn Fn(&Start) -> bool| {
            let from = at - rate.per.to_delta();
            let n = self.starts.iter().filter(|it| !it.bring_up && from < it.at && counts(it));
            let n = n.count();
            assert!(n <= usize::try_from(rate.count).unwrap(), "{n} fixes, allowed {rate:?}");
        };
        budget.per_target.0.iter().for_each(|it| within(it, &|one| one.target == plan.target));
        own.0.iter().for_each(|it| within(it, &|one| one.runbook == plan.runbook));
        budget.fleet.0.iter().for_each(|it| within(it, &|_| true));
    }

    /// Judges the desk as it stands between two inputs.
    pub(in crate::desk) fn check(&self, desk: &Desk) {
        assert_eq!(desk.n_decisions(), self.last_seq);
        let open: BTreeSet<_> = desk.open_incidents().map(|it| it.id).collect();
        let known = self.cases.iter().filter(|(_, it)| !it.is_over).map(|(id, _)| *id);
        assert_eq!(open, known.collect::<BTreeSet<_>>(), "open is what did not end");
        let due: BTreeSet<_> = desk.deadlines().map(|(_, id)| id).collect();
        for incident in desk.open_incidents() {
            let with_person = matches!(incident.phase, Phase::Escalated(_));
            let has_end = desk.deadline(incident).is_some();
            assert!(has_end || with_person, "it waits for ever: {:?}", incident.phase);
            let is_deaf = incident.listens() && incident.news.is_some() && !has_end;
            assert!(!is_deaf, "news are not heard: {:?} {:?}", incident.phase, incident.news);
            let is_looked_at = has_end || incident.telling_due().is_some();
            assert_eq!(due.contains(&incident.id), is_looked_at, "{:?}", incident.phase);
        }
        for wish in desk.pending().iter().filter(|it| it.kind() == WorkKind::Fix) {
            let id: IncidentId = wish.id().split('/').next().unwrap().parse().unwrap();
            let phase = &desk.incident(id).unwrap().phase;
            assert!(matches!(phase, Phase::Fixing { .. } | Phase::Undoing { .. }), "{phase:?}");
            assert!(self.cases[&id].treating.is_some(), "a fix is wanted that was not begun");
        }
        for id in self.cases.iter().filter(|(_, it)| it.is_over).map(|(id, _)| *id) {
            let wanted = desk.wishes_of(id);
            assert!(wanted.iter().all(|it| it.kind() == WorkKind::Notify), "{wanted:?}");
        }
    }
}
