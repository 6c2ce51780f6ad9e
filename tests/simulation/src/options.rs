//! What is simulated: a seed, a stretch of time, and what may go wrong in it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::bug::Bug;

/// Something that can go wrong, or somebody who does something. A failing seed is made
/// smaller by leaving out one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Agents are killed and come back a while later, as pods do on another host; or never.
    Evictions,
    /// Agents die between two outputs, and at any other time.
    Crashes,
    /// The broker dies and forgets what it has in memory.
    BrokerCrashes,
    /// The disk of a log takes nothing for a while.
    FullDisks,
    /// The broker loses its disk once, and its ledger is restored from a log.
    LostDisks,
    /// Messages and answers are lost.
    Losses,
    /// Messages come twice.
    Duplicates,
    /// Messages take long and overtake each other.
    Delays,
    /// Single agents cannot reach the broker.
    Partitions,
    /// Agents are stopped and continued.
    Pauses,
    /// All fixers are stopped for minutes, and find old orders when they go on.
    Absences,
    /// All agents of one kind are away for many minutes.
    Desertions,
    /// All supervisors are stopped for minutes: nobody leads.
    Vacancies,
    /// A fixer is stopped or cut off just when it acts.
    Freezes,
    /// Monitors are too busy to see everything in time.
    Overloads,
    /// Clocks are set wrongly and run too fast or too slowly.
    Clocks,
    /// Targets break by themselves.
    Breakages,
    /// Targets come back by themselves.
    Recoveries,
    /// Fixes do not help, or do harm.
    BadFixes,
    /// People approve, reject, retry, close, pause.
    People,
    /// People silence something, and there are maintenance windows.
    Silences,
    /// Others send events: duplicates, repeats, recoveries, garbage.
    Senders,
    /// Floods of events.
    Floods,
    /// The configuration changes.
    Changes,
    /// Programs that are no target take its number or its port, workers outlive their master,
    /// people start a target by hand, and hosts are started anew.
    Intruders,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Evictions,
        Self::Crashes,
        Self::BrokerCrashes,
        Self::FullDisks,
        Self::LostDisks,
        Self::Losses,
        Self::Duplicates,
        Self::Delays,
        Self::Partitions,
        Self::Pauses,
        Self::Absences,
        Self::Desertions,
        Self::Vacancies,
        Self::Freezes,
        Self::Overloads,
        Self::Clocks,
        Self::Breakages,
        Self::Recoveries,
        Self::BadFixes,
        Self::People,
        Self::Silences,
        Self::Senders,
        Self::Floods,
        Self::Changes,
        Self::Intruders,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evictions => "evictions",
            Self::Crashes => "crashes",
            Self::BrokerCrashes => "broker-crashes",
            Self::FullDisks => "full-disks",
            Self::LostDisks => "lost-disks",
            Self::Losses => "losses",
            Self::Duplicates => "duplicates",
            Self::Delays => "delays",
            Self::Partitions => "partitions",
            Self::Pauses => "pauses",
            Self::Absences => "absences",
            Self::Desertions => "desertions",
            Self::Vacancies => "vacancies",
            Self::Freezes => "freezes",
            Self::Overloads => "overloads",
            Self::Clocks => "clocks",
            Self::Breakages => "breakages",
            Self::Recoveries => "recoveries",
            Self::BadFixes => "bad-fixes",
            Self::People => "people",
            Self::Silences => "silences",
            Self::Senders => "senders",
            Self::Floods => "floods",
            Self::Changes => "changes",
            Self::Intruders => "intruders",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|it| it.as_str()).collect();
            format!("`{text}` cannot be left out; use some of {}", names.join(", "))
        })
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// How long things go wrong, in simulated minutes. Then the world may settle.
    pub minutes: u64,
    /// What does not happen.
    pub without: BTreeSet<Part>,
    /// A deliberate mistake.
    pub bug: Option<Bug>,
    /// Keep every line of the trace.
    pub trace: bool,
}

impl Options {
    /// Simulated minutes in which things go wrong, unless stated.
    pub const MINUTES: u64 = 30;

    /// Returns a run of a seed with everything in it.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self { seed, minutes: Self::MINUTES, without: BTreeSet::new(), bug: None, trace: false }
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    /// Returns the command that runs exactly this again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut text =
            format!("cargo xtask simulate --seed {} --minutes {}", self.seed, self.minutes);
        for part in &self.without {
            text.push_str(&format!(" --without {part}"));
        }
        if let Some(bug) = self.bug {
            text.push_str(&format!(" --bug {bug}"));
        }
        text
    }
}
