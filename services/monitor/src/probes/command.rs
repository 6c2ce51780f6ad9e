//! A program ends with 0. No shell; its whole process group ends with its time limit.

use std::{
    io::{self, ErrorKind},
    process::{ExitStatus, Stdio},
};

use futures_util::future::BoxFuture;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{Duration, timeout},
};

use super::Question;
use crate::sample::Finding;

/// So much of the end of the output is kept.
const OUTPUT_MAX: usize = 2048;

/// How long output may still come when the program has ended: something that it left
/// behind may hold the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(50);

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(run(question))
}

async fn run(question: &Question) -> Finding {
    let Some([program, arguments @ ..]) = question.check.command.as_deref() else {
        return Finding::not_asked("no program is named");
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(question.instruments.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match private::umask::as_before(|| command.spawn()) {
        Ok(child) => child,
        Err(error) => return not_started(program, &error),
    };
    let group = Group::of(&child);
    let (mut printed, mut complained) = (Tail::default(), Tail::default());
    let ended = {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut reading = std::pin::pin!(async {
            tokio::join!(printed.read(out), complained.read(err));
        });
        tokio::select! {
            // The output may be closed long before the end.
            status = child.wait() => {
                // What it has left behind may say no more; then the rest is not waited for.
                drop(timeout(OUTPUT_GRACE, &mut reading).await);
                status
            }
            () = &mut reading => child.wait().await,
        }
    };
    group.disarm();
    let last = if complained.is_empty() { printed.last_line() } else { complained.last_line() };
    let finding = match ended {
        Ok(status) if status.success() => Finding::passed(words(status, &last)),
        Ok(status) => Finding::failed(words(status, &last))
            .with("exit_code", json!(status.code()))
            .with("signal", json!(status.signal())),
        Err(error) => Finding::failed(format!("cannot wait for {program}: {error}")),
    };
    let output = [printed.text(), complained.text()].concat();
    finding.with("output", json!((!output.is_empty()).then_some(output)))
}

/// A check whose program is not there, or may not be run, says nothing about the target.
fn not_started(program: &str, error: &io::Error) -> Finding {
    let why = format!("cannot start {program}: {error}");
    let is_mistake = matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::InvalidInput
    ) || error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error());
    // Otherwise there is no memory, or there are too many processes: a matter of this host.
    if is_mistake { Finding::not_asked(why) } else { Finding::unseen(why) }
}

fn words(status: ExitStatus, last_line: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    if last_line.is_empty() { end } else { format!("{end}: {last_line}") }
}

/// Kills a process group when dropped before it is over, for instance by a time limit.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// The leader was waited for: its number may soon be another's, and is left alone.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(pid = %pid, %error, "the group of a command is gone already");
        }
    }
}

/// The end of what a program prints.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = [0_u8; 4096];
        while let Ok(n_bytes @ 1..) = pipe.read(&mut chunk).await {
            self.0.extend_from_slice(chunk.get(..n_bytes).unwrap_or_default());
            let surplus = self.0.len().saturating_sub(OUTPUT_MAX);
            self.0.drain(..surplus);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    fn last_line(&self) -> String {
        let text = self.text();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }
}
