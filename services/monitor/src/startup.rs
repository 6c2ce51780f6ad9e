//! The time that a target has to start: failures of its checks do not count before it is over,
//! unless the check has passed since the start.

use std::collections::BTreeSet;

use domain::{
    check::{Check, Probe},
    target::Target,
};
use tokio::time::Instant;

use crate::sample::{Outcome, RunId, Sample};

/// The present run of a target, and what has passed since it began.
#[derive(Debug, Default)]
pub(crate) struct Startup {
    run: Option<RunId>,
    /// Unknown when it ran before it was watched, and its age cannot be told.
    began: Option<Instant>,
    passed: BTreeSet<usize>,
}

impl Startup {
    /// Takes a sample; returns whether it counts.
    pub(crate) fn counts(
        &mut self,
        target: &Target,
        check: &Check,
        check_idx: usize,
        sample: &Sample,
    ) -> bool {
        self.follow(check, sample);
        match sample.finding.outcome {
            Outcome::Passed | Outcome::Between => {
                self.passed.insert(check_idx);
                true
            }
            Outcome::Failed => {
                let is_handle = is_handle(check);
                is_handle
                    || self.passed.contains(&check_idx)
                    || !self.is_young(target, check, sample)
            }
            Outcome::Unseen | Outcome::NotAsked => true,
        }
    }

    /// Learns of the run from the checks that see one.
    fn follow(&mut self, check: &Check, sample: &Sample) {
        let run = &sample.finding.run;
        if run.is_none() || *run == self.run {
            // The end of a run: whatever comes next is another one.
            if run.is_none() && is_handle(check) && sample.finding.outcome == Outcome::Failed {
                *self = Self::default();
            }
            return;
        }
        let began = match sample.finding.age {
            Some(age) => sample.begun.at.checked_sub(age),
            None => self.run.is_some().then_some(sample.begun.at),
        };
        *self = Self { run: run.clone(), began, passed: BTreeSet::new() };
    }

    fn is_young(&self, target: &Target, check: &Check, sample: &Sample) -> bool {
        let period = check.start_period_in(target).to_std();
        self.began.is_some_and(|began| {
            let end = sample.begun.at + sample.took;
            end.saturating_duration_since(began) < period
        })
    }
}

/// Whether a process or container runs is known from its first moment.
fn is_handle(check: &Check) -> bool {
    matches!(check.probe(), Ok(Probe::Process | Probe::Docker))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::span::Span;

    use super::*;
    use crate::sample::{Begun, Finding};

    const PROCESS: usize = 0;
    const HTTP: usize = 1;

    struct World {
        target: Target,
        startup: Startup,
        t0: Begun,
    }

    impl World {
        fn new(period_s: u64) -> Self {
            let http = Some("http://127.0.0.1:1".to_owned());
            let checks = vec![Check::of_process(), Check { http, ..Check::blank() }];
            let start_period = Span::from_secs(period_s);
            let target = Target { checks, start_period, ..Target::named("shop") };
            Self { target, startup: Startup::default(), t0: Begun::now() }
        }

        fn take(&mut self, check_idx: usize, at_s: u64, finding: Finding) -> bool {
            let at = self.t0.at + Duration::from_secs(at_s);
            let sample = Begun { at, ..self.t0 }.ended_after(Duration::from_millis(1), finding);
            let check = self.target.checks[check_idx].clone();
            self.startup.counts(&self.target, &check, check_idx, &sample)
        }

        fn runs(&mut self, run: &str, at_s: u64, age_s: Option<u64>) {
            let finding = Finding {
                age: age_s.map(Duration::from_secs),
                ..Finding::passed("runs").of_run(RunId(run.to_owned()))
            };
            assert!(self.take(PROCESS, at_s, finding));
        }

        fn fails(&mut self, at_s: u64) -> bool {
            self.take(HTTP, at_s, Finding::failed("refused"))
        }
    }

    #[test]
    fn failures_count_from_the_end_of_the_start_period() {
        let mut world = World::new(60);
        world.runs("a", 100, Some(10));
        assert!(!world.fails(101));
        assert!(!world.fails(149));
        assert!(world.fails(150));
    }

    #[test]
    fn failures_count_once_the_check_has_passed_since_the_start() {
        let mut world = World::new(60);
        world.runs("a", 100, Some(0));
        assert!(!world.fails(101));
        assert!(world.take(HTTP, 102, Finding::passed("answered 200")));
        assert!(world.fails(103));
        world.runs("b", 104, Some(0));
        assert!(!world.fails(105), "another run has its own time");
    }

    #[test]
    fn the_end_of_the_process_counts_at_once() {
        let mut world = World::new(60);
        world.runs("a", 100, Some(0));
        assert!(world.take(PROCESS, 101, Finding::failed("killed")));
        assert!(world.fails(102), "nothing is starting");
    }

    #[test]
    fn without_a_start_period_or_a_known_start_all_failures_count() {
        let mut world = World::new(0);
        world.runs("a", 100, Some(0));
        assert!(world.fails(100));
        let mut world = World::new(60);
        world.runs("a", 100, None);
        assert!(world.fails(101), "it ran before it was watched");
        world.runs("b", 102, None);
        assert!(!world.fails(103), "it was restarted while it was watched");
    }
}
