//! What one look at a target says.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{check::Check, wire::CheckResult};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::age;

/// Longest text of a sample; what others print must not fill the inbox.
const DETAIL_MAX: usize = 500;

/// What one look said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// Sick.
    Failed,
    /// Below the threshold of sickness, but not yet down at the one of health: what was
    /// thought before still holds.
    Between,
    /// It was not seen in time, for reasons of ours. Says nothing about the target.
    Unseen,
    /// The check cannot be asked: a mistake of the configuration. Says nothing about the target.
    NotAsked,
}

/// Tells one run of a process or container from the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub String);

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Well or sick.
    pub outcome: Outcome,
    /// One line: the answer, or what went wrong.
    pub detail: String,
    /// What else is known, by name.
    pub evidence: Map<String, Value>,
    /// The run that was seen, by probes that see one.
    pub run: Option<RunId>,
    /// For how long that run has been going on, where it is known.
    pub age: Option<Duration>,
}

impl Finding {
    /// Returns a finding that all is well.
    pub fn passed(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Passed, &detail.into())
    }

    /// Returns a finding that something is wrong.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, &detail.into())
    }

    /// Returns a finding that it could not be seen in time.
    pub fn unseen(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Unseen, &detail.into())
    }

    /// Returns a finding that the check cannot be asked, and why.
    pub fn not_asked(why: impl AsRef<str>) -> Self {
        Self::new(Outcome::NotAsked, &format!("this check cannot be asked: {}", why.as_ref()))
    }

    /// Judges a percentage by the thresholds of the check.
    #[must_use]
    pub fn percent(check: &Check, percent: f64, of_what: &str) -> Self {
        let (above, clear) = check.threshold();
        let outcome = if f64::from(above) < percent {
            Outcome::Failed
        } else if percent <= f64::from(clear) {
            Outcome::Passed
        } else {
            Outcome::Between
        };
        Self::new(outcome, &format!("{of_what}: {percent:.1} % (unhealthy above {above} %)"))
            .with("percent", json!((percent * 10.0).round() / 10.0))
            .with("above", json!(above))
            .with("clear", json!(clear))
    }

    fn new(outcome: Outcome, detail: &str) -> Self {
        Self { outcome, detail: one_line(detail), evidence: Map::new(), run: None, age: None }
    }

    /// Adds something that is known.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        if !value.is_null() {
            self.evidence.insert(name.to_owned(), value);
        }
        self
    }

    /// Names the run that was seen.
    #[must_use]
    pub fn of_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Says for how long the run has been going on, where that is known.
    #[must_use]
    pub fn aged(self) -> Self {
        let age = self.run.is_some().then(|| age::of(&self.evidence)).flatten();
        Self { age: age.or(self.age), ..self }
    }
}

/// Makes one line of limited length of a text.
fn one_line(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if DETAIL_MAX < line.len() {
        let cut = (0..=DETAIL_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// When a look began, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// For comparing and for lengths of time.
    pub at: Instant,
    /// For people.
    pub utc: DateTime<Utc>,
}

impl Begun {
    /// Begins now.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), utc: Utc::now() }
    }

    /// Ends now, with this finding.
    #[must_use]
    pub fn ended(self, finding: Finding) -> Sample {
        self.ended_after(self.at.elapsed(), finding)
    }

    /// Ends after `took`, with this finding.
    #[must_use]
    pub const fn ended_after(self, took: Duration, finding: Finding) -> Sample {
        Sample { begun: self, took, finding }
    }
}

/// A finding, and when it was made.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the look began: what it says is not older.
    pub begun: Begun,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub finding: Finding,
}

impl Sample {
    /// Returns the sample as others see it.
    #[must_use]
    pub fn result(&self, check: &Check, ok: bool) -> CheckResult {
        CheckResult {
            check: check.label(),
            ok,
            detail: self.finding.detail.clone(),
            took_ms: millis(self.took),
        }
    }
}

/// Returns whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_sick_above_and_well_at_clear_and_neither_between() {
        let check = Check { above: Some(90), clear: Some(80), ..Check::blank() };
        for (percent, outcome) in [
            (0.0, Outcome::Passed),
            (80.0, Outcome::Passed),
            (80.1, Outcome::Between),
            (90.0, Outcome::Between),
            (90.1, Outcome::Failed),
            (100.0, Outcome::Failed),
        ] {
            assert_eq!(Finding::percent(&check, percent, "x").outcome, outcome, "{percent}");
        }
    }

    #[test]
    fn a_detail_is_one_line_of_limited_length() {
        assert_eq!(Finding::failed("a\n  b\tc").detail, "a b c");
        let long = Finding::failed("ä".repeat(DETAIL_MAX));
        assert!(long.detail.len() <= DETAIL_MAX + '…'.len_utf8());
        assert!(long.detail.ends_with('…'));
    }
}
