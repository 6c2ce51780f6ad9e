//! The life of the fixer.

use std::sync::Arc;

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, id::IncidentId, wire::WorkKind};
use service::{BoxError, Chain, ConfigError, Context, Metric};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    AllowList, Args, Progress, Tools, alive::Alive, known::KnownTargets, memory::Memory,
    orders::Orders, process::keep_bounded, turns::Turns,
};

/// What to do about a state directory of everybody's.
const HINT: &str = "take it away from others, or name another one with --state-dir";

/// Runs the fixer until it is told to stop; orders under way are carried out to their end.
///
/// # Errors
///
/// [`service::ConfigError`] when the local list is refused.
pub async fn start(ctx: Context<Args>) -> Result<(), BoxError> {
    ctx.probe.describe(&METRICS);
    let allow = AllowList::load(&ctx.args)?.with_outgoing(&ctx.outgoing);
    private::check_dir(&ctx.args.state_dir).map_err(|error| {
        let dir = ctx.args.state_dir.display();
        ConfigError::new(format!("cannot trust what lies in the state directory {dir}"), HINT)
            .because(error)
    })?;
    info!(actions = %allow, state_dir = %ctx.args.state_dir.display(), "what this fixer may do");
    if ctx.stop.run_until_cancelled(ctx.bus.wait_for_topology()).await.transpose()?.is_none() {
        return Ok(());
    }
    ctx.tasks.spawn(keep_bounded(ctx.args.state_dir.clone(), ctx.stop.clone()));
    let tools = Tools::new(allow, ctx.args.state_dir, ctx.tasks.clone(), ctx.stop.clone());
    ctx.tasks.spawn(follow(ctx.bus.clone(), tools.targets(), ctx.stop.clone()));
    let tools = Arc::new(tools);
    let hand = Hand {
        bus: ctx.bus,
        id: ctx.member_id,
        zones: ctx.zones,
        parallel: usize::from(ctx.args.parallel),
        stop: ctx.stop,
        tasks: ctx.tasks,
    };
    drop(ctx.ready);
    serve(hand, tools).await;
    Ok(())
}

/// Who takes orders, from where, and how many at once.
#[derive(Debug)]
pub struct Hand {
    /// The broker.
    pub bus: Bus,
    /// The id among the members.
    pub id: String,
    /// The zones whose orders are taken.
    pub zones: Vec<String>,
    /// Most orders at once.
    pub parallel: usize,
    /// Cancelled when no more orders are to be taken.
    pub stop: CancellationToken,
    /// Tasks that are waited for at the end.
    pub tasks: TaskTracker,
}

/// Takes orders and handles them, until told to stop.
pub async fn serve(hand: Hand, tools: Arc<Tools>) {
    let Hand { bus, id, zones, parallel, stop, tasks } = hand;
    let (progress, lines) = Progress::new(id.clone());
    tasks.spawn(publish(bus.clone(), lines));
    let mut work = bus.work().consume(WorkKind::Fix, &zones, parallel);
    let orders = Arc::new(Orders {
        writer: bus.inbox_writer(),
        bus,
        _alive: Alive::begin(&tools.state_dir, &id),
        tools,
        progress,
        by: id,
        memory: Memory::default(),
        turns: Turns::default(),
        stop: stop.clone(),
    });
    let slots = Arc::new(Semaphore::new(parallel));
    loop {
        // The slot first: what is taken must not wait here while another fixer is idle.
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, work.next().await)
        };
        let Some((slot, job)) = stop.run_until_cancelled(next).await else { return };
        let orders = Arc::clone(&orders);
        tasks.spawn(async move {
            orders.handle(job).await;
            drop(slot);
        });
    }
}

/// Keeps what is known of all targets as the configuration says, until told to stop.
async fn follow(bus: Bus, targets: KnownTargets, stop: CancellationToken) {
    let mut config = bus.config_store().watch();
    config.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(config.changed()).await {
        let Some((revision, text)) = config.borrow_and_update().clone() else { continue };
        match serde_json::from_slice::<Config>(&text) {
            Ok(config) => targets.set(&config.targets),
            Err(error) => {
                warn!(revision, %error, "configuration cannot be read, the former one stays");
            }
        }
    }
}

/// Publishes progress lines until nobody can tell any more.
async fn publish(bus: Bus, mut lines: mpsc::Receiver<(IncidentId, Bytes)>) {
    while let Some((incident, line)) = lines.recv().await {
        let subject = bus.subjects().live(&incident);
        if let Err(error) = bus.publish_core(subject, line).await {
            debug!(incident.id = %incident, error = %Chain(&error), "a progress line was not sent");
        }
    }
}

/// What a fixer counts.
pub const METRICS: [Metric; 3] = [
    Metric::counter(
        "selfheal_fixer_orders_total",
        &["outcome"],
        "Orders handled: succeeded, failed, unknown, refused, unreadable.",
    ),
    Metric::counter(
        "selfheal_fixer_attempts_total",
        &["action", "outcome"],
        "Steps carried out: ok or failed.",
    ),
    Metric::histogram("selfheal_fixer_step_seconds", &["action"], "Time of a step."),
];
