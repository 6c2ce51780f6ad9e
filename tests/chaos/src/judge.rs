//! Judges a history: was everything kept that is promised?
//!
//! Each verdict is a list of sentences, one for each breach; a run is good when all are empty.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::{
    history::{Fact, History, Line},
    record::{Entry, What},
};

/// Clocks of a broker and of targets on one host differ no more than this.
const TOLERANCE: TimeDelta = TimeDelta::milliseconds(50);

/// What was not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Events that were accepted and never decided.
    pub lost: Vec<String>,
    /// Events that count twice, and fixes that were carried out twice for one attempt.
    pub doubled: Vec<String>,
    /// Fixes that were carried out and are not in the ledger.
    pub unauthorized: Vec<String>,
    /// Incidents that are neither over nor with a person.
    pub unended: Vec<String>,
    /// Targets that are sick without an incident.
    pub unnoticed: Vec<String>,
    /// "Resolved", while the target was down by its own record, or without a proof.
    pub false_resolved: Vec<String>,
    /// Gaps, duplicates and differences in the ledger and in the logs.
    pub log_faults: Vec<String>,
    /// Answers that named an incident to which the event does not belong.
    pub wrong_answers: Vec<String>,
    /// What clients could not get done, however often they tried.
    pub unanswered: Vec<String>,
}

impl Verdict {
    /// Returns all lists by name.
    #[must_use]
    pub const fn lists(&self) -> [(&'static str, &Vec<String>); 9] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("unauthorized", &self.unauthorized),
            ("unended", &self.unended),
            ("unnoticed", &self.unnoticed),
            ("false_resolved", &self.false_resolved),
            ("log_faults", &self.log_faults),
            ("wrong_answers", &self.wrong_answers),
            ("unanswered", &self.unanswered),
        ]
    }

    /// Returns whether everything was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lists().iter().all(|(_, list)| list.is_empty())
    }
}

/// Judges a history.
#[must_use]
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict { unanswered: history.unanswered.clone(), ..Verdict::default() };
    events(history, &mut verdict);
    fixes(history, &mut verdict);
    proofs(history, &mut verdict);
    ledger(&history.facts, &mut verdict);
    for (name, lines) in &history.logs {
        log(name, lines, &history.facts, &mut verdict);
    }
    endings(history, &mut verdict);
    verdict
}

/// Every accepted event is decided once, in the incident that the answer named.
fn events(history: &History, verdict: &mut Verdict) {
    let mut decided: BTreeMap<&str, Vec<&Fact>> = BTreeMap::new();
    for fact in &history.facts {
        for delivery in &fact.deliveries {
            decided.entry(delivery).or_default().push(fact);
        }
    }
    for (delivery, facts) in decided.iter().filter(|(_, facts)| 1 < facts.len()) {
        let seqs: Vec<_> = facts.iter().map(|it| it.seq).collect();
        verdict.doubled.push(format!("delivery {delivery} counts in decisions {seqs:?}"));
    }
    for accepted in &history.accepted {
        let id = &accepted.id;
        let Some(facts) = decided.get(accepted.delivery.as_str()) else {
            verdict.lost.push(format!("event {id} was accepted, and nothing decided"));
            continue;
        };
        let is_there = |named| facts.iter().any(|it| it.incident.as_ref() == Some(named));
        if let Some(named) = accepted.incident.as_ref().filter(|named| !is_there(named)) {
            let wrong = format!("event {id} was said to belong to {named}");
            verdict.wrong_answers.push(wrong);
        }
    }
}

/// No attempt is decided or carried out twice, and none without its decision.
fn fixes(history: &History, verdict: &mut Verdict) {
    let mut started = BTreeSet::new();
    for fact in &history.facts {
        if let (Some(incident), Some(attempt), "fix_started") =
            (fact.incident.clone(), fact.attempt, fact.kind.as_str())
            && !started.insert((incident, attempt))
        {
            let what = format!("decision {} starts an attempt that was started", fact.seq);
            verdict.doubled.push(what);
        }
    }
    for (name, record) in &history.targets {
        let mut seen: BTreeMap<_, usize> = BTreeMap::new();
        for fix in record.iter().filter(|it| it.is_action()).filter_map(|it| it.fix.as_ref()) {
            *seen.entry(fix).or_default() += 1;
        }
        for (fix, n) in seen {
            let (incident, attempt) = fix;
            let what = format!("attempt {attempt} of {incident} on {name}");
            if 1 < n {
                verdict.doubled.push(format!("{what} was carried out {n} times"));
            }
            if !started.contains(fix) {
                verdict.unauthorized.push(format!("{what} is not in the ledger"));
            }
        }
    }
}

impl Entry {
    pub(crate) fn is_action(&self) -> bool {
        matches!(self.what, What::Start | What::Mend)
    }
}

/// What is called resolved was proven, and was well by its own record meanwhile.
fn proofs(history: &History, verdict: &mut Verdict) {
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for fact in &history.facts {
        let Some(incident) = fact.incident.as_deref() else { continue };
        if let Some(target) = &fact.target {
            targets.insert(incident, target);
        }
        let record = targets.get(incident).and_then(|name| history.targets.get(*name));
        if let Some(record) = record {
            let seq = fact.seq;
            let is_end = matches!(fact.kind.as_str(), "resolved" | "self_resolved");
            if is_end && last.get(incident) != Some(&"verified") {
                let what = format!("decision {seq}: {incident} is called resolved without a proof");
                verdict.false_resolved.push(what);
            }
            if fact.kind == "verified" && !was_well(fact, record, history) {
                let name = targets.get(incident).copied().unwrap_or_default();
                let what = format!("decision {seq}: {name} was not well by its own record");
                verdict.false_resolved.push(what);
            }
        }
        last.insert(incident, &fact.kind);
    }
}

