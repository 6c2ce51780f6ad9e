//! The thinking of a verification: looks go in, the verdict comes out. Waits for nothing
//! and looks at no clock.

use std::time::Duration;

use domain::{
    check::{Check, Probe},
    target::Handle,
    wire::{CheckResult, VerificationReport, VerifyWork},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::sample::{Begun, Outcome, RunId, Sample};

/// The longest time between two looks at the same check.
const STEP_MAX: Duration = Duration::from_millis(200);

/// The shortest one, for very short soak times.
const STEP_MIN: Duration = Duration::from_millis(10);

/// How often to look before it has passed at all: it is about to start.
const STEP_STARTING: Duration = Duration::from_millis(50);

/// At least so many looks must have passed, however short the soak time.
const N_LOOKS_MIN: u32 = 3;

/// So many restarts may be seen; one more, and it keeps dying.
const N_RESTARTS_MAX: u32 = 2;

/// A target whose handle has had no run for so long after a fix will not be well by itself:
/// whoever restarts it (an engine, an init system) would have done so. One with a longer
/// `start_period` has that time: its start command may put the program into the background, which
/// writes its pid file when it is ready.
const DEAD_MAX: Duration = Duration::from_secs(5);

/// A target that nobody has just started, and that is plainly dead for so long, is not waited for:
/// its monitor would have reported it after one look.
const DEAD_UNFIXED_MAX: Duration = Duration::from_millis(500);

/// A look that waited so much longer than the quickest one since it is well has met a target that
/// hung, although it answered in time for its checks. A target that is always slow is not meant.
const HUNG_MIN: Duration = Duration::from_millis(500);

/// So many threads compete for each processor of a host on which programs are late.
const BUSY_MIN: f64 = 4.0;

/// How much longer a verification may take there. Less than the time after which the supervisor
/// does not wait for its report any more.
const BUSY_EXTRA: Duration = Duration::from_secs(30);

/// One look at all checks at once.
#[derive(Clone, Debug)]
pub struct Look {
    begun: Begun,
    results: Vec<CheckResult>,
    passed: bool,
    /// Something was not seen in time, so that it does not run is not known.
    unseen: bool,
    /// What runs it says for certain that it does not run.
    is_dead: bool,
    /// For how long its run has been going on, where that is known.
    age: Option<Duration>,
    run: Option<RunId>,
    /// How much longer it may take, since the host is too busy for programs to go on as they
    /// should.
    extra: Duration,
}

impl Soak {
    /// Begins with a look that passed and had its answers `now`.
    fn begun(look: &Look, now: Instant) -> Self {
        let quickest = look.waited(now);
        Self { first: look.begun, since: now, quickest, run: look.run.clone(), n_looks: 1 }
    }

    /// Adds a look that passed, which had its answers `now`, if nothing came between.
    fn goes_on(self, look: &Look, now: Instant) -> Option<Self> {
        let waited = look.waited(now);
        let hung = self.quickest + HUNG_MIN < waited;
        (self.run == look.run && !hung).then(|| Self {
            quickest: self.quickest.min(waited),
            n_looks: self.n_looks + 1,
            ..self
        })
    }

    /// Returns for how long it was well for certain: up to the begin of a look that passed.
    fn until(&self, look: &Look) -> Duration {
        look.begun.at.saturating_duration_since(self.since)
    }
}

impl Look {
    /// Puts the samples of all checks together, in their order.
    #[must_use]
    pub fn new(work: &VerifyWork, begun: Begun, checks: &[Check], samples: &[Sample]) -> Self {
        let run = samples.iter().find_map(|sample| sample.finding.run.clone());
        let ok = |outcome| outcome == Outcome::Passed;
        // What cannot be asked is neither health nor a failure; the others decide.
        let asked = |(sample, _): &(&Sample, &Check)| sample.finding.outcome != Outcome::NotAsked;
        let results: Vec<CheckResult> = samples
            .iter()
            .zip(checks)
            .filter(asked)
            .map(|(sample, check)| sample.result(check, ok(sample.finding.outcome)))
            .collect();
        // Without anything to look at there is no proof, and a handle without a run is dead.
        let has_run = work.target.handle().is_none() || run.is_some();
        let passed = has_run && !results.is_empty() && results.iter().all(|result| result.ok);
        let unseen = samples.iter().any(|it| it.finding.outcome == Outcome::Unseen);
        let is_dead = samples.iter().zip(checks).any(|(sample, check)| is_dead(sample, check));
        let age = samples.iter().find_map(|sample| sample.finding.age);
        Self { begun, results, passed, unseen, is_dead, age, run, extra: Duration::ZERO }
    }

    /// Says how many threads competed for each processor of the target's host.
    #[must_use]
    pub fn on_host_with(self, runnable_per_cpu: Option<f64>) -> Self {
        let is_busy = runnable_per_cpu.is_some_and(|it| BUSY_MIN <= it);
        Self { extra: if is_busy { BUSY_EXTRA } else { Duration::ZERO }, ..self }
    }

    /// Returns the first check that failed, and what it says.
    fn first_failure(&self) -> String {
        let failed = self.results.iter().find(|it| !it.ok);
        failed.map_or_else(String::new, |it| format!("{}: {}", it.check, it.detail))
    }

    fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun.at)
    }
}

