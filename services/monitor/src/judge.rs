//! Hysteresis: when a check counts as failed, and when as passed.

use tokio::time::Instant;

use crate::sample::{Outcome, Sample};

/// So many looks in a row may see nothing; one more counts as failed, as people must hear of a
/// target that cannot be watched.
const N_UNSEEN_MAX: u32 = 4;

/// What is thought of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Too few samples.
    Unknown,
    /// Enough samples in a row have passed.
    Well,
    /// Enough samples in a row have failed.
    Sick,
}

/// Counts samples of one check.
#[derive(Clone, Debug)]
pub struct Judge {
    fail_after: u32,
    pass_after: u32,
    n_failed: u32,
    n_passed: u32,
    n_unseen: u32,
    is_asked: bool,
    health: Health,
    first_failed: Option<Sample>,
    last: Option<Sample>,
    seen_well: bool,
}

impl Judge {
    /// Returns a judge that has seen nothing.
    #[must_use]
    pub fn new(fail_after: u32, pass_after: u32) -> Self {
        Self {
            fail_after: fail_after.max(1),
            pass_after: pass_after.max(1),
            n_failed: 0,
            n_passed: 0,
            n_unseen: 0,
            is_asked: true,
            health: Health::Unknown,
            first_failed: None,
            last: None,
            seen_well: false,
        }
    }

    /// Takes one more sample and returns what is thought now.
    pub fn take(&mut self, sample: Sample) -> Health {
        let n_unseen = self.n_unseen;
        self.n_unseen = 0;
        self.is_asked = sample.finding.outcome != Outcome::NotAsked;
        let failed = match sample.finding.outcome {
            Outcome::Failed => true,
            Outcome::Passed => false,
            Outcome::Between => self.health == Health::Sick,
            Outcome::Unseen => {
                self.n_unseen = n_unseen.saturating_add(1);
                if self.n_unseen <= N_UNSEEN_MAX {
                    return self.health;
                }
                true
            }
            // Nobody but the operator can change that; it is no fault of the target.
            Outcome::NotAsked => return self.health,
        };
        if failed {
            if self.n_failed == 0 {
                self.first_failed = Some(sample.clone());
            }
            self.n_failed = self.n_failed.saturating_add(1);
            self.n_passed = 0;
        } else {
            self.n_passed = self.n_passed.saturating_add(1);
            self.n_failed = 0;
        }
        self.last = Some(sample);
        if self.fail_after <= self.n_failed {
            self.health = Health::Sick;
        } else if self.pass_after <= self.n_passed {
            self.health = Health::Well;
            self.seen_well = true;
        }
        self.health
    }

    /// Returns whether the check was ever well here: what was sick from the first look on
    /// was not made sick by anything that happened since.
    #[must_use]
    pub const fn has_seen_well(&self) -> bool {
        self.seen_well
    }

    /// Forgets that the check was well: something else says that the target is sick, so
    /// only samples from now on can tell that it has recovered.
    pub fn doubt(&mut self) {
        if self.health == Health::Well {
            self.health = Health::Unknown;
            self.n_passed = 0;
        }
    }

    /// Returns what is thought now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Returns whether the check can be asked; one that cannot says nothing.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Returns how many samples in a row have failed.
    #[must_use]
    pub const fn n_failed(&self) -> u32 {
        self.n_failed
    }

    /// Returns the first of the failed samples in a row.
    #[must_use]
    pub const fn first_failed(&self) -> Option<&Sample> {
        self.first_failed.as_ref()
    }

    /// Returns the newest sample.
    #[must_use]
    pub const fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// Returns whether the newest sample was begun after `time`.
    #[must_use]
    pub fn has_looked_since(&self, time: Instant) -> bool {
        self.last.as_ref().is_some_and(|sample| time < sample.begun.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Begun, Finding};

    /// `p` passed, `f` failed, `b` between; behind each what is thought then.
    fn run(fail_after: u32, pass_after: u32, samples: &str) -> String {
        let mut judge = Judge::new(fail_after, pass_after);
        let think = |letter| {
            let mut finding = Finding::passed("");
            finding.outcome = match letter {
                'p' => Outcome::Passed,
                'f' => Outcome::Failed,
                'u' => Outcome::Unseen,
                'n' => Outcome::NotAsked,
                _ => Outcome::Between,
            };
            match judge.take(Begun::now().ended(finding)) {
                Health::Unknown => '?',
                Health::Well => 'w',
                Health::Sick => 's',
            }
        };
        samples.chars().map(think).collect()
    }

    #[test]
    fn a_check_changes_only_after_enough_samples_in_a_row() {
        for (fail_after, pass_after, samples, thought) in [
            (1, 1, "pfpf", "wsws"),
            (3, 1, "pffpfff", "wwwwwws"),
            (3, 2, "fffpfpp", "??ssssw"),
            (2, 3, "pp", "??"),
            (2, 1, "fp", "?w"),
            (0, 0, "pf", "ws"),
        ] {
            assert_eq!(run(fail_after, pass_after, samples), thought, "{samples}");
        }
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        for (samples, thought) in
            [("pbb", "www"), ("fbb", "sss"), ("fbpb", "ssww"), ("b", "w"), ("pbfbpb", "wwssww")]
        {
            assert_eq!(run(1, 1, samples), thought, "{samples}");
        }
    }

    #[test]
    fn what_was_not_seen_or_not_asked_is_neither_failed_nor_passed() {
        for (samples, thought) in [
            ("n", "?"),
            ("nnnnnnnn", "????????"),
            ("pnnnnnnn", "wwwwwwww"),
            ("fnnpn", "sssww"),
            ("u", "?"),
            ("uuuuu", "????s"),
            ("puuuupuuuu", "wwwwwwwwww"),
            ("fuuup", "ssssw"),
        ] {
            assert_eq!(run(1, 1, samples), thought, "{samples}");
        }
    }

    #[test]
    fn a_doubted_check_must_pass_again_and_a_sick_one_stays_sick() {
        let mut judge = Judge::new(2, 2);
        let passed = || Begun::now().ended(Finding::passed(""));
        let failed = || Begun::now().ended(Finding::failed(""));
        judge.take(passed());
        assert_eq!(judge.take(passed()), Health::Well);
        judge.doubt();
        assert_eq!(judge.health(), Health::Unknown);
        assert_eq!(judge.take(passed()), Health::Unknown);
        assert_eq!(judge.take(passed()), Health::Well);
        judge.take(failed());
        assert_eq!(judge.take(failed()), Health::Sick);
        judge.doubt();
        assert_eq!(judge.health(), Health::Sick);
        assert_eq!(judge.n_failed(), 2);
    }
}
