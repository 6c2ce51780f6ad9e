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
    } else if matches!(error, bus::Error::Option { .. } | bus::Error::Credentials { .. }) {
        EX_CONFIG
    } else {
        1
    };
    (code, error.hint().map(str::to_owned))
}

/// Turns a number into what `main` returns.
pub(crate) fn code(number: u8) -> ExitCode {
    ExitCode::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Wrapped(#[source] BoxError);

    fn too_old() -> bus::Error {
        bus::Error::TooOld { found: "2.9.10".to_owned(), needed: "2.12.0".to_owned() }
    }

    #[test]
    fn the_exit_code_is_found_behind_wrappings() {
        assert_eq!(judge(&Wrapped("no luck".into())).0, 1);
        assert_eq!(judge(&ConfigError::new("x", "y")), (EX_CONFIG, Some("y".to_owned())));
        assert_eq!(judge(&Wrapped(ConfigError::new("x", "y").into())).0, EX_CONFIG);
        let (code, hint) = judge(&Wrapped(too_old().into()));
        assert_eq!(code, EX_UNAVAILABLE);
        assert!(hint.is_some(), "the reader can act");
    }
}
