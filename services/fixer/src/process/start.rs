//! Starting a process that outlives its fixer.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use chrono::{SecondsFormat, Utc};
use domain::target::ProcessHandle;
use tokio::process::{Child, Command};

use super::{
    MARK_ATTEMPT, MARK_INCIDENT, MARK_STATE, MARK_TARGET,
    files::{self, Files, Start},
};
use crate::environment::Environment;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its files cannot be used.
    #[error("cannot prepare the start of {program}")]
    Files {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: files::Error,
    },
    /// The kernel refused.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Files { source, .. } => source.hint(),
            Self::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "its interpreter (the first line of a script) or its loader is missing"
            }
            Self::Spawn { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "see the permissions of the program and of the working directory, and the mount option noexec"
            }
            Self::Spawn { .. } => {
                "run the command by hand, as the user of the fixer, to see what is wrong"
            }
        }
    }
}

/// A process that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) pid: i32,
    /// Set when it had already ended.
    pub(crate) exited: Option<ExitStatus>,
}

/// For what it is started.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) incident: String,
    pub(crate) attempt: u32,
}

/// Starts a process in a group of its own, and writes down that it was.
///
/// Blocks for the few system calls that it takes. The process id is written directly
/// after the start; a fixer that dies between the two leaves the mark of an
/// unfinished start, so that the next one looks for the process.
pub(crate) fn start(
    program: &Path,
    handle: &ProcessHandle,
    files: &Files,
    environment: &Environment,
    cause: &Cause,
) -> Result<Started, Error> {
    let unprepared = |source| Error::Files { program: program.to_path_buf(), source };
    let unstarted = |source| Error::Spawn { program: program.to_path_buf(), source };
    let log = files.open_log().map_err(unprepared)?;
    let log_too = log.try_clone().map_err(unstarted)?;
    files.begin_start().map_err(unprepared)?;
    let mut command = Command::new(program);
    command
        .args(handle.command.iter().skip(1))
        .env_clear()
        .envs(environment.clean())
        .envs(&handle.env)
        .env(MARK_TARGET, files.target())
        .env(MARK_INCIDENT, &cause.incident)
        .env(MARK_ATTEMPT, cause.attempt.to_string())
        .env(MARK_STATE, files.state_dir())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        // What ends the fixer, such as Ctrl-C on its terminal, must not end the target.
        .process_group(0);
    if let Some(dir) = &handle.dir {
        command.current_dir(dir);
    }
    let mut child = command.spawn().map_err(|source| {
        files.end_start();
        unstarted(source)
    })?;
    let pid = child.id().and_then(|it| i32::try_from(it).ok()).unwrap_or_default();
    // From here on it runs: what cannot be written is told, but undoes nothing.
    note(files.write_pid(pid), files);
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let (incident, attempt) = (cause.incident.as_str(), cause.attempt);
    note(files.add_start(&Start { pid, at, incident, attempt }), files);
    let exited = child.try_wait().map_err(unstarted)?;
    Ok(Started { child, pid, exited })
}

fn note(written: Result<(), files::Error>, files: &Files) {
    if let Err(error) = written {
        let hint = error.hint();
        tracing::warn!(target.name = files.target(), error = %service::Chain(&error), hint, "a start was not written down");
    }
}
