//! Makes a failing run smaller: less time, fewer things that go wrong, the same law broken.

use crate::{Broken, Options, Outcome, Part, run};

/// Microseconds of a minute.
const MINUTE: u64 = 60_000_000;
/// Lines of a story at most.
const LINES_MAX: usize = 150;

/// The smallest run that was found to break the same law, and what happened in it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What to run.
    pub options: Options,
    /// What is broken then.
    pub broken: Broken,
    /// What led to it, as far as it concerns the incident.
    pub story: Vec<String>,
}

/// Makes a failing run as small as it gets. `None` when it does not fail.
#[must_use]
pub fn shrink(options: &Options) -> Option<Shrunk> {
    let law = run(options).broken?.law;
    let mut best = options.clone();
    let still = |options: &Options| {
        let broken = run(options).broken.filter(|it| it.law == law)?;
        Some((options.clone(), broken))
    };
    let mut broken = still(&best)?.1;
    let mut attempt = |best: &mut Options, candidate: Options| {
        if candidate == *best {
            return;
        }
        if let Some((options, seen)) = still(&candidate) {
            (*best, broken) = (options, seen);
        }
    };
    for part in Part::ALL {
        let mut candidate = best.clone();
        candidate.without.insert(part);
        attempt(&mut best, candidate);
    }
    for minutes in [1, 2, 3, 5, 8, 12, 20] {
        if minutes < best.minutes {
            let candidate = Options { minutes, ..best.clone() };
            let before = best.minutes;
            attempt(&mut best, candidate);
            if best.minutes < before {
                break;
            }
        }
    }
    for part in Part::ALL {
        let mut candidate = best.clone();
        candidate.without.insert(part);
        attempt(&mut best, candidate);
    }
    let told = run(&Options { trace: true, ..best.clone() });
    let broken = told.broken.clone()?;
    let story = story(&told, &broken);
    Some(Shrunk { options: best, broken, story })
}

/// Returns what is told about the incidents that the broken law names, and what went wrong
/// around them.
fn story(outcome: &Outcome, broken: &Broken) -> Vec<String> {
    let is_id = |word: &&str| word.len() == 36 && word.matches('-').count() == 4;
    let words = broken.why.split(|it: char| !(it.is_ascii_alphanumeric() || it == '-'));
    let ids: Vec<&str> = words.filter(is_id).collect();
    let is_about_an_incident = |line: &str| line.split(' ').any(|word| is_id(&word));
    let concerns = |line: &str| {
        ids.is_empty() || !is_about_an_incident(line) || ids.iter().any(|id| line.contains(id))
    };
    let first = outcome.trace.iter().find(|(_, line)| ids.iter().any(|id| line.contains(id)));
    let from = first.map_or(0, |(at, _)| at.saturating_sub(MINUTE / 2));
    let lines = outcome.trace.iter().filter(|(at, line)| from <= *at && concerns(line));
    let lines: Vec<String> = lines
        .map(|(at, line)| format!("{:>5}.{:06} {line}", at / 1_000_000, at % 1_000_000))
        .collect();
    let cut = lines.len().saturating_sub(LINES_MAX);
    lines.into_iter().skip(cut).collect()
}
