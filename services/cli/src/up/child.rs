//! Keeps one program running: passes on what it says, restarts it when it dies.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{
    exit::Exit,
    up::{
        backoff::Backoff,
        log::{Level, Log},
        state::{DataDir, Roster},
    },
};

/// How long a child may take to end after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Longest line that is passed on in one piece.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Last lines of a child, kept for the message about its end.
const LAST_LINES_MAX: usize = 12;

/// How long we listen for the last words of a child that has ended: a process that it started may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program that must run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its name in the log.
    pub(crate) name: &'static str,
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// What its environment has on top of ours.
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// What of our environment it must not see.
    pub(crate) env_remove: Vec<&'static str>,
    /// Whether what it makes is for our own user alone. Ours see to that by themselves, and what
    /// they start has our umask.
    pub(crate) is_private: bool,
    /// Our own binary, which makes it die with us; absent in tests.
    pub(crate) wrapper: Option<PathBuf>,
}

/// What all children share.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Takes what they say.
    pub(crate) log: Log,
    /// Knows which run.
    pub(crate) roster: Arc<Mutex<Roster>>,
    /// Cancelled when the system has been ready once: before that, a broker that cannot serve us ends it all.
    pub(crate) ready: CancellationToken,
    /// Cancelled when nobody wants to wait any longer.
    pub(crate) kill: CancellationToken,
}

impl Surroundings {
    /// Begins with nothing running.
    pub(crate) fn new(log: Log, data: &DataDir) -> Self {
        Self {
            log,
            roster: Arc::new(Mutex::new(Roster::new(data))),
            ready: CancellationToken::new(),
            kill: CancellationToken::new(),
        }
    }
}

/// Why a program does not run any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was stopped on request.
    Stopped,
    /// It says that a restart is useless.
    Useless {
        /// Its name.
        name: &'static str,
        /// Its exit code: [`Exit::Config`] or [`Exit::Unavailable`].
        exit: Exit,
        /// What it said last.
        last_lines: Vec<String>,
    },
}

/// Keeps `program` running until `stop` is cancelled, or until it says that a restart is useless.
pub(crate) async fn keep_alive(
    program: Program,
    around: Surroundings,
    stop: CancellationToken,
) -> Ended {
    let mut backoff = Backoff::new();
    loop {
        let begun = Instant::now();
        let outcome = run_once(&program, &around, &stop).await;
        if stop.is_cancelled() {
            return Ended::Stopped;
        }
        let why = match outcome {
            Ok((status, last_lines)) => {
                if let Some(exit) = useless(status, around.ready.is_cancelled()) {
                    return Ended::Useless { name: program.name, exit, last_lines };
                }
                describe(status)
            }
            Err(error) => format!("could not be started: {error}"),
        };
        let wait = backoff.after(begun.elapsed());
        let remark = format!("{} {why}; restart in {} ms", program.name, wait.as_millis());
        around.log.say(Level::Warn, &remark);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ended::Stopped,
        }
    }
}

fn useless(status: ExitStatus, was_ready: bool) -> Option<Exit> {
    let code = status.code()?;
    if code == i32::from(Exit::Config.code()) {
        return Some(Exit::Config);
    }
    // Once all was well, a broker that cannot serve us may be exchanged for one that can.
    (code == i32::from(Exit::Unavailable.code()) && !was_ready).then_some(Exit::Unavailable)
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

async fn run_once(
    program: &Program,
    around: &Surroundings,
    stop: &CancellationToken,
) -> io::Result<(ExitStatus, Vec<String>)> {
    let mut child = spawn(program)?;
    note(around, program.name, child.id());
    let last_lines = Mutex::new(VecDeque::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut listening = std::pin::pin!(async {
        tokio::join!(
            pass_on(stdout, program.name, &around.log, &last_lines),
            pass_on(stderr, program.name, &around.log, &last_lines),
        );
    });
    let mut listening_done = false;
    let status = {
        let mut ending = std::pin::pin!(end_of(&mut child, stop, &around.kill));
        loop {
            tokio::select! {
                status = &mut ending => break status,
                () = &mut listening, if !listening_done => listening_done = true,
            }
        }
    };
    if !listening_done {
        // Whether or not the pipe was closed in time: the child is gone.
        let _elapsed = tokio::time::timeout(LAST_WORDS, listening).await;
    }
    note(around, program.name, None);
    let last_lines =
        std::mem::take(&mut *last_lines.lock().unwrap_or_else(PoisonError::into_inner));
    status.map(|status| (status, last_lines.into()))
}

fn spawn(program: &Program) -> io::Result<Child> {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(wrapper) = &program.wrapper {
        let parent = std::process::id().to_string();
        words.push(wrapper.into());
        words.extend(["__child", "--parent", &parent].map(OsString::from));
        words.extend(program.is_private.then(|| "--private".into()));
        words.push("--".into());
    }
    words.extend(program.command.iter().cloned());
    let Some((first, rest)) = words.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
    };
    let mut command = Command::new(first);
    command.args(rest);
    // First: what is removed of our environment may be set anew.
    for key in &program.env_remove {
        command.env_remove(key);
    }
    command.envs(program.env.iter().map(|(key, value)| (key, value)));
    // A group of its own: Ctrl-C reaches us alone, and we end the children in order.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for the end of a child; brings it about when `stop` or `kill` comes.
async fn end_of(
    child: &mut Child,
    stop: &CancellationToken,
    kill: &CancellationToken,
) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = stop.cancelled() => {}
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // It may have ended in between; then `wait` tells.
        let _gone = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        status = child.wait() => return status,
        () = tokio::time::sleep(GRACE) => {}
        () = kill.cancelled() => {}
    }
    child.start_kill()?;
    child.wait().await
}

fn note(around: &Surroundings, name: &str, pid: Option<u32>) {
    let noted = around.roster.lock().unwrap_or_else(PoisonError::into_inner).note(name, pid);
    if let Err(error) = noted {
        around.log.say(Level::Warn, &format!("cannot note that {name} runs: {error}"));
    }
}

async fn pass_on(
    from: Option<impl AsyncRead + Unpin>,
    name: &str,
    log: &Log,
    last_lines: &Mutex<VecDeque<String>>,
) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).await;
        if !matches!(read, Ok(n) if 0 < n) {
            return;
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        log.pass(name, line);
        let mut last_lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if last_lines.len() == LAST_LINES_MAX {
            last_lines.pop_front();
        }
        last_lines.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests;
