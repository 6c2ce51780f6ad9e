//! The other side of a start: what makes itself clean, notes itself, and becomes the program.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, ExitCode, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::consts as signals;

use super::{Answer, Order, STARTER};
use crate::process::{Account, Files, Record, Run, account, cgroup, pid_file};

/// Signals that may be ignored or blocked in us and must not be in what is started.
const SIGNALS: [i32; 17] = [
    signals::SIGHUP,
    signals::SIGINT,
    signals::SIGQUIT,
    signals::SIGTERM,
    signals::SIGPIPE,
    signals::SIGALRM,
    signals::SIGUSR1,
    signals::SIGUSR2,
    signals::SIGCHLD,
    signals::SIGTSTP,
    signals::SIGTTIN,
    signals::SIGTTOU,
    signals::SIGCONT,
    signals::SIGURG,
    signals::SIGXCPU,
    signals::SIGXFSZ,
    signals::SIGWINCH,
];

/// Becomes the starter if the arguments of this process say so; else returns `None`.
///
/// To be called first in the `main` of a fixer, before there is another thread: nothing that is
/// started from here on inherits what this process may do.
#[must_use]
pub fn starter() -> Option<ExitCode> {
    if let Err(error) = account::keep_capabilities() {
        tracing::debug!(%error, "capabilities cannot be kept back");
    }
    (std::env::args().nth(1)? == STARTER).then(|| {
        let answers = io::stdin().as_fd().try_clone_to_owned();
        let Ok(mut answers) = answers.map(UnixStream::from) else { return ExitCode::FAILURE };
        let error = become_program(&mut answers);
        let reason = error.to_string();
        answer(&mut answers, &Answer::Failed { errno: error.raw_os_error(), reason });
        ExitCode::FAILURE
    })
}

fn answer(to: &mut UnixStream, answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // A fixer that has died in between needs no answer.
    if let Err(error) = to.write_all(&line) {
        tracing::debug!(%error, "nobody waits for the starter's answer");
    }
}

/// Returns only when it could not.
fn become_program(answers: &mut UnixStream) -> io::Error {
    match prepare(answers) {
        Ok((mut command, files, account)) => {
            // The last of all: what is written down before is ours.
            let assumed = account.map_or(Ok(()), |it| it.assume());
            let error = assumed.err().unwrap_or_else(|| command.exec());
            files.end_start();
            error
        }
        Err(error) => error,
    }
}

fn prepare(answers: &mut UnixStream) -> io::Result<(Command, Files, Option<Account>)> {
    let mut text = String::new();
    answers.read_to_string(&mut text)?;
    let order: Order = serde_json::from_str(&text)?;
    let files = Files::new(&order.state_dir, &order.target, &order.handle);
    let files = files.map_err(io::Error::other)?;
    // What ends the fixer, such as Ctrl-C on its terminal, must not end the target.
    rustix::process::setsid()?;
    unignore_signals()?;
    // What was inherited besides standard input and output ends where the program begins.
    close_fds::set_fds_cloexec(3, &[]);
    let own = rustix::process::getpid();
    let run = Run::of(own).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    let mut record = Record::new(run, order.mark, &order.handle);
    // A log that the program itself is told to write is the program's.
    let log = files.log_path();
    record.log = (!pid_file::is_named_by(log, &order.handle)).then(|| log.to_path_buf());
    record.cgroup = cgroup::enter_own(&order.target, own);
    files.write_record(&record).map_err(io::Error::other)?;
    let mut command = Command::new(&order.program);
    command
        .args(order.handle.command.iter().skip(1))
        .env_clear()
        .envs(order.env)
        .stdin(Stdio::null());
    if let Some(dir) = &order.handle.dir {
        command.current_dir(dir);
    }
    answer(answers, &Answer::Begins { start_ticks: run.start_ticks });
    Ok((command, files, order.account))
}

/// What is ignored stays ignored in a program; what is handled does not. The mask is cleared
/// by the standard library.
fn unignore_signals() -> io::Result<()> {
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
