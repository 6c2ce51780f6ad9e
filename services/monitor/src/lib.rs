//! Watches targets and tells changes; verifies fixes; answers how a target is, now.
//!
//! Of all monitors of a zone, each target belongs to one ([`share`]), which runs all its
//! checks in one task ([`watch`]), and thinks about them in one place ([`vigil`]). A check
//! is looked at by a probe ([`probes`]), its samples are counted by a [`judge`], and all
//! checks of one event type make one [`condition`], whose changes are [`report`]ed.
//! Incidents that end while the trouble goes on are noticed ([`incidents`]), so that no
//! trouble is lost.
//!
//! Any monitor of the zone may be asked to [`verify`] a fix, or how a target is
//! ([`answer`]).

mod age;
pub mod allow;
pub mod answer;
pub mod condition;
pub mod engine;
pub mod host;
pub mod incidents;
pub mod instruments;
pub mod judge;
pub mod known;
mod listeners;
mod measure;
mod metrics;
mod own;
pub mod probes;
pub mod processes;
mod program;
mod prometheus;
pub mod report;
pub mod roster;
pub mod sample;
pub mod share;
mod startup;
pub mod trial;
pub mod verify;
pub mod verify_work;
pub mod vigil;
pub mod watch;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bus::{Bus, Server, Subscription};
use service::{BoxError, Context};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    allow::AllowList, answer::Answerer, instruments::Instruments, roster::Roster,
    verify_work::Verifier, watch::Note,
};

pub use crate::metrics::METRICS;

/// Changes on their way to the inbox.
const REPORTS_WAITING: usize = 256;

/// How often the open incidents are asked for while trouble is reported: what is told
/// live may be missed.
const INCIDENTS_EVERY: Duration = Duration::from_secs(30);

/// How often the processors are measured for those who ask.
const CPU_EVERY: Duration = Duration::from_secs(5);

/// Flags of `selfheal-monitor`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Monitor")]
pub struct Args {
    /// Directory in which fixers leave pid files, logs and exits of processes
    #[arg(long, env = "SELFHEAL_STATE_DIR", value_name = "DIR", default_value = "./data/run")]
    pub state_dir: PathBuf,
    /// `all` lets checks run any command, and logs be read anywhere; else only what the --allow-file
    /// lists
    #[arg(long, env = "SELFHEAL_MONITOR_ALLOW", value_name = "all")]
    pub allow: Option<String>,
    /// YAML file with the lists programs, hosts and reads
    #[arg(long, env = "SELFHEAL_MONITOR_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<String>,
}

/// Runs a monitor until it is told to stop.
///
/// # Errors
///
/// When the local list is refused ([`service::ConfigError`]), or a subscription cannot be made.
pub async fn start(context: Context<Args>) -> Result<(), BoxError> {
    let stop = context.stop.clone();
    match stop.clone().run_until_cancelled(Box::pin(set_up(context))).await {
        Some(servers) => {
            let servers = servers?;
            stop.cancelled().await;
            drop(servers);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Starts all tasks. What is returned answers questions until it is dropped.
async fn set_up(context: Context<Args>) -> Result<Vec<Server>, BoxError> {
    let (bus, stop, tasks) = (&context.bus, &context.stop, &context.tasks);
    context.probe.describe(&METRICS);
    let allow = AllowList::load(&context.args)?;
    bus.wait_for_topology().await?;
    let member: Arc<str> = context.member_id.as_str().into();
    let instruments = Instruments::new(context.args.state_dir.clone());
    let instruments = instruments.limited(allow, &context.outgoing);
    tasks.spawn(instruments.engine.clone().listen(stop.clone()));
    tasks.spawn(stop.clone().run_until_cancelled_owned(measure(instruments.clone())));

    let (reports, outgoing) = mpsc::channel(REPORTS_WAITING);
    let writer = bus.agent_writer();
    tasks.spawn(report::deliver(writer.clone(), outgoing, tasks.clone(), stop.clone()));

    let post = watch::Post {
        member: Arc::clone(&member),
        instruments: instruments.clone(),
        reports,
        n_changes: Arc::new(AtomicU64::new(0)),
    };
    let roster = Roster::new(post, context.zones.clone(), tasks.clone());
    let answerer = Answerer {
        member: Arc::clone(&member),
        instruments: instruments.clone(),
        standings: roster.standings(),
        known: roster.known(),
    };
    let over = bus.subscribe(bus.subjects().over(), None).await?;
    context.essential("watching", follow(bus.clone(), roster, over, stop.clone()));

    let verifier = Verifier { member, zones: context.zones.clone().into(), instruments, writer };
    tasks.spawn(verify_work::serve(bus.clone(), verifier, tasks.clone(), stop.clone()));

    let mut servers = Vec::new();
    for zone in &context.zones {
        let answerer = answerer.clone();
        let subject = bus.subjects().probe(zone);
        servers
            .push(bus.serve(subject, "probe", move |asked| answerer.clone().serve(asked)).await?);
    }
    Ok(servers)
}

/// Keeps the processors measured, so that a question about them need not wait.
async fn measure(instruments: Instruments) {
    loop {
        // The first one is only there to be compared with.
        let _first = instruments.cpu.percent_now();
        tokio::time::sleep(CPU_EVERY).await;
    }
}

/// Follows everything that decides what is watched here.
async fn follow(
    bus: Bus,
    mut roster: Roster,
    mut over: Subscription,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut config = bus.config_store().watch();
    let mut members = bus.members().watch();
    let mut connection = bus.connection();
    let wanted = Arc::new(Notify::new());
    let (answers, mut incidents) = mpsc::channel(1);
    let mut asking = Box::pin(incidents::ask(bus.clone(), Arc::clone(&wanted), answers));
    let mut look_again = interval(INCIDENTS_EVERY);
    look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What stands there already counts as a change.
    config.mark_changed();
    members.mark_changed();
    loop {
        let has_more = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = config.changed() => {
                changed?;
                let active = config.borrow_and_update().clone();
                active.is_some_and(|(revision, config)| roster.configure(revision, &config))
            }
            changed = members.changed() => {
                changed?;
                let living = members.borrow_and_update().clone();
                roster.members(&living)
            }
            // Lines may have been missed while it was away.
            changed = connection.changed() => {
                changed?;
                *connection.borrow_and_update()
            }
            _ = look_again.tick() => roster.is_firing(),
            line = over.next() => {
                let line = line.ok_or("the subscription to the ends of incidents has ended")?;
                if let Some(over) = incidents::over(&line.payload) {
                    roster.tell(&over.target, Note::Over { kind: over.kind });
                }
                false
            }
            Some(open) = incidents.recv() => {
                tell_all(&roster, &open);
                false
            }
            () = &mut asking => return Err("nobody asks for open incidents any more".into()),
        };
        if has_more {
            wanted.notify_one();
        }
    }
}

fn tell_all(roster: &Roster, open: &incidents::Open) {
    for name in roster.names() {
        let types = |by_target: &std::collections::BTreeMap<_, _>| {
            by_target.get(name).cloned().unwrap_or_default()
        };
        let (by_monitors, all) = (types(&open.by_monitors), types(&open.all));
        roster.tell(name, Note::Open { asked_at: open.asked_at, by_monitors, all });
    }
}