/// Returns whether a record has, within the time of a proof, one run that answered so often
/// that it is well, and never otherwise, for the time that is asked for.
fn was_well(fact: &Fact, record: &[Entry], history: &History) -> bool {
    let Some(proof) = fact.proof.as_ref().filter(|it| it.passed) else { return false };
    let (from, until) = (proof.from - TOLERANCE, fact.at + TOLERANCE);
    let soak = TimeDelta::from_std(history.soak).unwrap_or_default() - TOLERANCE;
    let mut run: Option<Run> = None;
    for entry in record.iter().filter(|it| from <= it.at && it.at <= until) {
        run = match (entry.what, run) {
            (What::Well, Some(mut run)) if run.pid == entry.pid => {
                run.n_answers += 1;
                run.until = entry.at;
                Some(run)
            }
            (What::Well, _) => {
                Some(Run { pid: entry.pid, from: entry.at, until: entry.at, n_answers: 1 })
            }
            (What::Start | What::Sick | What::End, _) => None,
            // Somebody else mends it again: that alone does not make it sick.
            (What::Mend, run) => run,
        };
        let proven = |it: &Run| soak <= it.until - it.from && proof.n_samples <= it.n_answers;
        if run.as_ref().is_some_and(proven) {
            return true;
        }
    }
    false
}

struct Run {
    pid: u32,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    n_answers: usize,
}

fn ledger(facts: &[Fact], verdict: &mut Verdict) {
    for (fact, seq) in facts.iter().zip(1..) {
        if fact.seq != seq {
            let what = format!("the ledger has decision {} in place of {seq}", fact.seq);
            verdict.log_faults.push(what);
            return;
        }
    }
}

fn log(name: &str, lines: &[Line], facts: &[Fact], verdict: &mut Verdict) {
    let mut faults = Vec::new();
    for (line, seq) in lines.iter().zip(1..) {
        if line.seq != seq {
            faults.push(format!("{name}: the log has line {} in place of {seq}", line.seq));
            break;
        }
    }
    if lines.len() != facts.len() {
        let (n_lines, n_facts) = (lines.len(), facts.len());
        faults.push(format!("{name}: the log has {n_lines} lines for {n_facts} decisions"));
    }
    let differs = |(line, fact): &(&Line, &Fact)| line.seq == fact.seq && line.hash != fact.hash;
    let different = lines.iter().zip(facts).filter(differs);
    faults.extend(
        different.map(|(line, _)| {
            format!("{name}: line {} is not the decision of the ledger", line.seq)
        }),
    );
    verdict.log_faults.extend(faults);
}

/// At the end, every incident is over or with a person, and whatever is sick has one.
fn endings(history: &History, verdict: &mut Verdict) {
    // The longest log: were one shorter, that is a fault of its own.
    let longest = history.logs.values().max_by_key(|lines| lines.len());
    let mut now: BTreeMap<&str, &Line> = BTreeMap::new();
    for line in longest.into_iter().flatten().filter(|it| it.status.is_some()) {
        now.insert(&line.incident, line);
    }
    let causes = symptoms(&history.facts);
    let with_person = |incident: &str| {
        let status = now.get(incident).and_then(|it| it.status.as_deref());
        matches!(status, Some("escalated" | "awaiting_approval"))
    };
    for (incident, line) in &now {
        let is_ended = match line.status.as_deref().unwrap_or_default() {
            "resolved" | "self_resolved" | "closed" | "suppressed" => true,
            "merged" => causes.get(incident).is_some_and(|of| with_person(of)),
            _ => with_person(incident),
        };
        if !is_ended {
            let status = line.status.as_deref().unwrap_or_default();
            verdict.unended.push(format!("{incident} ({}) is still {status}", line.kind));
        }
    }
    let on = |fact: &Fact, name: &String| fact.target.as_ref() == Some(name);
    for name in &history.sick {
        let incidents = history.facts.iter().filter(|it| on(it, name));
        let open = |it: &Fact| {
            let line = it.incident.as_deref().and_then(|it| now.get(it));
            let status = line.and_then(|it| it.status.as_deref());
            !matches!(status, None | Some("resolved" | "self_resolved" | "closed"))
        };
        if !incidents.into_iter().any(open) {
            verdict.unnoticed.push(format!("{name} is sick, and has no open incident"));
        }
    }
}

/// Returns the last known cause of each symptom, followed to its root.
fn symptoms(facts: &[Fact]) -> BTreeMap<&str, &str> {
    let mut direct = BTreeMap::new();
    for fact in facts {
        if let (Some(incident), Some(cause)) = (&fact.incident, &fact.cause) {
            direct.insert(incident.as_str(), cause.as_str());
        }
    }
    let root = |incident: &str| {
        let mut at = *direct.get(incident)?;
        // A circle would be a mistake of the desk: the incidents of it are unended.
        for _ in 0..direct.len() {
            match direct.get(at) {
                Some(next) => at = next,
                None => return Some(at),
            }
        }
        None
    };
    direct.keys().filter_map(|it| Some((*it, root(it)?))).collect()
}