/// Returns whether a sample says that the target does not run and nobody restarts it by itself.
fn is_dead(sample: &Sample, check: &Check) -> bool {
    let finding = &sample.finding;
    if finding.outcome != Outcome::Failed {
        return false;
    }
    match check.probe() {
        Ok(Probe::Process) => {
            finding.run.is_none() && !finding.evidence.contains_key("unclear_pids")
        }
        // While the engine restarts a container it says `restarting`.
        Ok(Probe::Docker) => {
            let status = finding.evidence.get("container").and_then(|it| it.get("status"));
            let status = status.and_then(Value::as_str);
            matches!(status, Some("exited" | "created" | "dead"))
        }
        Ok(
            Probe::Http(_)
            | Probe::Tcp(_)
            | Probe::Command(_)
            | Probe::Disk(_)
            | Probe::Memory
            | Probe::Cpu
            | Probe::Prometheus(_),
        )
        | Err(_) => false,
    }
}

/// What follows on a look.
#[derive(Debug)]
pub enum Next {
    /// Look again, then.
    LookAt(Instant),
    /// This is what was found out.
    Ended(Verdict),
}

/// A time of health that has not been interrupted yet.
#[derive(Debug)]
struct Soak {
    /// The first look.
    first: Begun,
    /// When the first look had its answers. Not when they were asked for: a target that hangs
    /// answers what waits for it when it goes on, and was not well meanwhile.
    since: Instant,
    /// The shortest time that a look waited for its answers.
    quickest: Duration,
    run: Option<RunId>,
    n_looks: u32,
}

/// A verification under way.
#[derive(Debug)]
pub struct Trial {
    work: VerifyWork,
    checks: Vec<Check>,
    received: Begun,
    deadline: Instant,
    step: Duration,
    last_run: Option<RunId>,
    n_restarts: u32,
    soak: Option<Soak>,
    alive_at: Instant,
    dead_since: Option<Instant>,
}

impl Trial {
    /// Begins. `received` is when the work came in: by the broker's order it lies behind
    /// the fix.
    #[must_use]
    pub fn new(work: VerifyWork, received: Begun) -> Self {
        let checks = checks(&work);
        let soak = work.soak.to_std();
        Self {
            deadline: received.at + work.within.to_std() + soak,
            step: step(&checks, soak),
            work,
            checks,
            received,
            last_run: None,
            n_restarts: 0,
            soak: None,
            alive_at: received.at,
            dead_since: None,
        }
    }

    /// Returns what is asked.
    #[must_use]
    pub const fn work(&self) -> &VerifyWork {
        &self.work
    }

    /// Returns what is looked at: the checks of the plan, and the run of the handle.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Takes a look, which ended `now`.
    pub fn take(&mut self, look: Look, now: Instant) -> Next {
        if look.run.is_some() || look.unseen || self.work.target.handle().is_none() {
            self.alive_at = look.begun.at;
        }
        let dead_max = self.work.target.longest_start().to_std().max(DEAD_MAX);
        if dead_max < look.begun.at - self.alive_at {
            let why = format!("it has not run for {} s", dead_max.as_secs());
            return Next::Ended(Verdict::failed(look, why));
        }
        if self.is_plainly_dead(&look) {
            let why = format!("not healthy: {}", look.first_failure());
            return Next::Ended(Verdict::failed(look, why));
        }
        if look.run.is_some() {
            let restarted = self.last_run.is_some() && self.last_run != look.run;
            self.n_restarts += u32::from(restarted);
            self.last_run.clone_from(&look.run);
        }
        if N_RESTARTS_MAX < self.n_restarts {
            let why = format!("it keeps dying: {} restarts seen", self.n_restarts);
            return Next::Ended(Verdict::failed(look, why));
        }
        let soak = self.soak.take();
        self.soak = look.passed.then(|| {
            soak.and_then(|soak| soak.goes_on(&look, now))
                .unwrap_or_else(|| Soak::begun(&look, now))
        });
        if let Some(soak) = &self.soak
            && N_LOOKS_MIN <= soak.n_looks
            && self.work.soak.to_std() <= soak.until(&look)
        {
            return Next::Ended(Verdict::passed(look, soak, self.n_restarts));
        }
        if self.deadline(&look, now) <= now {
            let why = out_of_time(&self.work, &look, self.soak.as_ref());
            return Next::Ended(Verdict::failed(look, why));
        }
        let wait = if self.soak.is_none() { self.step.min(STEP_STARTING) } else { self.step };
        Next::LookAt(look.begun.at + wait)
    }

