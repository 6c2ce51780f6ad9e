//! What is so at this moment: looked at now and then, beside everything else.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bus::{Bus, topology::STREAMS};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    desk::{Backlog, Desk},
    event::Severity,
    view::Status,
    wire::{Member, WorkKind},
};
use metrics::gauge;
use service::Chain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::state::Shared;

/// How often the state is looked at; no longer than scrapes are apart.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks after which the broker is asked about its streams, and the platform about the disk.
const ASK_AFTER: u32 = 5;
/// Processes that the system consists of.
const KINDS: [&str; 5] = ["supervisor", "monitor", "analyzer", "fixer", "gateway"];

/// What the gauges are taken from.
pub(crate) struct Sources {
    pub(crate) bus: Bus,
    pub(crate) state: Shared,
    pub(crate) inbox_last: watch::Receiver<u64>,
    pub(crate) data_dir: PathBuf,
    pub(crate) stop: CancellationToken,
}

/// What one look has seen. Without a lead all is 0 that only the leader tells.
#[derive(Debug, Default)]
struct Look {
    leading: bool,
    position: u64,
    n_waiting_lines: usize,
    is_paused: bool,
    is_breaker_open: bool,
    open: BTreeMap<(Status, Severity), usize>,
    backlog: BTreeMap<WorkKind, Backlog>,
}

/// Looks until told to stop.
pub(crate) async fn watch(sources: Sources) {
    let mut living = sources.bus.members().watch();
    let mut n_looks = 0_u32;
    loop {
        let now = Utc::now();
        let look = look(&sources.state, now).await;
        show(&look, now);
        agents(look.leading, &living.borrow_and_update());
        let heard_of = *sources.inbox_last.borrow();
        if n_looks.is_multiple_of(ASK_AFTER) {
            disk(&sources.data_dir);
            let last = streams(&sources.bus, look.leading).await;
            lag(last.unwrap_or(heard_of).max(heard_of), look.position);
        } else if look.leading {
            lag(heard_of, look.position);
        }
        n_looks = n_looks.wrapping_add(1);
        if sources.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

async fn look(state: &Shared, now: DateTime<Utc>) -> Look {
    let state = state.read().await;
    let desk: &Desk = state.core.desk();
    let mut look = Look {
        leading: state.leading,
        position: desk.position().seq,
        n_waiting_lines: state.log.n_waiting(),
        ..Look::default()
    };
    if look.leading {
        look.is_paused = desk.is_paused();
        look.is_breaker_open = desk.is_breaker_tripped(now);
        look.open = desk.by_state().map(|(status, severity, n)| ((status, severity), n)).collect();
        look.backlog = desk.backlog();
    }
    look
}

fn show(look: &Look, now: DateTime<Utc>) {
    gauge!("selfheal_supervisor_log_waiting_lines").set(count(look.n_waiting_lines));
    gauge!("selfheal_paused").set(f64::from(u8::from(look.is_paused)));
    gauge!("selfheal_breaker_open").set(f64::from(u8::from(look.is_breaker_open)));
    for status in Status::ALL.into_iter().filter(|it| !it.is_over()) {
        for severity in Severity::ALL {
            let n = look.open.get(&(status, severity)).copied().unwrap_or(0);
            gauge!("selfheal_incidents_open",
                "status" => status.as_str(), "severity" => severity.as_str())
            .set(count(n));
        }
    }
    for kind in WorkKind::ALL {
        let backlog = look.backlog.get(&kind);
        let age = backlog.map_or(TimeDelta::zero(), |it| now - it.oldest);
        gauge!("selfheal_work_pending", "kind" => kind.as_str())
            .set(count(backlog.map_or(0, |it| it.n_pieces)));
        gauge!("selfheal_work_oldest_seconds", "kind" => kind.as_str())
            .set(age.max(TimeDelta::zero()).as_seconds_f64());
    }
}

fn agents(leading: bool, living: &BTreeMap<String, Member>) {
    for kind in KINDS {
        let n = living.values().filter(|it| leading && it.kind == kind).count();
        gauge!("selfheal_agents", "kind" => kind).set(count(n));
    }
}

fn lag(last: u64, position: u64) {
    gauge!("selfheal_supervisor_inbox_lag_messages").set(wide(last.saturating_sub(position)));
}

/// Asks how full the streams are, and returns the last message of the inbox.
async fn streams(bus: &Bus, leading: bool) -> Option<u64> {
    let mut inbox_last = None;
    for stream in STREAMS {
        let is_inbox = stream.id == bus::topology::StreamId::Inbox;
        if !leading && !is_inbox {
            continue;
        }
        match bus.stream_state(stream.id).await {
            Ok(state) => {
                if is_inbox {
                    inbox_last = Some(state.last_seq);
                }
                if leading {
                    gauge!("selfheal_stream_size_bytes", "stream" => stream.suffix)
                        .set(wide(state.bytes));
                    gauge!("selfheal_stream_limit_bytes", "stream" => stream.suffix)
                        .set(state.bytes_max.map_or(f64::INFINITY, wide));
                }
            }
            Err(failure) => {
                debug!(stream = stream.suffix, error = %Chain(&failure), "a stream does not report its size");
                return None;
            }
        }
    }
    inbox_last
}

fn disk(dir: &std::path::Path) {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let block = wide(disk.f_frsize);
            gauge!("selfheal_supervisor_disk_free_bytes").set(wide(disk.f_bavail) * block);
            gauge!("selfheal_supervisor_disk_size_bytes").set(wide(disk.f_blocks) * block);
        }
        Err(error) => debug!(%error, "the disk does not report its free space"),
    }
}

fn count(n: usize) -> f64 {
    wide(u64::try_from(n).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more")]
const fn wide(n: u64) -> f64 {
    n as f64
}
