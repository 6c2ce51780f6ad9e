//! The state that a start begins with: a snapshot, or nothing.

use bus::Bus;
use domain::desk::{Desk, SnapshotError, SnapshotReader};
use service::{BoxError, Chain, ConfigError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    core::{
        Core,
        recovery::{AGAIN, Found, LINE_MAX, LineReader, Search, Step, Unreadable, Use},
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

/// Returns the core to fold the ledger with, behind the best snapshot.
///
/// # Errors
///
/// When the ledger has lost its beginning, and no snapshot stands for it; when the broker does not
/// tell which snapshots there are, or does not give them.
pub(crate) async fn begin(bus: &Bus, log: &Log) -> Result<Core, BoxError> {
    let (mut search, mut is_first) = (Search::default(), true);
    loop {
        match search.step() {
            Step::Look => {
                if !std::mem::take(&mut is_first) {
                    sleep(AGAIN).await;
                }
                search.look(&look(bus, log).await?);
            }
            Step::Start => return Ok(Core::new(bus.subjects().clone())),
            Step::Read(seq) => {
                if let Some(core) = begin_with(bus, log, &mut search, seq).await? {
                    return Ok(core);
                }
            }
            Step::NotGiven => return Err("the broker does not give any snapshot".into()),
            Step::GiveUp => return Err(nothing_stands(bus.ledger().state().await?.first_seq)),
        }
    }
}

async fn look(bus: &Bus, log: &Log) -> Result<Found, BoxError> {
    let ledger = bus.ledger().state().await?;
    let snapshots = bus.snapshots().newest_first().await?;
    let (ledger_first, ledger_last) = (ledger.first_seq, ledger.last_seq);
    Ok(Found { ledger_first, ledger_last, snapshots, log_entry: log.last_entry() })
}

/// Begins with a snapshot; `None` when it cannot be used, or another way is better.
async fn begin_with(
    bus: &Bus,
    log: &Log,
    search: &mut Search,
    seq: u64,
) -> Result<Option<Core>, BoxError> {
    let desk = match load(bus, seq).await {
        Ok(desk) => desk,
        Err(failure) => {
            warn!(snapshot = seq, error = %Chain(&failure), "a snapshot is not used");
            let is_forged = matches!(failure, Unusable::Broker(bus::Error::NotBelieved { .. }));
            search.unreadable(matches!(failure, Unusable::Broker(_)) && !is_forged);
            return Ok(None);
        }
    };
    let decisions = desk.n_decisions();
    match search.read(decisions, log.last_seq()) {
        Use::Pass => return Ok(None),
        Use::Whole => log.has_whole(seq),
        Use::LeaveOut(up_to) => log.leave_out(up_to)?,
    }
    info!(snapshot = seq, decisions, "a snapshot is taken up");
    Ok(Some(Core::resume(bus.subjects().clone(), desk, seq)))
}

fn nothing_stands(ledger_first: u64) -> BoxError {
    let problem = format!(
        "the ledger begins with message {ledger_first}, and no snapshot stands for what was before"
    );
    let hint = "end all supervisors, remove the stream of the ledger, and rebuild it from a log by `selfheal restore`";
    ConfigError::new(problem, hint).into()
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
