//! A desk with hands that do what a test says, and everything that watches them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::laws::Laws;
use crate::{
    action::Action,
    check::Check,
    config::Config,
    desk::{Desk, Handled, Recorded, Rejected},
    event::{Event, Status},
    fact::{Decision, Fact},
    id::{IncidentId, Position},
    incident::Incident,
    matcher::Matchers,
    plan::{Parts, Plan, Risk, Step, Success},
    policy::{Limit, Policy},
    runbook::Runbook,
    silence::SilenceRequest,
    span::{Rates, Span},
    target::Target,
    view,
    wire::{
        AnalysisReport, Command, Evidence, FixMode, FixOutcome, FixReport, Hypothesis, Input,
        NoticeReport, TimerFired, Verb, VerificationReport, WorkRef, cause,
    },
};

/// A desk, a second one that only reads the ledger, and the laws that both must keep.
#[derive(Clone)]
pub(in crate::desk) struct World {
    pub(in crate::desk) desk: Desk,
    follower: Desk,
    pub(in crate::desk) laws: Laws,
    pub(in crate::desk) at: DateTime<Utc>,
    pub(in crate::desk) seq: u64,
    pub(in crate::desk) ledger: Vec<Decision>,
    n_events: u64,
}

/// Returns the time at which every world begins.
pub(in crate::desk) fn t0() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

pub(in crate::desk) fn secs(s: i64) -> TimeDelta {
    TimeDelta::seconds(s)
}

/// Returns a policy that stands in no test's way, but has all its guards.
pub(in crate::desk) fn generous() -> Policy {
    let mut policy = Policy { backoff: Span::ZERO, ..Policy::default() };
    let many: Rates = "1000/h".parse().unwrap();
    policy.budget.per_target = many.clone();
    policy.budget.per_runbook = many.clone();
    policy.budget.fleet = many;
    policy.budget.blast_radius = Limit { percent: 100, count: 100 };
    policy.storm = Limit { percent: 100, count: 100 };
    policy.breaker.failures = 1000;
    // What cannot be helped is escalated at once; tests of retries say otherwise.
    policy.retry.lasts = Span::ZERO;
    policy
}

pub(in crate::desk) fn target(name: &str, depends_on: &[&str]) -> Target {
    Target {
        depends_on: depends_on.iter().map(|it| (*it).to_owned()).collect(),
        checks: vec![Check { tcp: Some("127.0.0.1:5432".to_owned()), ..Check::blank() }],
        ..Target::named(name)
    }
}

pub(in crate::desk) fn config(targets: Vec<Target>, policy: Policy) -> Config {
    Config { targets, policy, runbooks: runbooks(), ..Config::default() }
}

/// Returns the runbooks of the plans below: a report names one, and the desk makes the plan.
fn runbooks() -> Vec<Runbook> {
    let step = |action: &str, undo: Value| json!({"name": "restart", "action": action, "container": "{target}", "undo": undo});
    let restart = || step("docker.restart", Value::Null);
    let undo = json!({"action": "docker.restart", "container": "{target}"});
    let all = [
        ("restart-container", "low", restart()),
        ("move-container", "low", step("docker.restart", undo)),
        ("fail-over", "medium", restart()),
        ("wipe", "high", restart()),
        ("start-container", "low", step("docker.start", Value::Null)),
        ("start-with-care", "medium", step("docker.start", Value::Null)),
    ];
    let runbook = |(name, risk, step)| {
        let causes = ["container_exited", "container_unhealthy", "guess"];
        serde_json::from_value(json!({
            "name": name, "title": "Restart it", "when": {"causes": causes}, "risk": risk,
            "attempts": 1000, "steps": [step],
        }))
        .unwrap()
    };
    all.map(runbook).to_vec()
}

fn restart(container: &str) -> Action {
    Action::DockerRestart { container: container.to_owned() }
}

