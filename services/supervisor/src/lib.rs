//! Decides: reads the inbox, writes the ledger and the log, publishes what is wanted.
//!
//! Every supervisor folds the ledger and keeps the log. The one that has the lease
//! leads ([`reign`]); the others are ready to. A leader that is not one any more is
//! refused by the ledger, forgets what it thought, and follows again: there is one
//! path from the ledger to a state, whatever happened before.

mod archive;
mod config_file;
pub mod core;
mod data_dir;
#[doc(hidden)]
pub mod edges;
mod following;
mod gauges;
mod journal;
mod lending;
mod metrics;
mod pages;
mod queries;
mod recovery;
mod reign;
mod settings;
mod state;
mod watching;
#[doc(hidden)]
pub mod withdrawal;

use std::sync::Arc;

use service::{BoxError, Context};
use tokio::sync::{RwLock, Semaphore, watch};
use tracing::info;

use crate::{
    archive::Archive,
    config_file::ConfigFile,
    data_dir::DataDir,
    following::Turn,
    journal::Journal,
    queries::About,
    reign::{End, Reign},
    state::{Log, Stored},
    watching::SharedVigil,
};

pub use crate::metrics::METRICS;
pub use settings::Args;

/// Runs until told to stop.
///
/// # Errors
///
/// When the data directory, the log or the configuration cannot be used, or the ledger
/// cannot be folded.
pub async fn start(cx: Context<Args>) -> Result<(), BoxError> {
    // A task, so that it runs on the threads that also speak with the broker.
    cx.tasks.clone().spawn(serve(cx)).await?
}

async fn serve(cx: Context<Args>) -> Result<(), BoxError> {
    cx.probe.describe(&METRICS);
    let dir = DataDir::open(&cx.args.data_dir)?;
    let journal = Journal::open(&dir.log_path(), cx.args.rotation(), cx.bus.keys())
        .map_err(|error| settings::log_refused(&dir.log_path(), error))?;
    let mut file = ConfigFile::new(cx.args.config.clone());
    let is_at_rest = file.first().await?;
    cx.bus.size_streams(cx.args.sizing());
    cx.bus.ensure_topology().await?;

    let log = Log::new(journal);
    let (caught_up, mut reader) = following::catch_up(&cx.bus, log.clone()).await?;
    let n_decisions = caught_up.core.n_stored();
    let stored = watch::Sender::new(Stored { n_resets: 0, n_decisions });
    let state = Arc::new(RwLock::new(caught_up));
    let inbox_last = watch::Sender::new(0);
    let about = About {
        member_id: cx.member_id.clone(),
        bus: cx.bus.clone(),
        inbox_last: inbox_last.subscribe(),
        stored: stored.subscribe(),
        readers: Arc::new(Semaphore::new(queries::READERS_MAX)),
    };
    // Questions are answered once all that is stored has been folded, whoever leads.
    let _servers = queries::serve(&cx.bus, &state, &about).await?;
    let _lines = lending::serve(&cx.bus, &cx.member_id, dir.log_path()).await?;
    let vigil = SharedVigil::default();
    cx.essential("watch", watching::follow(cx.bus.clone(), vigil.clone(), cx.stop.clone()));
    let log_path = dir.log_path();
    cx.tasks.spawn(gauges::watch(gauges::Sources {
        bus: cx.bus.clone(),
        state: state.clone(),
        inbox_last: inbox_last.subscribe(),
        data_dir: cx.args.data_dir.clone(),
        stop: cx.stop.clone(),
    }));
    let (found, finds) = watch::channel(None);
    let (seen, stop) = (dir.seen_config(), cx.stop.clone());
    let following = config_file::follow(file, seen, is_at_rest, state.clone(), found, stop);
    cx.tasks.spawn(following);
    let mut reign = Reign::new(&cx, dir, state.clone(), stored.clone(), vigil, finds, inbox_last);
    reign.fill_log(&cx, log_path.clone());
    let archive = Archive::beside(&log_path);
    archive.clear(log.last_seq());
    cx.tasks.spawn(archive::follow(cx.bus.clone(), archive, cx.stop.clone()));
    drop(cx.ready);
    loop {
        // Boxed, as it is large, and it is begun seldom.
        let following = following::follow(&cx.bus, &state, &stored, reader, reign.node(), &cx.stop);
        match Box::pin(following).await? {
            Turn::Stop => return Ok(()),
            Turn::Refold => {}
            Turn::Lead(lease) => match reign.run(*lease, &cx.stop).await? {
                End::Stopped => return Ok(()),
                End::Deposed => info!("following again"),
            },
        }
        // What was decided but not stored is forgotten with the old state.
        let (mut fresh, follower) = following::catch_up(&cx.bus, log.clone()).await?;
        let n_decisions = fresh.core.n_stored();
        {
            let mut state = state.write().await;
            fresh.core.inherit(&state.core);
            *state = fresh;
        }
        stored.send_modify(|it| *it = Stored { n_resets: it.n_resets + 1, n_decisions });
        reader = follower;
    }
}
