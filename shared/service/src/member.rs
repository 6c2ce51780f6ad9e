//! Being one of the living agents.

use bus::Bus;
use chrono::Utc;
use domain::wire::Member;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Chain, Latch};

/// Describes this process to the others.
pub(crate) fn describe(id: String, kind: &str, zones: Vec<String>, version: &str) -> Member {
    Member {
        id,
        kind: kind.to_owned(),
        zones,
        version: version.to_owned(),
        host: host(),
        pid: std::process::id(),
        started_at: Utc::now(),
        pulse: None,
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// Enters the members' list once a supervisor has made it, and stays until `stop`.
///
/// `latch` holds the process unready until the others can see it.
pub(crate) async fn stay(bus: Bus, member: Member, stop: CancellationToken, latch: Latch) {
    let enter = async {
        bus.wait_for_topology().await?;
        bus.members().join(member).await
    };
    match stop.run_until_cancelled(enter).await {
        None => return,
        Some(Ok(())) => debug!("the others can see us"),
        Some(Err(error)) => warn!(error = %Chain(&error), "cannot enter the list of members"),
    }
    drop(latch);
    stop.cancelled().await;
    if let Err(error) = bus.members().leave().await {
        debug!(error = %Chain(&error), "could not leave the list of members, the entry ends by itself");
    }
}
