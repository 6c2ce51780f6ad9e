//! How many files this process may have open: a connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::Chain;
use tracing::warn;

/// Files that are no connections of clients: logs, the broker, receivers, libraries.
const OTHERS: u64 = 128;

/// Connections below which a gateway is of no use.
const CONNECTIONS_MIN: usize = 8;

/// Raises the limit of this process as far as connections need it and it may be raised; returns
/// how many there may be then.
pub(crate) fn allow(connections: usize) -> usize {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let mut current = limit.current;
    if current.is_some_and(|it| it < raised) {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum })
        {
            Ok(()) => current = Some(raised),
            Err(error) => warn!(error = %Chain(&error), "cannot raise the limit of open files"),
        }
    }
    let possible = room(current, connections);
    if possible < connections {
        warn!(
            connections,
            possible,
            hint = "raise the limit of open files (LimitNOFILE, ulimit -n), or lower --connections",
            "there may be fewer connections than wanted: each is an open file"
        );
    }
    possible
}

/// Returns how many connections a limit of open files leaves room for.
fn room(files_max: Option<u64>, connections: usize) -> usize {
    let Some(files_max) = files_max else { return connections };
    let left = usize::try_from(files_max.saturating_sub(OTHERS)).unwrap_or(usize::MAX);
    connections.min(left.max(CONNECTIONS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files_max, wanted, possible) in [
            (None, 1024, 1024),
            (Some(65_536), 1024, 1024),
            (Some(1024), 1024, 896),
            (Some(64), 1024, CONNECTIONS_MIN),
        ] {
            assert_eq!(room(files_max, wanted), possible, "{files_max:?}");
        }
    }
}
