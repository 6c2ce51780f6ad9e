//! Running a program to its end, with its whole family, within limits.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::Instant,
};

use crate::{
    environment::{self, Environment},
    output::{HeadTail, OUTPUT_BYTES_MAX},
};

/// How long output is still read when the program has ended, but something that it
/// left behind holds the pipe open.
const DRAIN_MAX: Duration = Duration::from_millis(200);

/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be run.
    #[error(transparent)]
    NotFound(#[from] environment::Error),
    /// The kernel refused.
    #[error("cannot run {program}")]
    Spawn { program: String, source: io::Error },
    /// It took too long; it and its family were killed.
    #[error(
        "{program} did not end within {seconds} s; it was killed, with all that it had started"
    )]
    TimedOut { program: String, seconds: f64, output: String },
}

impl Error {
    /// Returns what the reader can do.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::NotFound(error) => error.hint(),
            Self::Spawn { .. } => {
                "run the command by hand, as the user of the fixer, to see what is wrong"
            }
            Self::TimedOut { .. } => "raise the step's `timeout` if it needs longer",
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// A program to run.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [String],
    pub(crate) dir: Option<&'a str>,
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) marks: Vec<(&'static str, String)>,
}

impl Program<'_> {
    /// Runs it without a shell, in a group of its own, until the deadline.
    ///
    /// When the time is over, or this future is dropped, the whole group is killed.
    pub(crate) async fn run(
        &self,
        environment: &Environment,
        deadline: Instant,
    ) -> Result<Ended, Error> {
        let program = environment.find(self.command, self.dir, self.env)?;
        let begun = Instant::now();
        let mut child = self.spawn(&program, environment)?;
        // Declared after the child, hence dropped before it: see `Family`.
        let family = Family::of(&child);
        let (mut pipes, mut output) = (Pipes::of(&mut child), HeadTail::new(OUTPUT_BYTES_MAX));
        let ended = tokio::time::timeout_at(deadline, pipes.follow(&mut child, &mut output)).await;
        match ended {
            Ok(Ok(status)) => {
                // What it left running on purpose, such as a service, may go on.
                family.spare();
                pipes.drain(&mut output).await;
                Ok(Ended { status, output: output.into_text() })
            }
            Ok(Err(source)) => Err(Error::Spawn { program: program.display().to_string(), source }),
            Err(_elapsed) => {
                drop(family);
                pipes.drain(&mut output).await;
                Err(Error::TimedOut {
                    program: program.display().to_string(),
                    seconds: tenths(deadline.saturating_duration_since(begun)),
                    output: output.into_text(),
                })
            }
        }
    }

    fn spawn(&self, program: &Path, environment: &Environment) -> Result<Child, Error> {
        let mut command = Command::new(program);
        command
            .args(self.command.iter().skip(1))
            .env_clear()
            .envs(environment.clean())
            .envs(self.env)
            .envs(self.marks.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(dir) = self.dir {
            command.current_dir(dir);
        }
        private::umask::as_before(|| command.spawn())
            .map_err(|source| Error::Spawn { program: program.display().to_string(), source })
    }
}

/// Kills a process group when dropped, unless it is spared.
///
/// Must be dropped before its leader was waited for: until then the number of the
/// group cannot belong to another one.
struct Family(Option<Pid>);

impl Family {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?)))
    }

    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(group) = self.0 else { return };
        if let Err(error) = kill_process_group(group, Signal::KILL) {
            tracing::debug!(%error, group = %group.as_raw_nonzero(), "no process group to kill");
        }
    }
}

/// Returns seconds, rounded as people would say them.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// The two pipes of a program.
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Pipes {
    fn of(child: &mut Child) -> Self {
        Self { out: child.stdout.take(), err: child.stderr.take() }
    }

    /// Collects output until the program has ended.
    async fn follow(&mut self, child: &mut Child, output: &mut HeadTail) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                more = self.next() => match more {
                    Some(bytes) => output.push(&bytes),
                    None => return child.wait().await,
                },
            }
        }
    }

    /// Collects what is left in the pipes.
    async fn drain(&mut self, output: &mut HeadTail) {
        let all = async {
            while let Some(bytes) = self.next().await {
                output.push(&bytes);
            }
        };
        if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
            tracing::debug!("something that was left running holds the output open");
        }
    }

    /// Reads what comes next from either; `None` when both have ended.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let (mut from_out, mut from_err) = (Vec::new(), Vec::new());
            tokio::select! {
                () = read(self.out.as_mut(), &mut from_out), if self.out.is_some() => {
                    if !from_out.is_empty() {
                        return Some(from_out);
                    }
                    self.out = None;
                }
                () = read(self.err.as_mut(), &mut from_err), if self.err.is_some() => {
                    if !from_err.is_empty() {
                        return Some(from_err);
                    }
                    self.err = None;
                }
                else => return None,
            }
        }
    }
}

/// Reads once; leaves the buffer empty at the end, and at an error, which a pipe has
/// only when it is broken.
async fn read(pipe: Option<&mut (impl AsyncRead + Unpin)>, buffer: &mut Vec<u8>) {
    let Some(pipe) = pipe else { return };
    buffer.reserve(READ_BYTES);
    if let Err(error) = pipe.read_buf(buffer).await {
        tracing::debug!(%error, "cannot read what a program prints");
    }
}
