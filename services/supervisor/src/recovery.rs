//! The state that a start begins with: a snapshot, or nothing.

use std::time::Duration;

use bus::Bus;
use domain::desk::{Desk, SnapshotError, SnapshotReader};
use service::{BoxError, Chain, ConfigError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    core::{
        Core,
        recovery::{Beginning, Found, LINE_MAX, LineReader, Unreadable, beginnings},
    },
    state::Log,
};

/// Why a snapshot is not used. The one before is, or the ledger from its start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it cannot be read")]
    Broker(#[source] bus::Error),
    #[error(transparent)]
    Content(Unreadable),
}

/// How often the broker is asked before a start that leaves lines of the log out: what it does
/// not give now, it may give a little later.
const TRIES: u32 = 5;
/// Wait between these tries.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns the core to fold the ledger with, behind the best snapshot.
///
/// # Errors
///
/// When the ledger has lost its beginning, and no snapshot stands for it; when the broker does not
/// tell which snapshots there are.
pub(crate) async fn begin(bus: &Bus, log: &Log) -> Result<Core, BoxError> {
    for _ in 1..TRIES {
        if let Some(core) = begin_once(bus, log, false).await? {
            return Ok(core);
        }
        sleep(AGAIN).await;
    }
    let ledger_first = bus.ledger().state().await?.first_seq;
    begin_once(bus, log, true).await?.ok_or_else(|| {
        let problem = format!(
            "the ledger begins with message {ledger_first}, and no snapshot stands for what was before"
        );
        let hint = "end all supervisors, remove the stream of the ledger, and rebuild it from a log by `selfheal restore`";
        ConfigError::new(problem, hint).into()
    })
}

/// Begins in the best way that there is. `None` when there is none, or when it would leave out
/// lines of the log only because the broker did not give a better snapshot, unless `is_last`.
async fn begin_once(bus: &Bus, log: &Log, is_last: bool) -> Result<Option<Core>, BoxError> {
    let ledger = bus.ledger().state().await?;
    let snapshots = bus.snapshots().newest_first().await?;
    let (ledger_first, ledger_last) = (ledger.first_seq, ledger.last_seq);
    let found = Found { ledger_first, ledger_last, snapshots, log_entry: log.last_entry() };
    let mut is_unsure = false;
    for way in beginnings(&found) {
        let (seq, may_gap) = match way {
            Beginning::Start => return Ok(Some(Core::new(bus.subjects().clone()))),
            Beginning::Snapshot(seq) => (seq, false),
            Beginning::WithGap(_) if is_unsure && !is_last => return Ok(None),
            Beginning::WithGap(seq) => (seq, true),
        };
        let desk = match load(bus, seq).await {
            Ok(desk) => desk,
            Err(failure) => {
                warn!(snapshot = seq, error = %Chain(&failure), "a snapshot is not used");
                is_unsure |= matches!(failure, Unusable::Broker(_));
                continue;
            }
        };
        let (in_log, covered) = (log.last_seq(), desk.n_decisions());
        if in_log < covered && !may_gap {
            continue;
        }
        if in_log < covered {
            log.leave_out(covered)?;
        }
        info!(snapshot = seq, decisions = covered, "a snapshot is taken up");
        return Ok(Some(Core::resume(bus.subjects().clone(), desk, seq)));
    }
    Ok(None)
}

async fn load(bus: &Bus, seq: u64) -> Result<Desk, Unusable> {
    let mut desk = SnapshotReader::default();
    read(bus, seq, |line| desk.line(line)).await?;
    desk.finish().map_err(|failure| Unusable::Content(Unreadable::Content(failure)))
}

/// Reads the lines of a snapshot.
///
/// # Errors
///
/// Why it cannot be used.
pub(crate) async fn read(
    bus: &Bus,
    seq: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<(), Unusable> {
    let mut parts = bus.snapshots().read(seq).await.map_err(Unusable::Broker)?;
    let mut lines = LineReader::new(LINE_MAX);
    while let Some(part) = parts.next().await.map_err(Unusable::Broker)? {
        lines.part(&part, &mut take).map_err(Unusable::Content)?;
    }
    Ok(())
}
