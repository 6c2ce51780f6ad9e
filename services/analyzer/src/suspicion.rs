//! What a rule suspects, and why.

use crate::case::Case;

/// A possible cause, before the catalogue was asked for a cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    pub(crate) confidence_percent: u8,
    /// One line for people.
    pub(crate) summary: String,
    /// Never empty: [`Suspicion::new`] takes the first, nothing removes one.
    because: Vec<String>,
    /// The target that is the cause, when it is another one.
    pub(crate) elsewhere: Option<String>,
    /// Causes whose cures are useless or harmful if this one is right. They stay in the
    /// report, without a plan.
    pub(crate) outweighs: &'static [&'static str],
}

/// One rule: a cause, and how it is recognised.
pub(crate) struct Rule {
    /// Name of the cause and of the rule's file.
    pub(crate) cause: &'static str,
    /// What it looks for; the table in `docs/runbooks.md` says the same.
    pub(crate) finds: &'static str,
    /// Looks for it.
    pub(crate) find: fn(&Case<'_>) -> Option<Suspicion>,
}

impl Suspicion {
    /// Returns a suspicion with the first thing that speaks for it.
    pub(crate) fn new(
        confidence_percent: u8,
        summary: impl Into<String>,
        because: impl Into<String>,
    ) -> Self {
        Self {
            confidence_percent,
            summary: summary.into(),
            because: vec![because.into()],
            elsewhere: None,
            outweighs: &[],
        }
    }

    /// Adds something that speaks for it, if there is something.
    pub(crate) fn and(mut self, because: impl Into<Option<String>>) -> Self {
        self.because.extend(because.into());
        self
    }

    /// Says that another target is the cause.
    pub(crate) fn elsewhere(self, target: &str) -> Self {
        Self { elsewhere: Some(target.to_owned()), ..self }
    }

    /// Says which cures would be useless or harmful.
    pub(crate) fn outweighs(self, causes: &'static [&'static str]) -> Self {
        Self { outweighs: causes, ..self }
    }

    /// Returns what speaks for it.
    pub(crate) fn into_because(self) -> Vec<String> {
        self.because
    }
}