/// Returns the parts of a plan of low risk that restarts the target and has no undo.
pub(in crate::desk) fn parts(target: &str, runbook: &str) -> Parts {
    let check = Check { tcp: Some("127.0.0.1:5432".to_owned()), ..Check::blank() };
    Parts {
        runbook: runbook.to_owned(),
        title: "Restart it".to_owned(),
        cause: "container_exited".to_owned(),
        target: target.to_owned(),
        zone: "default".to_owned(),
        risk: Risk::Low,
        autonomy: None,
        steps: vec![Step {
            name: "restart".to_owned(),
            action: restart(target),
            timeout: Span::from_secs(30),
            pre_check: None,
            undo: None,
        }],
        success: Success {
            checks: vec![check],
            soak: Span::from_secs(3),
            within: Span::from_secs(30),
        },
    }
}

pub(in crate::desk) fn plan(target: &str) -> Plan {
    Plan::new(parts(target, "restart-container")).unwrap()
}

pub(in crate::desk) fn plan_with_undo(target: &str) -> Plan {
    let mut parts = parts(target, "move-container");
    parts.steps[0].undo = Some(restart(target));
    Plan::new(parts).unwrap()
}

pub(in crate::desk) fn risky_plan(target: &str, risk: Risk) -> Plan {
    let runbook = match risk {
        Risk::Low => "restart-container",
        Risk::Medium => "fail-over",
        Risk::High => "wipe",
    };
    Plan::new(Parts { risk, ..parts(target, runbook) }).unwrap()
}

/// Returns what an analyzer reports that proposes the runbook of a plan.
pub(in crate::desk) fn hypothesis(cause: &str, plan: Option<Plan>) -> Hypothesis {
    let (runbook, target) = plan.map(|it| (it.runbook.clone(), it.target.clone())).unzip();
    Hypothesis {
        cause: cause.to_owned(),
        confidence_percent: 90,
        summary: format!("it looks like {cause}"),
        because: vec![format!("a sign of {cause}")],
        elsewhere: None,
        runbook,
        target,
    }
}

pub(in crate::desk) fn cure(plan: Plan) -> Vec<Hypothesis> {
    vec![hypothesis("container_exited", Some(plan))]
}

pub(in crate::desk) fn blame(target: &str) -> Vec<Hypothesis> {
    let elsewhere = Some(target.to_owned());
    vec![Hypothesis { elsewhere, ..hypothesis(cause::DEPENDENCY_DOWN, None) }]
}

pub(in crate::desk) fn healthy() -> Vec<Hypothesis> {
    vec![hypothesis(cause::HEALTHY, None)]
}

/// Returns what an analyzer reports that has looked at the target.
pub(in crate::desk) fn analysis(work: WorkRef, hypotheses: Vec<Hypothesis>) -> Input {
    let by = "analyzer-1".to_owned();
    let evidence = vec![evidence("check")];
    Input::Analysis(AnalysisReport { work, by, hypotheses, evidence, took_ms: 5 })
}

pub(in crate::desk) fn evidence(source: &str) -> Evidence {
    let summary = format!("what the {source} says");
    Evidence { source: source.to_owned(), target: None, summary, detail: Value::Null }
}

pub(in crate::desk) fn fix(work: WorkRef, mode: FixMode, outcome: FixOutcome) -> Input {
    let by = "fixer-1".to_owned();
    Input::Fix(FixReport { work, mode, by, outcome, steps: Vec::new(), undone: false, took_ms: 9 })
}

pub(in crate::desk) fn verification(
    work: WorkRef,
    passed: bool,
    samples_from: DateTime<Utc>,
    broken: &[&str],
) -> Input {
    Input::Verification(VerificationReport {
        work,
        by: "monitor-1".to_owned(),
        passed,
        summary: if passed { "all checks pass" } else { "tcp: refused" }.to_owned(),
        samples_from,
        n_samples: 4,
        checks: Vec::new(),
        broken_neighbours: broken.iter().map(|it| (*it).to_owned()).collect(),
    })
}

pub(in crate::desk) fn command(verb: Verb) -> Input {
    Input::Command(Command::new("ann", verb))
}

