//! The life of a process, from its flags to its exit code.

use std::{pin::pin, process::ExitCode, time::Duration};

use bus::Bus;
use clap::{Args, CommandFactory as _, FromArgMatches as _};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    BoxError, Chain, Common, Context, Probe, Readiness,
    exit::{self, EX_CONFIG},
    flags::Flags,
    health, limit_secrets, logs, member,
    signals::StopSignal,
    systemd::Systemd,
    trace,
    watchdog::Watchdog,
};

/// The version of all binaries of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Most threads that run the tasks. Our services wait far more than they compute, and
/// every thread costs a stack and an arena of the allocator.
const WORKER_THREADS_MAX: usize = 2;

/// Threads for blocking calls, such as file reads and name look-ups.
const BLOCKING_THREADS_MAX: usize = 8;

/// How long the broker may be silent before we say what we are waiting for.
const SILENCE: Duration = Duration::from_secs(2);

/// How often it is said again.
const SILENCE_AGAIN: Duration = Duration::from_secs(30);

/// Runs the service `kind` until it ends or the process is told to stop.
///
/// The first SIGINT or SIGTERM cancels [`Context::stop`] and lets work end for the
/// grace period; the second ends the process at once.
pub fn run<A, F, Fut>(kind: &'static str, start: F) -> ExitCode
where
    A: Args,
    F: FnOnce(Context<A>) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    // Before anything is made. What is started gets back what we were started with.
    private::umask::restrict();
    let name: &'static str = format!("selfheal-{kind}").leak();
    let command = Flags::<A>::command().name(name).bin_name(name).version(VERSION);
    let flags =
        match command.try_get_matches().and_then(|found| Flags::<A>::from_arg_matches(&found)) {
            Ok(flags) => flags,
            Err(refused) => return say_and_end(&refused),
        };
    if let Err(refused) = logs::init(kind, &flags.common) {
        let said = clap::Error::raw(
            clap::error::ErrorKind::InvalidValue,
            format!("{}\nhint: {}\n", Chain(&refused), refused.hint()),
        );
        return say_and_end(&said);
    }
    // One provider for all of TLS, chosen here: with none or two, rustls panics at the first use.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        warn!("another TLS provider was installed first");
    }
    limit_secrets(flags.common.secrets());
    crate::reaper::reap_orphans();
    let runtime =
        runtime(worker_threads()).max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let systemd = Systemd::from_env();
            let watchdog = Watchdog::start(&runtime, flags.common.stuck_after(), systemd.clone());
            let outcome = runtime.block_on(Box::pin(serve(kind, flags, start, systemd)));
            drop(watchdog);
            trace::finish();
            // What still blocks a thread now must not keep the process.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (number, hint) = exit::judge(&*failure);
            let error = Chain(&*failure);
            if let Some(hint) = hint {
                error!(%error, exit_code = number, hint, "ended by an error");
            } else {
                error!(%error, exit_code = number, "ended by an error");
            }
            exit::code(number)
        }
    }
}

/// Returns what runs the tasks on `n_threads`. With one it is the main thread, since what is
/// handed from one thread to another costs a wake-up: some 50 us each, on the way of every message.
fn runtime(n_threads: usize) -> tokio::runtime::Builder {
    if n_threads <= 1 {
        return tokio::runtime::Builder::new_current_thread();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(n_threads);
    builder
}

/// Returns how many threads run the tasks. Where the broker and the other services leave one
/// processor for us, a second thread only wakes and is woken (measured: a fifth of the
/// processor time of the gateway).
fn worker_threads() -> usize {
    let n_processors = std::thread::available_parallelism().map_or(1, usize::from);
    (n_processors / 2).clamp(1, WORKER_THREADS_MAX)
}

/// Prints what clap has to say: help and version are a success, all else is a bad configuration.
fn say_and_end(said: &clap::Error) -> ExitCode {
    let printed = said.print();
    if said.use_stderr() || printed.is_err() { exit::code(EX_CONFIG) } else { ExitCode::SUCCESS }
}

async fn serve<A, F, Fut>(
    kind: &'static str,
    flags: Flags<A>,
    start: F,
    systemd: Systemd,
) -> Result<(), BoxError>
where
    A: Args,
    F: FnOnce(Context<A>) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    let Flags { common, own } = flags;
    let mut signals = StopSignal::new()?;
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let (readiness, ready) = Readiness::new(stop.clone());
    let probe = Probe::install(kind, VERSION, readiness.clone())?;
    let around = TaskTracker::new();
    around.spawn(probe.clone().keep_up(end.clone()));
    around.spawn(systemd.follow(readiness.clone(), stop.clone()));
    if let Some(address) = common.health_listen()? {
        let listener = health::bind(address).await?;
        around.spawn(health::serve(listener, probe.clone(), end.clone()));
    }
    let random = uuid::Uuid::new_v4().simple().to_string();
    let member_id = format!("{kind}-{}", random.get(..8).unwrap_or(&random));
    trace::install(kind, VERSION, member_id.clone());
    let bus = tokio::select! {
        connected = connect(kind, &common) => connected?,
        which = signals.next() => {
            info!(signal = which, "stopped while waiting for the broker");
            return Ok(());
        }
    };
    readiness.follow(bus.connection());
    let micro = bus.micro_service(kind, VERSION, &member_id).await?;
    let tasks = TaskTracker::new();
    let member = member::describe(member_id.clone(), kind, common.zones(), VERSION);
    around.spawn(member::stay(bus.clone(), member, stop.clone(), ready.clone()));
    around.spawn(announce(readiness, stop.clone(), member_id.clone()));
    let (failures, failed) = mpsc::channel(1);
    let context = Context {
        args: own,
        bus,
        member_id,
        zones: common.zones(),
        outgoing: common.outgoing(),
        stop: stop.clone(),
        tasks: tasks.clone(),
        ready,
        probe,
        version: VERSION,
        failures,
    };
    let result = live(start(context), &mut signals, &stop, &tasks, failed, common.grace()).await;
    stop.cancel();
    end.cancel();
    around.close();
    // Leaving the members' list needs the broker, which may be gone.
    let good_bye = async { tokio::join!(around.wait(), micro.stop()) };
    if tokio::time::timeout(SILENCE, good_bye).await.is_err() {
        warn!("could not say good-bye in time");
    }
    result
}