    /// Returns whether the target does not run, and nobody has just started it.
    fn is_plainly_dead(&mut self, look: &Look) -> bool {
        if self.work.after_fix || !look.is_dead {
            self.dead_since = None;
            return false;
        }
        let since = *self.dead_since.get_or_insert(look.begun.at);
        DEAD_UNFIXED_MAX <= look.begun.at.saturating_duration_since(since)
    }

    /// Returns when the time is over: later while the host is so busy that a healthy program may
    /// be late, too. Without a fix, only a run that is still young has the
    /// target's `start_period` besides the time that others have.
    fn deadline(&self, look: &Look, now: Instant) -> Instant {
        let period = self.work.target.longest_start().to_std();
        let is_young =
            look.age.is_some_and(|age| age + look.waited(now) < period + self.soak_time());
        let all = self.deadline + look.extra;
        if self.work.after_fix || is_young { all } else { all - period }
    }

    fn soak_time(&self) -> Duration {
        self.work.soak.to_std()
    }

    /// Writes the report of member `by`.
    #[must_use]
    pub fn report(
        &self,
        verdict: Verdict,
        by: &str,
        broken_neighbours: Vec<String>,
    ) -> VerificationReport {
        let behind = verdict.first.at.saturating_duration_since(self.received.at);
        let behind = chrono::TimeDelta::from_std(behind).unwrap_or_default();
        VerificationReport {
            work: self.work.work,
            by: by.to_owned(),
            passed: verdict.passed,
            summary: verdict.summary,
            samples_from: self.work.since + behind,
            n_samples: verdict.n_looks,
            checks: verdict.results,
            broken_neighbours,
        }
    }
}

fn checks(work: &VerifyWork) -> Vec<Check> {
    let mut checks =
        if work.checks.is_empty() { work.target.all_checks() } else { work.checks.clone() };
    let names = |probe: fn(&Check) -> bool, checks: &[Check]| checks.iter().any(probe);
    match work.target.handle() {
        Some(Handle::Process(_)) if !names(|it| it.process == Some(true), &checks) => {
            checks.push(Check::of_process());
        }
        Some(Handle::Docker(_)) if !names(|it| it.docker == Some(true), &checks) => {
            checks.push(Check::of_container());
        }
        Some(Handle::Process(_) | Handle::Docker(_)) | None => {}
    }
    checks
}

fn step(checks: &[Check], soak: Duration) -> Duration {
    let every = checks.iter().map(|check| check.every.to_std()).min();
    let dense = (soak / N_LOOKS_MIN).max(STEP_MIN);
    every.unwrap_or(STEP_MAX).min(STEP_MAX).min(dense)
}

fn out_of_time(work: &VerifyWork, look: &Look, soak: Option<&Soak>) -> String {
    let within = work.within;
    match (look.results.iter().find(|result| !result.ok), soak) {
        (Some(sick), _) => format!("not healthy within {within}: {}: {}", sick.check, sick.detail),
        (None, Some(soak)) => format!(
            "healthy for only {} ms within {within}, required {}",
            soak.until(look).as_millis(),
            work.soak
        ),
        (None, None) => {
            format!("no check can prove that {} is healthy", work.target.name)
        }
    }
}

/// What was found out.
#[derive(Debug)]
pub struct Verdict {
    passed: bool,
    summary: String,
    first: Begun,
    n_looks: u32,
    results: Vec<CheckResult>,
}

impl Verdict {
    /// Returns whether it was well for long enough. Then the neighbours are looked at.
    #[must_use]
    pub const fn has_passed(&self) -> bool {
        self.passed
    }