/// Returns what keeps something quiet.
pub(in crate::desk) fn silence(matcher: &str, until: DateTime<Utc>) -> Verb {
    let matchers = Matchers(vec![matcher.parse().unwrap()]);
    let comment = "moving it".to_owned();
    Verb::Silence { request: SilenceRequest { matchers, from: None, until, comment } }
}

/// Sends a decision on its way through JSON, as the ledger does.
pub(in crate::desk) fn stored(decision: &Decision) -> Decision {
    let text = serde_json::to_vec(decision).expect("a decision can be written");
    serde_json::from_slice(&text).expect("what was written can be read")
}

impl World {
    /// Returns a world in which the configuration has just come into force.
    pub(in crate::desk) fn new(config: Config) -> Self {
        let mut world = Self {
            desk: Desk::default(),
            follower: Desk::default(),
            laws: Laws::default(),
            at: t0(),
            seq: 0,
            ledger: Vec::new(),
            n_events: 0,
        };
        let handled = world.configure(config);
        assert_eq!(handled.recorded.len(), 1, "the configuration is refused: {handled:?}");
        world
    }

    /// Returns a world of targets without dependencies and a generous policy.
    pub(in crate::desk) fn with(names: &[&str]) -> Self {
        Self::new(config(names.iter().map(|it| target(it, &[])).collect(), generous()))
    }

    /// Sends an input, one second later, and checks everything.
    #[expect(clippy::needless_pass_by_value, reason = "it is made where it is sent")]
    pub(in crate::desk) fn send(&mut self, input: Input) -> Handled {
        self.at += secs(1);
        self.send_now(&input)
    }

    /// Sends an input at the present time, and checks everything.
    pub(in crate::desk) fn send_now(&mut self, input: &Input) -> Handled {
        self.seq += 1;
        let position = Position::new(self.seq, 0);
        let handled = self.desk.receive(input, position, self.at);
        assert_eq!(handled.faults, [], "after {input:?}");
        self.store(&handled.recorded);
        for recorded in &handled.recorded {
            assert_eq!(recorded.decision.cause, position);
            assert_eq!(recorded.decision.at, self.at);
        }
        self.follower.cover(position);
        assert_eq!(self.follower, self.desk, "the fold of the ledger is the state");
        self.laws.check(&self.desk);
        let again = self.desk.receive(input, position, self.at + secs(1));
        assert_eq!(again, Handled::default(), "the same position is decided once");
        assert_eq!(self.follower, self.desk);
        handled
    }

    /// Sends something that cannot be read.
    pub(in crate::desk) fn reject(&mut self, reason: &str) -> Handled {
        self.seq += 1;
        let (position, rejected) =
            (Position::new(self.seq, 0), Rejected { reason, why: "it is none", bytes: 7 });
        let handled = self.desk.reject_input(position, self.at, rejected);
        self.store(&handled.recorded);
        self.follower.cover(position);
        assert_eq!(self.follower, self.desk, "the fold of the ledger is the state");
        assert_eq!(self.desk.reject_input(position, self.at, rejected), Handled::default());
        handled
    }

    /// Sends inputs as one batch, a second apart, and checks everything.
    pub(in crate::desk) fn batch(&mut self, inputs: &[Input]) -> Vec<Handled> {
        let mut handled = Vec::new();
        for input in inputs {
            self.at += secs(1);
            self.seq += 1;
            handled.push(self.desk.take(input, Position::new(self.seq, 0), self.at));
        }
        handled.push(self.desk.finish());
        for one in &handled {
            assert_eq!(one.faults, []);
            self.store(&one.recorded);
        }
        self.follower.cover(Position::new(self.seq, 0));
        assert_eq!(self.follower, self.desk, "the fold of the ledger is the state");
        self.laws.check(&self.desk);
        handled
    }

    /// Sends what was decided through the ledger.
    fn store(&mut self, recorded: &[Recorded]) {
        for recorded in recorded {
            let decision = stored(&recorded.decision);
            assert_eq!(decision, recorded.decision, "the ledger holds what was decided");
            let followed = self.follower.apply(&decision).expect("a follower can fold it");
            assert_eq!(&followed, recorded, "a follower writes the same line");
            self.laws.observe(&decision);
            self.ledger.push(decision);
        }
    }