/// Runs the work until it ends by itself or is told to, then lets its tasks end.
async fn live(
    work: impl Future<Output = Result<(), BoxError>>,
    signals: &mut StopSignal,
    stop: &CancellationToken,
    tasks: &TaskTracker,
    mut failed: mpsc::Receiver<BoxError>,
    grace: Duration,
) -> Result<(), BoxError> {
    let mut work = pin!(work);
    let mut ended = None;
    let mut failure = None;
    tokio::select! {
        result = &mut work => ended = Some(result),
        which = signals.next() => info!(signal = which, "stopping"),
        Some(error) = failed.recv() => failure = Some(error),
    }
    stop.cancel();
    tasks.close();
    let drain = async {
        let result = match ended {
            Some(result) => result,
            None => work.await,
        };
        tasks.wait().await;
        failure.map_or(result, Err)
    };
    tokio::select! {
        result = drain => result,
        which = signals.next() => {
            warn!(signal = which, "second signal, ending at once");
            Err("stopped before its work had ended".into())
        }
        () = tokio::time::sleep(grace) => {
            warn!(?grace, "work did not end in time");
            Err("the grace period ended before its work".into())
        }
    }
}

/// Connects, and says what it is waiting for when that takes long.
async fn connect(kind: &str, common: &Common) -> Result<Bus, bus::Error> {
    let options = common.broker(format!("selfheal-{kind}"));
    let mut connecting = pin!(bus::connect(&options));
    let mut patience = SILENCE;
    loop {
        match tokio::time::timeout(patience, &mut connecting).await {
            Ok(connected) => return connected,
            Err(_elapsed) => warn!(
                url = common.nats_url_shown(),
                hint = "start one with `nats-server -js`, or name another with --nats-url or SELFHEAL_NATS_URL",
                "no broker yet, still trying"
            ),
        }
        patience = SILENCE_AGAIN;
    }
}

/// Returns the URLs without user and password.
pub(crate) fn without_secrets(urls: &str) -> String {
    let one = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            let (head, tail) = (url.get(..scheme + 3), url.get(at + 1..));
            format!("{}{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        (None, Some(at)) => url.get(at + 1..).unwrap_or_default().to_owned(),
        (_, Some(_) | None) => url.to_owned(),
    };
    urls.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(",")
}

/// Says once that the process is ready: others wait for this line.
async fn announce(readiness: Readiness, stop: CancellationToken, member: String) {
    let released = stop.run_until_cancelled(readiness.released()).await;
    // Work that ends drops its latch too: a process that stops is not ready.
    if released.is_some() && !stop.is_cancelled() {
        info!(member, version = VERSION, "ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says whether the drain ended in time, with work that never ends.
    async fn drain(grace: Duration, n_signals: u32) -> String {
        let mut signals = StopSignal::new().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (_failures, failed) = mpsc::channel(1);
        let me = rustix::process::getpid();
        let send = || rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
        let work = async {
            send();
            stop.cancelled().await;
            for _ in 1..n_signals {
                send();
            }
            std::future::pending().await
        };
        live(work, &mut signals, &stop, &tasks, failed, grace).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn work_has_the_grace_period_and_a_second_signal_ends_it_at_once() {
        let long = Duration::from_secs(3600);
        assert_eq!(drain(long, 2).await, "stopped before its work had ended");
        let short = Duration::from_millis(10);
        assert!(drain(short, 1).await.starts_with("the grace period ended"));
    }

    #[test]
    fn the_password_of_the_broker_is_never_written() {
        assert_eq!(
            without_secrets("nats://me:secret@host:4222, nats://other:4222"),
            "nats://host:4222,nats://other:4222"
        );
        assert_eq!(without_secrets("me:p@ss@host"), "host");
    }
}
