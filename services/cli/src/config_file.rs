//! `check`: reads a configuration as the supervisor does, and says what it would do.

use std::{fmt::Write as _, path::Path};

use domain::config::{self, Config, ConfigError, TEXT_BYTES_MAX};
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, plain, toned},
};

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(crate) enum Invalid {
    /// The file cannot be read at all.
    Unreadable(Failure),
    /// It has mistakes.
    Mistakes(Vec<ConfigError>),
}

/// Reads and validates a file, and returns its text as well.
///
/// # Errors
///
/// [`Exit::NotFound`] without a file, [`Exit::Config`] with all mistakes.
pub(crate) fn read(path: &Path) -> Result<(Config, String), Failure> {
    parse(path).map_err(|invalid| match invalid {
        Invalid::Unreadable(failure) => failure,
        Invalid::Mistakes(mistakes) => refused(path, &mistakes),
    })
}

/// Reads and validates a file, and keeps the mistakes apart.
///
/// # Errors
///
/// See [`Invalid`].
pub(crate) fn parse(path: &Path) -> Result<(Config, String), Invalid> {
    let unreadable = |exit, error: std::io::Error| {
        let message = format!("cannot read configuration `{}`", path.display());
        Invalid::Unreadable(Failure::new(exit, message).because(error))
    };
    let size = std::fs::metadata(path).map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        unreadable(if is_missing { Exit::NotFound } else { Exit::Failed }, error)
    })?;
    if TEXT_BYTES_MAX < size.len() {
        let mib = TEXT_BYTES_MAX / (1024 * 1024);
        let message = format!("`{}` is larger than {mib} MiB", path.display());
        let failure = Failure::new(Exit::Config, message).hint("is it a configuration at all?");
        return Err(Invalid::Unreadable(failure));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        let is_text = error.kind() != std::io::ErrorKind::InvalidData;
        unreadable(if is_text { Exit::Failed } else { Exit::Config }, error)
    })?;
    let parsed = config::parse(&text).map_err(|mut mistakes| {
        for mistake in &mut mistakes {
            mistake.file = Some(path.display().to_string());
        }
        Invalid::Mistakes(mistakes)
    })?;
    Ok((parsed, text))
}

fn refused(path: &Path, mistakes: &[ConfigError]) -> Failure {
    let mut text = String::new();
    for mistake in mistakes {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "\n{mistake}");
        for line in mistake.snippet.lines() {
            let _infallible = write!(text, "\n    {line}");
        }
        if !mistake.hint.is_empty() {
            let _infallible = write!(text, "\n    hint: {}", mistake.hint);
        }
    }
    let n = mistakes.len();
    let count = if n == 1 { "a mistake".to_owned() } else { format!("{n} mistakes") };
    Failure::new(Exit::Config, format!("configuration `{}` has {count}{text}", path.display()))
}

/// Checks a file and prints what it would do.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn check(path: &Path, terminal: Terminal) -> Result<(), Failure> {
    let config = match parse(path) {
        Ok((config, _)) => config,
        Err(Invalid::Unreadable(failure)) => return Err(failure),
        Err(Invalid::Mistakes(mistakes)) if terminal.is_json() => {
            let mistakes: Vec<_> = mistakes.iter().map(mistake_json).collect();
            terminal.print_json(&json!({"valid": false, "mistakes": mistakes}), true)?;
            return Err(Failure::silent(Exit::Config));
        }
        Err(Invalid::Mistakes(mistakes)) => return Err(refused(path, &mistakes)),
    };
    let counts = Counts::of(&config);
    let warnings = config.warnings();
    if terminal.is_json() {
        let answer = json!({
            "valid": true, "targets": counts.targets, "checks": counts.checks,
            "runbooks": counts.runbooks, "hash": config.hash(), "warnings": warnings,
        });
        return terminal.print_json(&answer, true);
    }
    let good = toned(Tone::Good, "ok:");
    terminal.print(&format!("{good} {}: {}", plain(&path.display().to_string()), counts.text()))?;
    for warning in &warnings {
        terminal.remark(&format!("{} {}", toned(Tone::Notice, "warning:"), plain(warning)));
    }
    Ok(())
}

fn mistake_json(mistake: &ConfigError) -> serde_json::Value {
    json!({
        "file": mistake.file, "line": mistake.line, "column": mistake.column,
        "message": mistake.message, "hint": mistake.hint,
    })
}

/// What a configuration holds, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    targets: usize,
    checks: usize,
    runbooks: usize,
}

impl Counts {
    /// Counts.
    #[must_use]
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            targets: config.targets.len(),
            checks: config.targets.iter().map(|target| target.checks.len()).sum(),
            runbooks: config.runbooks.len(),
        }
    }

    /// Returns it in words.
    #[must_use]
    pub(crate) fn text(self) -> String {
        let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        format!(
            "{}, {}, {} besides the built-in ones",
            count(self.targets, "target"),
            count(self.checks, "check"),
            count(self.runbooks, "runbook"),
        )
    }
}
