//! `selfheal up`: the whole system on one machine, as children of one process.

pub(crate) mod api_token;
mod backoff;
mod broker;
mod child;
pub(crate) mod credentials;
pub(crate) mod keys;
mod log;
mod plan;
mod ready;
mod state;
pub(crate) mod wrapper;

use std::path::Path;

use bus::{Subjects, roles::Role};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    broker::{Broker, Served},
    child::{Ended, Surroundings, keep_alive},
    log::{Level, Log, Style, last_words},
    plan::Plan,
    state::{DataDir, end_former},
};
use crate::{
    args::{Global, OwnBroker, Up},
    exit::{Exit, Failure},
    terminal::Terminal,
};

/// Runs everything until it is told to stop.
///
/// # Errors
///
/// When it cannot begin, or a child says that a restart is useless.
pub(crate) async fn run(args: &Up, global: &Global, terminal: Terminal) -> Result<(), Failure> {
    let signals = Signals::new()?;
    service::reap_orphans();
    plan::check_flags(args, global)?;
    let config = plan::check_config(&args.config)?;
    let data = DataDir::open(&global.data_dir)?;
    let style =
        Style { json: terminal.is_json(), color: terminal.has_color_err(), verbose: args.verbose };
    let (log, writer) = Log::start(style)
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the log").because(error))?;
    end_former(&data, &log).await;
    let result = match Plan::make(args, global, &config, &data).await {
        Ok(plan) => supervise(plan, terminal, signals, &data, log).await,
        Err(failure) => {
            drop(log);
            Err(failure)
        }
    };
    writer.finish();
    result
}

/// Runs the broker of a data directory, and nothing else, while `work` is done with its URL.
///
/// # Errors
///
/// When it cannot be run, and what `work` returns.
pub(crate) async fn with_broker(
    own: &OwnBroker,
    global: &Global,
    terminal: Terminal,
    work: impl AsyncFnOnce(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let data = DataDir::open(&global.data_dir)?;
    let style = Style { json: terminal.is_json(), color: terminal.has_color_err(), verbose: false };
    let (log, writer) = Log::start(style)
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the log").because(error))?;
    end_former(&data, &log).await;
    // Any port will do, and none that a waiting agent knows.
    let own = OwnBroker { nats_port: own.nats_port.or(Some(0)), ..own.clone() };
    // Only a supervisor's part is played here, which is the same in all zones; the next `up` writes
    // them anew.
    let served = Served { names: Subjects::new(&global.broker.prefix), zones: Vec::new() };
    let mut broker = broker::prepare(&own, &data, &served).await?;
    broker.program.wrapper = Some(plan::our_program()?);
    let stop = CancellationToken::new();
    let around = Surroundings::new(log.clone(), &data);
    let running = keep_alive(broker.program.clone(), around, stop.clone());
    let working = async {
        wait_for(&broker, &log).await;
        let result = work(broker.url(Role::Supervisor)).await;
        stop.cancel();
        result
    };
    let (_ended, result) = tokio::join!(running, working);
    drop(log);
    writer.finish();
    result
}

/// Tells whether a data directory belongs to an `up`, so that its broker is there too.
pub(crate) fn has_own_broker(data_dir: &Path) -> bool {
    DataDir::was_used(data_dir)
}

async fn supervise(
    plan: Plan,
    terminal: Terminal,
    mut signals: Signals,
    data: &DataDir,
    log: Log,
) -> Result<(), Failure> {
    let around = Surroundings::new(log.clone(), data);
    let (stop_agents, stop_broker) = (CancellationToken::new(), CancellationToken::new());
    let mut broker = JoinSet::new();
    if let Some(own) = &plan.broker {
        log.say(Level::Info, &own.summary);
        broker.spawn(keep_alive(own.program.clone(), around.clone(), stop_broker.clone()));
        wait_for(own, &log).await;
    }
    ready::tell_how_to_come_in(&plan, &log);
    let mut agents = JoinSet::new();
    for program in plan.agents {
        agents.spawn(keep_alive(program, around.clone(), stop_agents.clone()));
    }
    let mut announcing = std::pin::pin!(ready::announce(
        plan.listen,
        plan.url.clone(),
        &log,
        terminal,
        &around.ready
    ));
    let mut announced = false;
    let ended = loop {
        tokio::select! {
            () = &mut announcing, if !announced => announced = true,
            which = signals.next() => {
                log.say(Level::Info, &format!("{which}: stopping"));
                break Ended::Stopped;
            }
            Some(Ok(ended)) = agents.join_next() => break ended,
            Some(Ok(ended)) = broker.join_next() => break ended,
        }
    };
    // The broker goes last: what the agents still have to say must reach it.
    let stopping = async {
        for (stop, children) in [(&stop_agents, &mut agents), (&stop_broker, &mut broker)] {
            stop.cancel();
            while children.join_next().await.is_some() {}
        }
    };
    tokio::select! {
        () = stopping => {}
        () = kill_on_second_signal(&mut signals, &around) => {}
    }
    outcome(ended)
}

/// Waits for our own broker, but not for ever. A signal that comes meanwhile is kept for the loop that follows.
async fn wait_for(own: &Broker, log: &Log) {
    if !own.wait_until_it_accepts().await {
        log.say(Level::Warn, "the broker is slow to begin; the agents will wait for it");
    }
}

/// Never ends: after the second signal the children are killed, which ends the other branch.
async fn kill_on_second_signal(signals: &mut Signals, around: &Surroundings) {
    signals.next().await;
    around.log.say(Level::Warn, "second signal: killing what has not ended");
    around.kill.cancel();
    std::future::pending::<()>().await;
}

fn outcome(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Useless { name, exit, last_lines } => {
            let (why, hint) = last_words(&last_lines);
            let failure = Failure::new(exit, format!("{name} cannot work like this: {why}"));
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// The signals that end us.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, "cannot listen to signals").because(error)
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "stopped on request",
            _ = self.hang_up.recv() => "terminal closed",
        }
    }
}
