//! Starting a process that outlives its fixer.
//!
//! Between fixer and program stands a short-lived starter: the fixer's own binary, which
//! makes itself clean, notes itself, and then becomes the program. So the record of a run is
//! written before the program begins, whoever dies when; and what the program inherits is
//! what is meant: its output, no other descriptor, no blocked or ignored signal, a session and
//! where the kernel allows it a control group of its own.

mod starter;

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use chrono::{SecondsFormat, Utc};
use domain::{secret::Text, target::ProcessHandle};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::{
    Account, MARK_ATTEMPT, MARK_INCIDENT, MARK_RUN, MARK_STATE, MARK_TARGET, Run,
    account::Lent,
    cgroup,
    files::{self, Files, Start},
    pid_file::{self, Content, Owner},
};

/// The argument by which a binary becomes a starter.
const STARTER: &str = "__start";

/// How long the starter may take: it makes a dozen system calls, on a busy machine.
const STARTER_WITHIN: Duration = Duration::from_secs(20);

/// Longest answer of a starter.
const ANSWER_BYTES_MAX: u64 = 4096;

pub use starter::starter;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    pub fn hint(&self) -> &'static str {
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
pub struct Started {
    /// It.
    pub child: Child,
    /// Which run.
    pub run: Run,
    /// Set when it had already ended.
    pub exited: Option<ExitStatus>,
    /// What its pid file was before, if it is to be seen whether the program writes it.
    pub pid_file: Watched,
}

/// What is to become of a pid file after a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nothing: it is written already, or the program's.
    Settled,
    /// It is written by us if it is still as it was.
    Open {
        /// As it was before the start.
        before: Option<Content>,
    },
}

/// For what it is started.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The incident.
    pub incident: String,
    /// The attempt.
    pub attempt: u32,
}

/// What a starter is told, and what it becomes.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    target: String,
    state_dir: PathBuf,
    mark: String,
    program: PathBuf,
    handle: ProcessHandle,
    env: Vec<(String, String)>,
    /// Who it becomes before it becomes the program.
    #[serde(default)]
    account: Option<Account>,
}

/// What is started, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The binary that knows how to be a starter: see [`starter`].
    pub starter: &'a Path,
    /// The program, found.
    pub program: &'a Path,
    /// The handle.
    pub handle: &'a ProcessHandle,
    /// The files of the target.
    pub files: &'a Files,
    /// The environment that is passed on to every program, and the secrets of the handle's.
    pub env: &'a [(String, String)],
    /// The user that it runs as, if it is another one than ours.
    pub account: Option<&'a Account>,
    /// For what.
    pub cause: &'a Cause,
}

/// Starts a process, and writes down that it was.
///
/// Blocks for the few system calls that it takes.
///
/// # Errors
///
/// [`Error`] when it was not started.
pub fn start(launch: Launch<'_>) -> Result<Started, Error> {
    let Launch { program, handle, files, cause, .. } = launch;
    let unprepared = |source| Error::Files { program: program.to_path_buf(), source };
    let last = files.read_record();
    let owner = pid_file::owner(files, handle, last.as_ref());
    let before = files.read_pid();
    let mark = format!("{}-{}-{}", cause.incident, cause.attempt, Utc::now().timestamp_micros());
    files.begin_start(&mark).map_err(unprepared)?;
    let begun = spawn(launch, &mark);
    let (mut child, run) = begun.inspect_err(|_| files.end_start())?;
    if let Some(cgroup) = last.and_then(|it| it.cgroup) {
        cgroup::remove(Path::new(&cgroup));
    }
    // From here on it runs: what cannot be written is told, but undoes nothing.
    let pid_file = match owner {
        Owner::Program => Watched::Settled,
        Owner::Unknown => Watched::Open { before },
        Owner::Ours => {
            note(write_pid(files, before.as_ref(), &run), files);
            Watched::Settled
        }
    };
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let (incident, attempt) = (cause.incident.as_str(), cause.attempt);
    note(files.add_start(&Start { pid: run.pid, at, incident, attempt }), files);
    let unstarted = |source| Error::Spawn { program: program.to_path_buf(), source };
    let exited = child.try_wait().map_err(unstarted)?;
    Ok(Started { child, run, exited, pid_file })
}