    fn passed(look: Look, soak: &Soak, n_restarts: u32) -> Self {
        let checks = soak.n_looks;
        let mut summary = format!(
            "healthy for {} ms, {checks} samples of {} checks",
            soak.until(&look).as_millis(),
            look.results.len()
        );
        if 0 < n_restarts {
            summary.push_str(", after it was restarted once more");
        }
        Self {
            passed: true,
            summary,
            first: soak.first,
            n_looks: soak.n_looks,
            results: look.results,
        }
    }

    fn failed(look: Look, summary: String) -> Self {
        Self { passed: false, summary, first: look.begun, n_looks: 1, results: look.results }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use domain::{id::IncidentId, span::Span, target::Target, wire::WorkRef};

    use super::*;
    use crate::sample::Finding;

    fn trial(soak_ms: u64) -> Trial {
        let check = Check { tcp: Some("127.0.0.1:1".to_owned()), ..Check::blank() };
        let work = VerifyWork {
            work: WorkRef { incident: IncidentId::NONE, attempt: 1, revision: 4 },
            target: Target::named("database"),
            checks: vec![check],
            neighbours: Vec::new(),
            passed_before: Vec::new(),
            since: Utc::now(),
            soak: Span::from_millis(soak_ms),
            within: Span::from_millis(60_000),
            after_fix: true,
            not_after: Utc::now() + TimeDelta::hours(1),
        };
        Trial::new(work, Begun::now())
    }

    /// Takes a look that passed, from and to so many milliseconds after the begin.
    fn pass(trial: &mut Trial, from_ms: u64, to_ms: u64) -> Option<Verdict> {
        let after = |ms| trial.received.at + Duration::from_millis(ms);
        let (begun, now) = (Begun { at: after(from_ms), utc: Utc::now() }, after(to_ms));
        let sample = begun.ended_after(now - begun.at, Finding::passed("connected"));
        let look = Look::new(&trial.work, begun, &trial.checks, &[sample]);
        match trial.take(look, now) {
            Next::LookAt(_) => None,
            Next::Ended(verdict) => Some(verdict),
        }
    }

    /// A target that hung for 400 ms answered when it went on. It was not well before.
    #[test]
    fn the_time_in_which_an_answer_was_awaited_is_not_soaked() {
        let mut trial = trial(300);
        for (from_ms, to_ms) in [(0, 400), (401, 402), (600, 601), (699, 750)] {
            assert!(pass(&mut trial, from_ms, to_ms).is_none(), "{from_ms}");
        }
        let verdict = pass(&mut trial, 751, 752).unwrap();
        assert!(verdict.passed);
        assert_eq!(verdict.summary, "healthy for 351 ms, 5 samples of 1 checks");
    }

    #[test]
    fn on_a_busy_host_a_verification_may_take_longer() {
        let ends = |runnable: Option<f64>, at_s: u64| {
            let mut trial = trial(300);
            let at = trial.received.at + Duration::from_secs(at_s);
            let begun = Begun { at, utc: Utc::now() };
            let sample = begun.ended_after(Duration::ZERO, Finding::failed("no answer in time"));
            let look = Look::new(&trial.work, begun, &trial.checks, &[sample]);
            matches!(trial.take(look.on_host_with(runnable), at), Next::Ended(_))
        };
        assert!(!ends(None, 60) && ends(None, 61) && ends(Some(3.9), 61));
        assert!(!ends(Some(4.0), 61) && !ends(Some(20.0), 89) && ends(Some(20.0), 91));
    }

    fn process_trial(after_fix: bool, start_period_s: u64) -> Trial {
        let mut trial = trial(300);
        let start_period = Span::from_secs(start_period_s);
        let handle = serde_json::json!({"command": ["sleep", "9"]});
        let process = Some(serde_json::from_value(handle).unwrap());
        let target = Target { process, start_period, ..Target::named("database") };
        let within = Span::from_secs(30).plus(start_period);
        let checks = target.all_checks();
        let work = VerifyWork { target, checks, within, after_fix, ..trial.work.clone() };
        trial = Trial::new(work, trial.received);
        trial
    }

    /// Looks once, so many milliseconds after the begin, at a process that is not there.
    fn absent(trial: &mut Trial, at_ms: u64) -> Option<Verdict> {
        let at = trial.received.at + Duration::from_millis(at_ms);
        let begun = Begun { at, utc: Utc::now() };
        let sample = begun.ended_after(Duration::ZERO, Finding::failed("exit code 1"));
        let look = Look::new(&trial.work, begun, &trial.checks, &[sample]);
        match trial.take(look, at) {
            Next::LookAt(_) => None,
            Next::Ended(verdict) => Some(verdict),
        }
    }

    #[test]
    fn a_dead_target_that_nobody_started_is_not_waited_for() {
        let mut trial = process_trial(false, 60);
        assert!(absent(&mut trial, 0).is_none());
        assert!(absent(&mut trial, 450).is_none(), "whoever restarts it may be at it");
        let verdict = absent(&mut trial, 550).unwrap();
        assert!(!verdict.passed);
        assert_eq!(verdict.summary, "not healthy: process: exit code 1");
    }

    /// Its start command puts it into the background, where it writes its pid file when it is
    /// ready.
    #[test]
    fn a_target_that_was_just_started_has_its_start_period() {
        for (start_period_s, waits_ms, ends_ms) in [(0, 4_900, 5_100), (20, 19_900, 20_100)] {
            let mut trial = process_trial(true, start_period_s);
            assert!(absent(&mut trial, 0).is_none());
            assert!(absent(&mut trial, waits_ms).is_none(), "{start_period_s}");
            assert!(absent(&mut trial, ends_ms).is_some(), "{start_period_s}");
        }
    }

    /// Without a fix the time to start counts for a run that is young, and for no other one.
    #[test]
    fn only_a_young_run_has_its_start_period_when_nothing_was_done() {
        for (age_s, ended) in [(Some(10), false), (Some(1000), true), (None, true)] {
            let mut trial = process_trial(false, 60);
            let at = trial.received.at + Duration::from_secs(40);
            let begun = Begun { at, utc: Utc::now() };
            let mut finding = Finding::failed("refused").of_run(RunId("1".to_owned()));
            finding.age = age_s.map(Duration::from_secs);
            let sample = begun.ended_after(Duration::ZERO, finding);
            let look = Look::new(&trial.work, begun, &trial.checks, &[sample]);
            let is_ended = matches!(trial.take(look, at), Next::Ended(_));
            assert_eq!(is_ended, ended, "{age_s:?}");
        }
    }

    #[test]
    fn a_container_is_dead_when_its_engine_does_not_restart_it() {
        for (status, dead) in [("exited", true), ("restarting", false), ("running", false)] {
            let check = Check::of_container();
            let finding =
                Finding::failed("no").with("container", serde_json::json!({"status": status}));
            let sample = Begun::now().ended_after(Duration::ZERO, finding);
            assert_eq!(is_dead(&sample, &check), dead, "{status}");
        }
    }

    /// On a busy host the state of its process does not arrive in time.
    #[test]
    fn a_target_that_is_not_seen_is_not_taken_for_dead() {
        for (finding, is_dead) in [
            (Finding::unseen("no answer within 2000 ms"), false),
            (Finding::failed("no process of the target runs"), true),
        ] {
            let mut trial = trial(300);
            trial.work.target.docker =
                Some(domain::target::DockerHandle { container: "database".to_owned() });
            let after = trial.received.at + DEAD_MAX + Duration::from_millis(1);
            let begun = Begun { at: after, utc: Utc::now() };
            let sample = begun.ended_after(Duration::from_secs(2), finding);
            let look = Look::new(&trial.work, begun, &trial.checks, &[sample]);
            let ended = matches!(trial.take(look, after), Next::Ended(_));
            assert_eq!(ended, is_dead);
        }
    }

    /// It answered in time for its check, and was not well while it hung.
    #[test]
    fn a_target_that_hangs_in_its_soak_begins_it_anew() {
        let mut trial = trial(300);
        for (from_ms, to_ms) in [(0, 2), (100, 102), (200, 901), (910, 912), (1000, 1002)] {
            assert!(pass(&mut trial, from_ms, to_ms).is_none(), "{from_ms}");
        }
        let verdict = pass(&mut trial, 1201, 1203).unwrap();
        assert_eq!(verdict.summary, "healthy for 300 ms, 4 samples of 1 checks");
    }

    #[test]
    fn a_target_that_is_always_slow_is_well() {
        let mut trial = trial(300);
        assert!(pass(&mut trial, 0, 700).is_none());
        assert!(pass(&mut trial, 701, 1500).is_none());
        let verdict = pass(&mut trial, 1501, 2300).unwrap();
        assert_eq!(verdict.summary, "healthy for 801 ms, 3 samples of 1 checks");
    }
}