    /// Lets time pass.
    pub(in crate::desk) fn wait(&mut self, s: i64) -> &mut Self {
        self.at += secs(s);
        self
    }

    /// Kills the supervisor: what goes on is a fresh desk that folded the ledger.
    pub(in crate::desk) fn restart(&mut self) {
        let mut fresh = Desk::default();
        for decision in &self.ledger {
            fresh.apply(decision).expect("the ledger can be folded");
        }
        fresh.cover(Position::new(self.seq, 0));
        assert_eq!(fresh, self.desk);
        assert_eq!(fresh.pending(), self.desk.pending(), "the same work is wanted again");
        let due = fresh.deadlines().collect::<Vec<_>>();
        assert_eq!(due, self.due(), "deadlines survive restarts");
        let lines: Result<Vec<_>, _> = self.desk.snapshot().collect();
        let restored = Desk::from_snapshot(lines.expect("a snapshot can be written"));
        self.desk = restored.expect("what was written can be read");
        assert_eq!(fresh, self.desk, "a snapshot says what the ledger says");
    }

    pub(in crate::desk) fn configure(&mut self, config: Config) -> Handled {
        self.send(command(Verb::configure(config)))
    }

    /// Returns an event that was not sent yet.
    pub(in crate::desk) fn event(&mut self, kind: &str, target: &str) -> Event {
        self.n_events += 1;
        let id = format!("event-{}", self.n_events);
        let mut event = Event::new(id, kind.parse().unwrap(), "test");
        event.target = Some(target.to_owned());
        event
    }

    pub(in crate::desk) fn fire(&mut self, kind: &str, target: &str) -> IncidentId {
        let event = self.event(kind, target);
        let answer = self.send(Input::Event(event)).answer.expect("an event is answered");
        answer.incident_id.expect("a firing event belongs to an incident")
    }

    /// Opens `service_down` of a target.
    pub(in crate::desk) fn down(&mut self, target: &str) -> IncidentId {
        self.fire("service_down", target)
    }

    /// Says that `service_down` of a target is over.
    pub(in crate::desk) fn recovered(&mut self, target: &str) -> Handled {
        let event = Event { status: Status::Resolved, ..self.event("service_down", target) };
        self.send(Input::Event(event))
    }

    pub(in crate::desk) fn incident(&self, id: IncidentId) -> &Incident {
        self.desk.incident(id).expect("there is such an incident")
    }

    pub(in crate::desk) fn status(&self, id: IncidentId) -> view::Status {
        self.incident(id).status()
    }

    pub(in crate::desk) fn work(&self, id: IncidentId) -> WorkRef {
        self.incident(id).work()
    }

    pub(in crate::desk) fn diagnose(&mut self, id: IncidentId, found: Vec<Hypothesis>) -> Handled {
        self.send(analysis(self.work(id), found))
    }

    /// Opens an incident, diagnoses it, and returns it with its fix under way.
    pub(in crate::desk) fn fixing(&mut self, target: &str) -> IncidentId {
        let id = self.down(target);
        self.diagnose(id, cure(plan(target)));
        assert_eq!(self.status(id), view::Status::Fixing);
        id
    }

    pub(in crate::desk) fn fixed(&mut self, id: IncidentId) -> Handled {
        self.send(fix(self.work(id), FixMode::Apply, FixOutcome::Succeeded))
    }

    pub(in crate::desk) fn fix_failed(&mut self, id: IncidentId) -> Handled {
        let outcome = FixOutcome::Failed { reason: "no such container".to_owned() };
        self.send(fix(self.work(id), FixMode::Apply, outcome))
    }

    pub(in crate::desk) fn verified(&mut self, id: IncidentId, passed: bool) -> Handled {
        self.send(verification(self.work(id), passed, self.at, &[]))
    }

