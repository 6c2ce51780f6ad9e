//! Storing snapshots, and letting the broker forget what they stand for.

use bus::Bus;
use domain::desk::Snapshot;
use service::{BoxError, Chain};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Reign;
use crate::{core::SNAPSHOTS_KEPT, state::Shared};

impl Reign {
    /// Stores a snapshot beside everything else.
    pub(super) fn store_snapshot(&self, seq: u64, snapshot: Snapshot) {
        let (bus, state) = (self.bus.clone(), self.state.clone());
        self.tasks.spawn(async move {
            let started = Instant::now();
            match write(&bus, seq, snapshot).await {
                Ok(bytes) => {
                    info!(snapshot = seq, bytes, took = ?started.elapsed(), "a snapshot is stored");
                    metrics::gauge!("selfheal_supervisor_snapshot_bytes").set(as_f64(bytes));
                    metrics::counter!("selfheal_supervisor_snapshots_total", "result" => "stored")
                        .increment(1);
                    state.write().await.core.snapshots_mut().stored(seq, bytes);
                    forget(&bus, &state).await;
                }
                Err(failure) => {
                    warn!(snapshot = seq, error = %Chain(&*failure), "a snapshot could not be stored, tried again when the ledger has grown");
                    metrics::counter!("selfheal_supervisor_snapshots_total", "result" => "failed")
                        .increment(1);
                    state.write().await.core.snapshots_mut().failed();
                }
            }
        });
    }

    /// Learns which snapshots former leaders have stored.
    pub(super) async fn find_snapshots(&self) {
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
}

/// Writes a snapshot line by line: there is never more than one part in memory.
async fn write(bus: &Bus, seq: u64, snapshot: Snapshot) -> Result<u64, BoxError> {
    let mut writer = bus.snapshots().create(seq);
    for line in snapshot {
        writer.write(&line?).await?;
        writer.write(b"\n").await?;
    }
    Ok(writer.finish().await?)
}

/// Deletes old snapshots, and the ledger behind those that are kept.
async fn forget(bus: &Bus, state: &Shared) {
    if let Err(failure) = bus.snapshots().keep_newest(SNAPSHOTS_KEPT).await {
        warn!(error = %Chain(&failure), "old snapshots could not be deleted");
    }
    let forgettable = state.read().await.core.snapshots().ledger_forgettable();
    if let Some(up_to) = forgettable
        && let Err(failure) = bus.ledger().purge_to(up_to).await
    {
        warn!(error = %Chain(&failure), "the ledger could not be shortened");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
