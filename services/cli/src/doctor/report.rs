//! All findings, as people and programs read them.

use serde::Serialize;

use super::{
    checks::{CHECKS, Check},
    facts::Facts,
    finding::{Finding, Severity},
};
use crate::terminal::{Tone, plain, toned};

/// The check that is made only when it is asked for.
const SECURITY: &str = "security";

/// Everything that the checks say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing is worse than a note.
    healthy: bool,
    /// Findings by how bad they are.
    errors: usize,
    warnings: usize,
    notes: usize,
    /// The worst first.
    findings: Vec<Told>,
    /// Every check, with what became of it.
    checks: Vec<Made>,
}

/// A finding and the check that made it.
#[derive(Debug, Serialize)]
struct Told {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

/// What became of a check.
#[derive(Debug, Serialize)]
struct Made {
    check: &'static str,
    /// What it asks.
    asks: &'static str,
    outcome: Outcome,
    /// Why it was not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Well,
    Found,
    NotSeen,
}

impl Report {
    /// Makes all checks.
    pub(crate) fn of(facts: &Facts) -> Self {
        let (mut findings, mut checks) = (Vec::new(), Vec::new());
        let is_asked = |it: &&Check| it.name != SECURITY || facts.security.is_some();
        for check in CHECKS.iter().filter(is_asked) {
            let (outcome, because) = match (check.look)(facts) {
                Ok(found) => {
                    let outcome = if found.is_empty() { Outcome::Well } else { Outcome::Found };
                    let told = |finding| Told { check: check.name, finding };
                    findings.extend(found.into_iter().map(told));
                    (outcome, None)
                }
                Err(not_seen) => (Outcome::NotSeen, Some(not_seen.0)),
            };
            checks.push(Made { check: check.name, asks: check.asks, outcome, because });
        }
        findings.sort_by_key(|told| std::cmp::Reverse(told.finding.severity));
        let count = |severity| findings.iter().filter(|it| it.finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let healthy = errors + warnings == 0;
        Self { healthy, errors, warnings, notes: count(Severity::Note), findings, checks }
    }

    /// Returns how bad the worst is.
    pub(crate) fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|told| told.finding.severity).max()
    }

    /// Returns the report for people.
    pub(crate) fn text(&self) -> String {
        let count = |outcome| self.checks.iter().filter(|it| it.outcome == outcome).count();
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let sum = format!(
            "{}, {}, {}; {} healthy, {} not seen",
            plural(self.errors, "error"),
            plural(self.warnings, "warning"),
            plural(self.notes, "note"),
            plural(count(Outcome::Well), "check"),
            count(Outcome::NotSeen),
        );
        let tone = match self.worst() {
            None | Some(Severity::Note) => Tone::Good,
            Some(Severity::Warning) => Tone::Notice,
            Some(Severity::Error) => Tone::Bad,
        };
        let mut lines = vec![toned(tone, sum)];
        for Told { check, finding } in &self.findings {
            let tone = match finding.severity {
                Severity::Note => Tone::Faint,
                Severity::Warning => Tone::Notice,
                Severity::Error => Tone::Bad,
            };
            lines.push(String::new());
            let word = toned(tone, finding.severity.as_str());
            lines.push(format!("{word}  {check}: {}", plain(&finding.what)));
            lines.push(format!("  why it matters: {}", finding.why));
            lines.push(format!("  fix: {}", plain(&finding.mend)));
        }
        let unseen = self.checks.iter().filter(|it| it.outcome == Outcome::NotSeen);
        for (idx, made) in unseen.enumerate() {
            if idx == 0 {
                lines.push(String::new());
            }
            let because = made.because.as_deref().unwrap_or_default();
            let text = format!("not seen  {}: {}", made.check, plain(because));
            lines.push(toned(Tone::Faint, text));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::facts::well, *};
    use crate::doctor::facts::{Reach, not_seen};

    #[test]
    fn a_system_in_which_all_is_well_has_no_finding_and_every_check_is_made() {
        let report = Report::of(&well::facts());
        assert_eq!(report.worst(), None, "{}", report.text());
        assert!(report.checks.iter().all(|it| it.outcome == Outcome::Well), "{report:#?}");
    }

    #[test]
    fn the_worst_comes_first_with_why_and_how() {
        let mut facts = well::facts();
        facts.view_mut().paused = Some("storm".to_owned());
        facts.signs_mut().retain(|it| it.member.kind != "fixer");
        let report = Report::of(&facts);
        assert_eq!(report.worst(), Some(Severity::Error));
        let text = plain(&report.text());
        let (error, warning) = (text.find("error  ").unwrap(), text.find("warning  ").unwrap());
        assert!(error < warning, "{text}");
        assert!(text.contains("why it matters: ") && text.contains("fix: "), "{text}");
    }

    #[test]
    fn without_a_broker_what_cannot_be_seen_is_said_and_the_rest_is_checked() {
        let mut facts = well::facts();
        let away = Reach::Away { address: "a:4222".to_owned(), why: "refused".to_owned() };
        facts.broker = away;
        facts.broker_ahead = not_seen("no broker");
        facts.user = not_seen("no broker");
        facts.account = not_seen("no broker");
        facts.streams = Vec::new();
        facts.queues = not_seen("no broker");
        facts.living = not_seen("no broker");
        facts.answering = not_seen("no broker");
        facts.views = not_seen("no broker");
        facts.leaders = not_seen("no broker");
        facts.config = not_seen("no broker");
        facts.open = not_seen("no broker");
        facts.local.data.as_mut().unwrap().room = Some((0, 100));
        let report = Report::of(&facts);
        let found: Vec<_> = report.findings.iter().map(|it| it.check).collect();
        assert_eq!(found, ["broker", "disk"], "one cause is told once");
        assert!(10 < report.checks.iter().filter(|it| it.outcome == Outcome::NotSeen).count());
    }
}
