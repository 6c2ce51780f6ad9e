//! What both services do as processes: count their starts, fail on demand, end on a signal.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a crash on demand (`EX_SOFTWARE`).
pub const CRASHED: u8 = 70;

/// Options that both services share.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessArgs {
    /// Append a line {pid, at, incident, attempt} to this file at each start
    #[arg(long, value_name = "FILE", env = "DEMO_STARTS_FILE")]
    pub starts_file: Option<PathBuf>,
    /// The incident for which this start is a fix (set by the fixer)
    #[arg(long, env = "SELFHEAL_INCIDENT", hide = true)]
    pub incident: Option<String>,
    /// The attempt of that incident (set by the fixer)
    #[arg(long, env = "SELFHEAL_ATTEMPT", hide = true)]
    pub attempt: Option<String>,
    /// Fault: crash (exit code 70) this long after the start
    #[arg(long, value_name = "MS", env = "DEMO_CRASH_AFTER_MS", alias = "crash-after")]
    pub crash_after_ms: Option<u64>,
    /// Fault: wait this long before listening
    #[arg(long, value_name = "MS", env = "DEMO_START_DELAY_MS", default_value_t = 0)]
    pub start_delay_ms: u64,
    /// Fault: refuse to start (exit code 1)
    #[arg(long, env = "DEMO_FAIL_START")]
    pub fail_start: bool,
}

impl ProcessArgs {
    /// Records this start, then waits or refuses, as the fault options ask.
    ///
    /// The start is recorded first: a start that then fails is a start too.
    ///
    /// # Errors
    ///
    /// When the starts file cannot be written, or `--fail-start` was given.
    pub async fn begin(&self) -> io::Result<()> {
        if let Some(path) = &self.starts_file {
            let line = serde_json::json!({
                "pid": std::process::id(),
                "at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
                "incident": self.incident,
                "attempt": self.attempt,
            });
            // One write of one whole line: O_APPEND keeps lines of racing starts apart.
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{line}\n").as_bytes())?;
        }
        if self.fail_start {
            return Err(io::Error::other("refused to start, as --fail-start asks"));
        }
        if 0 < self.start_delay_ms {
            tokio::time::sleep(Duration::from_millis(self.start_delay_ms)).await;
        }
        Ok(())
    }

    /// Returns when the process must end: on SIGTERM or SIGINT, or at the crash on demand.
    ///
    /// # Errors
    ///
    /// When the signals cannot be caught.
    pub fn end(&self) -> io::Result<impl Future<Output = ExitCode> + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let crash_after = self.crash_after_ms.map(Duration::from_millis);
        Ok(async move { ended(&mut terminate, &mut interrupt, crash_after).await })
    }
}

async fn ended(
    terminate: &mut Signal,
    interrupt: &mut Signal,
    crash_after: Option<Duration>,
) -> ExitCode {
    let crash = async {
        match crash_after {
            Some(delay) => tokio::time::sleep(delay).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
        () = crash => {
            say("fatal: crashed, as --crash-after-ms asks");
            ExitCode::from(CRASHED)
        }
    }
}

/// Writes one line to standard error.
///
/// A reader that has gone away is no reason to fail: a service outlives the terminal it was started from.
pub fn say(line: &str) {
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    drop(writeln!(io::stderr(), "{at} {line}"));
}
