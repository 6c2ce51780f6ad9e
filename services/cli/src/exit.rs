//! How a command ends: the exit codes, and the failure that carries one.

use std::{error::Error, fmt, process::ExitCode};

/// The exit codes of every command. They are part of the interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// It was tried and did not work.
    Failed,
    /// The command line was wrong; nothing was tried.
    Usage,
    /// `doctor` has found something that is broken.
    Broken,
    /// What was named does not exist.
    NotFound,
    /// The system understood and refused: policy, or the state of things.
    Refused,
    /// No broker or no supervisor answered (`EX_UNAVAILABLE` of sysexits.h).
    Unavailable,
    /// The configuration is invalid: trying again is useless (`EX_CONFIG`).
    Config,
}

/// The table in `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  failed; doctor: there are warnings; log verify: the log was changed
   2  wrong usage; doctor: there are errors
   3  not found
   4  refused, by policy or by the present state
  69  no broker or no supervisor answers
  78  the configuration is invalid

NO_COLOR turns colour off; --json prints one JSON document for programs.";

impl Exit {
    /// Returns the number that the shell sees.
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage | Self::Broken => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unavailable => 69,
            Self::Config => 78,
        }
    }

    /// Returns the word that stands for it in JSON.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Success => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Broken => "broken",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Config => "config_invalid",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked for, and what can be done about it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Makes a failure that ends with `exit`.
    #[must_use]
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None }
    }

    /// Makes a failure without a message: all has been said, only the exit code is left.
    #[must_use]
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Adds what the reader can do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns how the process ends.
    #[must_use]
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns whether there is nothing to print.
    #[must_use]
    pub(crate) const fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// Returns what the reader can do, if anything is known.
    #[must_use]
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the message with all its causes, on one line.
    #[must_use]
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Exit; 8] = [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Broken,
        Exit::NotFound,
        Exit::Refused,
        Exit::Unavailable,
        Exit::Config,
    ];

    #[test]
    fn every_exit_code_is_in_the_help() {
        for exit in ALL {
            let line = format!("{:>4}  ", exit.code());
            assert!(EXIT_CODES.contains(&line), "{exit:?} is not documented");
        }
    }

    #[test]
    fn a_failure_names_its_causes_once() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::new(Exit::Failed, "cannot write the log").because(cause);
        assert_eq!(failure.chain(), "cannot write the log: disk on fire");
    }
}
