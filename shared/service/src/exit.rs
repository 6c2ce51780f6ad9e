//! How a process ends, in one number.

use std::{error::Error, process::ExitCode};

use crate::BoxError;

/// `EX_CONFIG` of sysexits.h: starting again with the same configuration is useless.
pub(crate) const EX_CONFIG: u8 = 78;

/// `EX_UNAVAILABLE` of sysexits.h: the broker cannot serve us, whatever we do.
pub(crate) const EX_UNAVAILABLE: u8 = 69;

/// A flag, an environment variable or a file that was refused. Ends the process with 78.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct ConfigError {
    problem: String,
    hint: String,
    #[source]
    source: Option<BoxError>,
}

impl ConfigError {
    /// Says what is wrong, and what the reader can do about it.
    pub fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into(), source: None }
    }

    /// Names the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what the reader can do.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Returns the exit code for an error that ended a service, and a hint where there is one.
///
/// Looks through the causes, so that a service may wrap what it was given.
pub(crate) fn judge(error: &(dyn Error + 'static)) -> (u8, Option<String>) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<ConfigError>() {
            return (EX_CONFIG, Some(refused.hint.clone()));
        }
        if let Some(bus) = error.downcast_ref::<bus::Error>() {
            return judge_bus(bus);
        }
        cause = error.source();
    }
    (1, None)
}

fn judge_bus(error: &bus::Error) -> (u8, Option<String>) {
    let code = if matches!(error, bus::Error::TooOld { .. } | bus::Error::JetStreamOff { .. }) {
        EX_UNAVAILABLE
    } else {
        1
    };
    (code, None)
}

/// Turns a number into what `main` returns.
pub(crate) fn code(number: u8) -> ExitCode {
    ExitCode::from(number)
}
