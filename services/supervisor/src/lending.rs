//! Giving lines of the log to other supervisors, and asking them for those that we lack.

use std::{path::PathBuf, time::Duration};

use bus::{Bus, ServeError, Served, Server};
use bytes::Bytes;
use domain::wire::Member;
use service::Chain;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::pages::{Ask, Filling, Gap, Missing, is_removed, next_line, page};

/// How long one page may take.
const PAGE_WAIT: Duration = Duration::from_secs(10);
/// How often others are asked for what we lack: one may have come that has it.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is said that lines are missing.
const SAY_AGAIN: u32 = 20;

/// Begins to give lines of our log to other supervisors.
///
/// # Errors
///
/// When the subject cannot be subscribed to.
pub(crate) async fn serve(bus: &Bus, member: &str, log: PathBuf) -> Result<Server, bus::Error> {
    let handler = move |served: Served| {
        let log = log.clone();
        async move {
            let ask: Ask = serde_json::from_slice(&served.payload)
                .map_err(|error| ServeError::new(400, format!("not a query for log: {error}")))?;
            let read = tokio::task::spawn_blocking(move || page(&log, ask.from)).await;
            let failed =
                |error: String| ServeError::new(500, format!("cannot read the log: {error}"));
            let lines = read.map_err(|error| failed(error.to_string()))?;
            lines.map(Bytes::from).map_err(|error| failed(error.to_string()))
        }
    };
    bus.serve(subject(bus, member), member, handler).await
}

/// A subject of its own for each supervisor: not every one has every line.
fn subject(bus: &Bus, member: &str) -> String {
    bus.subjects().query(&format!("log-{member}"))
}

/// Asks other supervisors for the lines that our log lacks, until it is whole. `told` is
/// called when it becomes known that lines are missing, and when they are there.
pub(crate) async fn fill(
    bus: Bus,
    member: String,
    log: PathBuf,
    stop: CancellationToken,
    told: impl Fn(bool) + Send,
) {
    let missing = Missing::of(&log);
    let mut n_rounds = 0;
    loop {
        for gap in missing.gaps() {
            match fetch(&bus, &member, &missing, gap).await {
                Ok(true) => info!(
                    from = gap.from,
                    to = gap.to,
                    "missing lines of the log were given by another supervisor"
                ),
                Ok(false) => {}
                Err(error) => {
                    warn!(%error, from = gap.from, to = gap.to, "missing lines of the log could not be written");
                }
            }
        }
        let gaps = missing.gaps();
        let n_missing: u64 = gaps.iter().map(|it| it.to + 1 - it.from).sum();
        metrics::gauge!("selfheal_supervisor_log_missing_lines").set(as_f64(n_missing));
        match gaps.first() {
            None if 0 < n_rounds => {
                n_rounds = 0;
                told(false);
            }
            None => {}
            Some(gap) => {
                if n_rounds == 0 {
                    told(true);
                }
                if n_rounds % SAY_AGAIN == 0 {
                    warn!(
                        from = gap.from,
                        to = gap.to,
                        hint = "copy the closed log files of another supervisor or of a backup beside it and remove `log.missing`; what was decided is not lost, and healing goes on",
                        "lines are missing in the log, and no other supervisor that runs has them"
                    );
                }
                n_rounds += 1;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(ASK_AGAIN)).await.is_none() {
            return;
        }
    }
}

/// Fetches what is missing from the first supervisor that has all of it. When none has, the gap is
/// split where one goes on that has a part, and both are asked for the next time.
async fn fetch(bus: &Bus, member: &str, missing: &Missing, gap: Gap) -> std::io::Result<bool> {
    let mut living = bus.members().watch();
    let whole = living.wait_for(|it| it.contains_key(member));
    let known = match tokio::time::timeout(PAGE_WAIT, whole).await {
        Ok(Ok(known)) => known.clone(),
        Ok(Err(_)) | Err(_) => return Ok(false),
    };
    let is_other = |it: &&Member| it.kind == "supervisor" && it.id != member;
    let others: Vec<_> = known.values().filter(is_other).collect();
    // What one has removed as old another may have kept for longer.
    let whole = others.iter().map(|it| (it, false));
    let rest = others.iter().map(|it| (it, true));
    let mut parts_at = None;
    for (other, may_be_removed) in whole.chain(rest) {
        let mut filling = missing.fill(gap)?;
        let next_line = fetch_from(bus, &other.id, &mut filling, may_be_removed).await?;
        match filling.wants() {
            None => {
                filling.finish(&bus.keys())?;
                return Ok(true);
            }
            // Where it ends, or else where it begins.
            Some(next) if gap.from < next => parts_at = Some(next),
            Some(_) => parts_at = parts_at.or(next_line),
        }
    }
    if let Some(at) = parts_at {
        missing.split(gap, at)?;
    }
    Ok(false)
}

/// Fetches from one supervisor as many lines as it has. Returns its next line when it lacks the one
/// that is wanted.
async fn fetch_from(
    bus: &Bus,
    other: &str,
    filling: &mut Filling,
    may_be_removed: bool,
) -> std::io::Result<Option<u64>> {
    while let Some(from) = filling.wants() {
        let ask = serde_json::to_vec(&Ask { from })?;
        let page = match bus.request(subject(bus, other), ask.into(), PAGE_WAIT).await {
            Ok(page) => page,
            Err(failure) => {
                debug!(error = %Chain(&failure), other, "another supervisor did not give lines of its log");
                return Ok(None);
            }
        };
        if let Some(next) = next_line(&page) {
            return Ok(Some(next));
        }
        if page.is_empty() || (!may_be_removed && is_removed(&page)) {
            return Ok(None);
        }
        if let Err(error) = filling.take(&page) {
            warn!(%error, other, "what another supervisor gave are not the lines that follow");
            return Ok(None);
        }
    }
    Ok(None)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more")]
const fn as_f64(n: u64) -> f64 {
    n as f64
}
