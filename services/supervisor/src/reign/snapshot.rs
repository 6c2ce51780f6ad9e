//! Storing snapshots, and letting the broker forget what they stand for.

use std::sync::Arc;

use bus::{Bus, InboxWriter};
use domain::{
    desk::Snapshot,
    event::Status,
    wire::{Envelope, Input, InputKind},
};
use service::{BoxError, Chain};
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, error, info, warn};

use super::{Reign, ourselves::our_event};
use crate::{
    archive::Archive,
    core::{Fill, Forgettable},
    state::Shared,
};

/// Stores snapshots, and forgets what is behind them.
#[derive(Clone, Debug)]
struct Archivist {
    bus: Bus,
    state: Shared,
    writer: InboxWriter,
    member_id: String,
    archive: Archive,
    shortening: Arc<Mutex<()>>,
}

impl Reign {
    fn archivist(&self) -> Archivist {
        Archivist {
            bus: self.bus.clone(),
            state: self.state.clone(),
            writer: self.writer.clone(),
            member_id: self.member_id.clone(),
            archive: Archive::beside(&self.dir.log_path()),
            shortening: Arc::clone(&self.shortening),
        }
    }

    /// Stores a snapshot beside everything else.
    pub(super) fn store_snapshot(&self, seq: u64, snapshot: Snapshot) {
        let archivist = self.archivist();
        self.tasks.spawn(async move { archivist.store(seq, snapshot).await });
    }

    /// Shortens a ledger that is nearly full, before anything is decided: what is stored is the
    /// whole state then.
    pub(super) async fn make_room(&self) {
        let archivist = self.archivist();
        archivist.look_at_ledger().await;
        let snapshot = {
            let mut state = self.state.write().await;
            let is_pressed = state.core.snapshots().is_pressed();
            if is_pressed { state.core.snapshot_for_room() } else { None }
        };
        if let Some((seq, snapshot)) = snapshot {
            warn!(snapshot = seq, "the ledger is nearly full, it is shortened first");
            archivist.store(seq, snapshot).await;
        }
    }

    /// Forgets what could not be forgotten before, such as when the log has caught up.
    pub(super) fn shorten_ledger(&self) {
        let archivist = self.archivist();
        self.tasks.spawn(async move {
            archivist.look_at_ledger().await;
            if archivist.state.read().await.core.snapshots().is_pressed() {
                archivist.forget().await;
            }
        });
    }

    /// Learns which snapshots former leaders have stored.
    pub(super) async fn find_snapshots(&self) {
        self.archivist().find().await;
    }
}

impl Archivist {
    /// Learns which snapshots there are.
    async fn find(&self) {
        let found = async {
            let snapshots = self.bus.snapshots();
            let seqs = snapshots.newest_first().await?;
            let size = match seqs.first() {
                Some(newest) => snapshots.read(*newest).await?.size(),
                None => 0,
            };
            Ok::<_, bus::Error>((seqs, size))
        };
        match found.await {
            Ok((seqs, size)) => {
                let core = &mut self.state.write().await.core;
                let ledger_seq = core.ledger_seq();
                core.snapshots_mut().found(seqs, size, ledger_seq);
            }
            Err(failure) => debug!(error = %Chain(&failure), "the snapshots cannot be listed"),
        }
    }

    /// Stores a snapshot, reads it back, and forgets what it stands for.
    async fn store(&self, seq: u64, snapshot: Snapshot) {
        let started = Instant::now();
        match self.write(seq, snapshot).await {
            Ok(bytes) => {
                info!(snapshot = seq, bytes, took = ?started.elapsed(), "a snapshot is stored");
                metrics::gauge!("selfheal_supervisor_snapshot_bytes").set(as_f64(bytes));
                metrics::counter!("selfheal_supervisor_snapshots_total", "result" => "stored")
                    .increment(1);
                self.state.write().await.core.snapshots_mut().stored(seq, bytes);
                self.forget().await;
            }
            Err(failure) => {
                warn!(snapshot = seq, error = %Chain(&*failure), "a snapshot could not be stored, tried again when the ledger has grown");
                metrics::counter!("selfheal_supervisor_snapshots_total", "result" => "failed")
                    .increment(1);
                self.state.write().await.core.snapshots_mut().failed();
            }
        }
    }

    /// Writes a snapshot line by line, so that there is never more than one part in memory, and
    /// reads it back, with a copy beside our log.
    async fn write(&self, seq: u64, snapshot: Snapshot) -> Result<u64, BoxError> {
        let mut writer = self.bus.snapshots().create(seq);
        for line in snapshot {
            writer.write(&line?).await?;
            writer.write(b"\n").await?;
        }
        let bytes = writer.finish().await?;
        self.archive.keep(&self.bus, seq).await?;
        Ok(bytes)
    }

    /// Learns how full the ledger is.
    async fn look_at_ledger(&self) {
        match self.bus.ledger().state().await {
            Ok(state) => {
                let fill = Fill {
                    first_seq: state.first_seq,
                    last_seq: state.last_seq,
                    bytes: state.bytes,
                    bytes_max: state.bytes_max,
                };
                self.state.write().await.core.snapshots_mut().filled(fill);
            }
            Err(failure) => debug!(error = %Chain(&failure), "the ledger cannot be inspected"),
        }
    }

    /// Forgets the ledger behind snapshots, and then those that nothing is made from any more: who
    /// starts in between still finds where to begin.
    async fn forget(&self) {
        // One after the other: what the first forgets may be enough for the second.
        let _shortening = self.shortening.lock().await;
        self.look_at_ledger().await;
        // Those of former leaders may not have been told when this one began.
        self.find().await;
        let (logged, forgettable) = {
            let state = self.state.read().await;
            let logged = state.log.whole_entry();
            (logged, state.core.snapshots().ledger_forgettable(logged))
        };
        if let Some(Forgettable { up_to, unlogged_after }) = forgettable {
            if let Err(failure) = self.bus.ledger().purge_to(up_to).await {
                warn!(error = %Chain(&failure), "the ledger could not be shortened");
                return;
            }
            self.state.write().await.core.snapshots_mut().forgotten(up_to);
            if let Some(after) = unlogged_after {
                self.tell_unlogged(after, up_to).await;
            }
        }
        let old = self.state.write().await.core.snapshots_mut().take_old(logged);
        if let Err(failure) = self.bus.snapshots().delete(&old).await {
            warn!(error = %Chain(&failure), "old snapshots could not be deleted");
        }
    }

    /// Says that the ledger has forgotten what our log has no lines for.
    async fn tell_unlogged(&self, after: u64, up_to: u64) {
        error!(
            after,
            up_to,
            hint = "the log's disk takes no lines: free some space; give the ledger more room with --ledger-max-mib",
            "the ledger is full and was shortened, though the log lacks the lines"
        );
        metrics::counter!("selfheal_supervisor_ledger_unlogged_total").increment(1);
        let (what, key) = ("ledger_shortened_unlogged", "ledger_shortened_unlogged".to_owned());
        let event = our_event(what, key, Status::Firing, &self.member_id);
        let envelope = Envelope::new(event.id.clone(), Input::Event(event));
        if let Err(failure) = self.writer.submit(InputKind::Event, envelope).await {
            debug!(error = %Chain(&failure), "an input of our own was not accepted");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