/// Writes the pid file of a run, if it is still as it was before the start, and notes what
/// was written.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_pid(files: &Files, before: Option<&Content>, run: &Run) -> Result<(), files::Error> {
    let wrote = if files.has_named_pid_file() {
        pid_file::write_unchanged(files.pid_path(), before, run)?
    } else {
        Some(pid_file::write(files.pid_path(), run)?)
    };
    let Some(mut record) = files.read_record().filter(|it| it.run == *run) else { return Ok(()) };
    record.pid_file_text = wrote;
    files.write_record(&record)
}

fn note(written: Result<(), files::Error>, files: &Files) {
    if let Err(error) = written {
        let (hint, why) =
            (error.hint(), std::error::Error::source(&error).map(ToString::to_string));
        tracing::warn!(target.name = files.target(), %error, why, hint, "a start was not written down");
    }
}

fn spawn(launch: Launch<'_>, mark: &str) -> Result<(Child, Run), Error> {
    let Launch { program, files, .. } = launch;
    let unprepared = |source| Error::Files { program: program.to_path_buf(), source };
    let unstarted = |source| Error::Spawn { program: program.to_path_buf(), source };
    let log = files.open_log().map_err(unprepared)?;
    let log_too = log.try_clone().map_err(unstarted)?;
    let (mut ours, theirs) = UnixStream::pair().map_err(unstarted)?;
    let lent = launch.account.map(|_| Lent::begin());
    let mut starter = Command::new(launch.starter);
    starter
        .arg(STARTER)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log)
        .stderr(log_too);
    let spawned = private::umask::as_before(|| starter.spawn());
    // It holds our copy of the starter's end of the socket, whose end we wait for.
    drop((starter, lent));
    let mut child = spawned.map_err(unstarted)?;
    let pid = child.id().and_then(|it| i32::try_from(it).ok()).unwrap_or_default();
    match tell(&mut ours, &launch.order(mark)) {
        Ok(start_ticks) => Ok((child, Run { pid, start_ticks })),
        Err(source) => {
            // It has not become the program, and must not do so later.
            if let Err(error) = child.start_kill() {
                tracing::debug!(%error, pid, "a starter has ended");
            }
            Err(unstarted(source))
        }
    }
}

impl Launch<'_> {
    fn order(&self, mark: &str) -> Order {
        let own = [
            (MARK_TARGET, self.files.target().to_owned()),
            (MARK_INCIDENT, self.cause.incident.clone()),
            (MARK_ATTEMPT, self.cause.attempt.to_string()),
            (MARK_STATE, self.files.state_dir().to_string_lossy().into_owned()),
            (MARK_RUN, mark.to_owned()),
        ];
        let mut env = self.env.to_vec();
        let of_account = self.account.into_iter().flat_map(Account::variables);
        env.extend(of_account.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let plain = |(name, text): (&String, &Text)| Some((name.clone(), text.plain()?.to_owned()));
        env.extend(self.handle.env.iter().filter_map(plain));
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Order {
            target: self.files.target().to_owned(),
            state_dir: self.files.state_dir().to_path_buf(),
            mark: mark.to_owned(),
            program: self.program.to_path_buf(),
            handle: self.handle.clone(),
            env,
            account: self.account.cloned(),
        }
    }
}

/// What a starter answers before it becomes the program, and when it cannot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// It is about to become the program.
    Begins { start_ticks: u64 },
    /// It could not.
    Failed { errno: Option<i32>, reason: String },
}

/// Tells a starter what to become, and waits until it has.
fn tell(starter: &mut UnixStream, order: &Order) -> io::Result<u64> {
    starter.set_read_timeout(Some(STARTER_WITHIN))?;
    starter.write_all(&serde_json::to_vec(order)?)?;
    starter.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    starter.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let mut start_ticks = None;
    for line in text.lines() {
        match serde_json::from_str(line)? {
            Answer::Begins { start_ticks: ticks } => start_ticks = Some(ticks),
            Answer::Failed { errno: Some(errno), .. } => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Answer::Failed { errno: None, reason } => return Err(io::Error::other(reason)),
        }
    }
    start_ticks.ok_or_else(|| io::Error::other("the starter has ended without a word"))
}
