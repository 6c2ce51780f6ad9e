//! Whose a pid file is shows after the start: the program writes it, or nobody does.

use std::time::Duration;

use host::process::{
    Files, Run, pid_file,
    start::{Watched, write_pid},
};
use tracing::{debug, warn};

/// How long a program has to write its pid file before we write it for people to read.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked at.
const STEP: Duration = Duration::from_millis(50);

/// Writes the pid file of a run that was just started, unless the program does it itself or
/// the run ends before.
pub(crate) async fn settle(watched: Watched, files: Files, run: Run) {
    let Watched::Open { before } = watched else { return };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if pid_file::is_changed(files.pid_path(), before.as_ref()) {
            debug!(target.name = files.target(), "the program writes its pid file itself");
            return;
        }
        if deadline <= tokio::time::Instant::now() {
            break;
        }
        tokio::time::sleep(STEP).await;
    }
    if !run.is_alive() {
        return;
    }
    let target = files.target().to_owned();
    let write = move || {
        // A monitor may change the record at the same moment. Without the lock it is written, too.
        let _lock = files.lock().ok();
        write_pid(&files, before.as_ref(), &run)
    };
    let written = tokio::task::spawn_blocking(write).await;
    if let Ok(Err(error)) = written {
        warn!(target.name = target, error = %service::Chain(&error), hint = error.hint(), "a pid file was not written");
    }
}
