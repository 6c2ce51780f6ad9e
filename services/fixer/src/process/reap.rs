//! How a process ended that we started.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use chrono::{SecondsFormat, Utc};
use host::process::files::{Exit, Files};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Waits until the process ends, and writes down how.
///
/// Gives up when this process must end: the child lives on, and init inherits it.
pub(crate) async fn reap(mut child: Child, pid: i32, files: Files, stop: CancellationToken) {
    match stop.run_until_cancelled(child.wait()).await {
        Some(Ok(status)) => record(pid, status, files).await,
        Some(Err(error)) => {
            warn!(target.name = files.target(), pid, %error, "cannot wait for a process that was started");
        }
        None => {}
    }
}

/// Writes down how the process ended.
pub(crate) async fn record(pid: i32, status: ExitStatus, files: Files) {
    info!(target.name = files.target(), pid, %status, "a process that was started has ended");
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let exit = Exit { pid, exit_code: status.code(), signal: status.signal(), at };
    let target = files.target().to_owned();
    let written = tokio::task::spawn_blocking(move || files.write_exit(&exit)).await;
    if let Ok(Err(error)) = written {
        warn!(target.name = target, error = %service::Chain(&error), hint = error.hint(), "an end was not written down");
    }
}

/// Says how a process ended.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
