//! What a check says.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but not as well or not for long.
    Warning,
    /// Something that should be healed will not be, or may be lost.
    Error,
}

impl Severity {
    /// Returns the word for it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was seen.
    pub(crate) what: String,
    /// What comes of it.
    pub(crate) why: &'static str,
    /// What can be done.
    pub(crate) mend: String,
}

impl Finding {
    /// Makes a finding. `why` says what comes of it, `mend` what can be done.
    pub(crate) fn new(
        severity: Severity,
        what: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity, what: what.into(), why, mend: mend.into() }
    }
}

/// Why a check could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotSeen(pub(crate) String);

/// What a check comes to: nothing found is well.
pub(crate) type Looked = Result<Vec<Finding>, NotSeen>;