    /// Carries an incident that is being diagnosed to its end.
    pub(in crate::desk) fn heal(&mut self, id: IncidentId, target: &str) {
        self.diagnose(id, cure(plan(target)));
        self.fixed(id);
        self.verified(id, true);
        assert_eq!(self.status(id), view::Status::Resolved);
    }

    pub(in crate::desk) fn approve(&mut self, id: IncidentId) -> Handled {
        let plan_hash = self.incident(id).plan().expect("a plan waits").hash();
        self.send(command(Verb::Approve { incident: id, plan_hash }))
    }

    /// Fires the timer of an incident now, whether or not it is due.
    pub(in crate::desk) fn timer(&mut self, id: IncidentId) -> Handled {
        let due = self.desk.deadlines().find(|(_, of)| *of == id).map_or(self.at, |it| it.0);
        self.send_now(&Input::Timer(TimerFired::of(id, due)))
    }

    /// Waits until an incident's deadline has come, and fires its timer.
    pub(in crate::desk) fn expire(&mut self, id: IncidentId) -> Handled {
        let due = self.desk.deadlines().find(|(_, of)| *of == id);
        self.at = self.at.max(due.expect("it has a deadline").0);
        self.timer(id)
    }

    /// Fires deadlines, the next first, until there is none, and returns how many.
    pub(in crate::desk) fn run_out(&mut self, n_max: usize) -> usize {
        for n in 0..n_max {
            let Some((due, id)) = self.desk.deadlines().next() else { return n };
            self.at = self.at.max(due);
            self.timer(id);
        }
        panic!("still open after {n_max} deadlines: {:?}", self.due());
    }

    /// Returns what has a deadline, the next first.
    pub(in crate::desk) fn due(&self) -> Vec<(DateTime<Utc>, IncidentId)> {
        self.desk.deadlines().collect()
    }

    pub(in crate::desk) fn told(&mut self, id: IncidentId, notice: &str) -> Handled {
        let (work, notice, by) = (self.work(id), notice.to_owned(), "gateway-1".to_owned());
        let outcome = Ok("webhook".to_owned());
        let report = NoticeReport { work, notice, by, outcome, again: false, keep: None };
        self.send(Input::Notice(report))
    }

    /// Says that a fix was carried out, at the present time.
    pub(in crate::desk) fn fixed_now(&mut self, id: IncidentId) -> Handled {
        self.send_now(&fix(self.work(id), FixMode::Apply, FixOutcome::Succeeded))
    }

    /// Says how a verification went, at the present time.
    pub(in crate::desk) fn verified_now(&mut self, id: IncidentId, passed: bool) -> Handled {
        self.send_now(&verification(self.work(id), passed, self.at, &[]))
    }

    /// Returns the names of the facts about an incident, in their order.
    pub(in crate::desk) fn story(&self, id: IncidentId) -> Vec<&'static str> {
        let own = self.ledger.iter().filter(|it| it.incident == Some(id));
        own.map(|it| it.fact.name()).collect()
    }

    /// Returns the number of decisions of this name.
    pub(in crate::desk) fn n_facts(&self, name: &str) -> usize {
        self.ledger.iter().filter(|it| it.fact.name() == name).count()
    }

    /// Returns the last decision about an incident.
    pub(in crate::desk) fn last(&self, id: IncidentId) -> &Decision {
        self.ledger.iter().rev().find(|it| it.incident == Some(id)).unwrap()
    }

    /// Returns why an incident was escalated last.
    pub(in crate::desk) fn last_escalation(&self, id: IncidentId) -> String {
        let own = self.ledger.iter().rev().filter(|it| it.incident == Some(id));
        let mut escalated = own.filter(|it| matches!(it.fact, Fact::Escalated { .. }));
        escalated.next().expect("it was escalated").reason.clone()
    }

    /// Returns which guard holds an incident's plan.
    pub(in crate::desk) fn held_by(&self, id: IncidentId) -> Option<&str> {
        if let Fact::Held { guard, .. } = &self.last(id).fact { Some(guard) } else { None }
    }
}
