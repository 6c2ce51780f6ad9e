//! From an accepted event to the first instruction of the action.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::jetstream;
use bus::roles::Role;
use domain::view::LogLine;
use futures_util::StreamExt as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::{
    Setting,
    histogram::Histogram,
    load::{Bodies, Load, Pace},
    stack::{Stack, Wanted, directory, eventually, well},
};

/// Events of one measurement, for each run that was asked for.
const PER_RUN: u32 = 10;
/// Events whose times are not counted: code and caches get warm.
const WARM_UP: u32 = 10;
/// Other events a second, in the second part.
const BESIDE_PER_S: f64 = 500.0;
/// How long the other events go on beside: longer than the measurement.
const BESIDE_LIMIT: Duration = Duration::from_secs(600);
const ACTION_LIMIT: Duration = Duration::from_secs(30);
/// The event that the runbook cures.
const EVENT: &str = "react_probe";

/// Measures with and without the disk's sync, idle and under load.
///
/// # Errors
///
/// When the system does not start, or an action does not come.
pub async fn measure(setting: &Setting) -> anyhow::Result<Value> {
    let mut told = serde_json::Map::new();
    for (name, sync) in [("synced", "always"), ("without_sync", "2m")] {
        let n = setting.runs * PER_RUN;
        let marks = directory()?;
        let stack = start(setting, sync, &marks, 2 * (n + WARM_UP))?;
        let mut publisher = Publisher::connect(&stack, &marks).await?;
        let idle = publisher.series(0..n + WARM_UP).await?;
        told.insert(format!("{name}_idle"), idle);
        let beside = Load {
            address: stack.api,
            path: "/publish_event",
            token: None,
            connections: 64,
            span: BESIDE_LIMIT,
            requests_max: u64::MAX,
            pace: Pace::Open { per_s: BESIDE_PER_S },
            bodies: Bodies::distinct(0),
        };
        let busy = tokio::select! {
            busy = publisher.series(n + WARM_UP..2 * (n + WARM_UP)) => busy?,
            ended = beside.run() => {
                ended.context("the load beside ended")?;
                anyhow::bail!("the load ended before the measurement");
            }
        };
        told.insert(format!("{name}_at_500_events_per_s"), busy);
        drop(stack);
        std::fs::remove_dir_all(&marks).context("cannot remove the marks")?;
    }
    Ok(told.into())
}

/// The action: writes the time into a file named after the target. The first thing that
/// the program does, before it looks at anything else.
///
/// # Errors
///
/// When the file cannot be written.
pub fn mark(now_ns: u128, dir: &Path, target: &str) -> anyhow::Result<()> {
    let unfinished = dir.join(format!(".{target}"));
    std::fs::write(&unfinished, now_ns.to_string()).context("cannot write the mark")?;
    std::fs::rename(unfinished, dir.join(target)).context("cannot place the mark")
}

/// Returns nanoseconds of a clock that all processes share and nobody sets.
#[must_use]
pub fn now_ns() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    let whole = u128::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000;
    whole + u128::try_from(now.tv_nsec).unwrap_or(0)
}

fn start(setting: &Setting, sync: &str, marks: &Path, n_targets: u32) -> anyhow::Result<Stack> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let check = json!({"tcp": well()?, "every": "1h"});
    let targets: Vec<Value> =
        (0..n_targets).map(|n| json!({"name": target(n), "checks": [check]})).collect();
    let config = json!({
        "targets": targets,
        "runbooks": [{
            "name": "mark",
            "title": "Write down the time",
            "when": {"events": [EVENT]},
            "risk": "low",
            "steps": [{"action": "command.run", "command": [program, "mark", marks, "{target}"]}],
        }],
        "policy": {
            "autonomy": "auto",
            "soak": "50ms",
            "budget": {
                "per_target": "100000/h",
                "per_runbook": "100000/h",
                "fleet": "100000/h",
                "blast_radius": {"percent": 100, "count": 100_000},
            },
            "storm": {"percent": 100, "count": 100_000},
        },
    });
    let config = config.to_string();
    let wanted = Wanted { config: &config, sync, dir: None };
    Stack::start(setting, &wanted)
}

fn target(n: u32) -> String {
    format!("t-{n:06}")
}

/// Sends events as a foreign publisher does, and hears when the broker has them.
struct Publisher {
    js: jetstream::Context,
    /// Incidents that are over.
    over: async_nats::Subscriber,
    marks: PathBuf,
}

impl Publisher {
    async fn connect(stack: &Stack, marks: &Path) -> anyhow::Result<Self> {
        // Who only publishes hears nothing of ours: that is a monitor's to hear.
        let over = stack.nats(Role::Monitor).await?.subscribe("selfheal.over").await?;
        let client = stack.nats(Role::Publisher).await?;
        Ok(Self { js: jetstream::new(client), over, marks: marks.to_owned() })
    }

    async fn series(&mut self, numbers: std::ops::Range<u32>) -> anyhow::Result<Value> {
        let (mut accepted, mut sent) = (Histogram::default(), Histogram::default());
        let mut stages: BTreeMap<&str, Histogram> = BTreeMap::new();
        let first = numbers.start;
        for number in numbers {
            let times = self.one(number).await.with_context(|| target(number))?;
            if WARM_UP <= number - first {
                accepted.record(between(times.accepted_ns, times.acted_ns));
                sent.record(between(times.sent_ns, times.acted_ns));
                let stored = between(times.sent_ns, times.accepted_ns);
                stages.entry("sent_to_accepted").or_default().record(stored);
            }
        }
        let stages: serde_json::Map<String, Value> =
            stages.iter().map(|(name, it)| ((*name).to_owned(), it.summary())).collect();
        Ok(json!({
            "unit": "ms",
            "accepted_to_action": accepted.summary(),
            "sent_to_action": sent.summary(),
            "of_it": stages,
        }))
    }

    async fn one(&mut self, number: u32) -> anyhow::Result<Times> {
        let target = target(number);
        let body = json!({"type": EVENT, "target": target, "payload": {"n": number}}).to_string();
        let sent_ns = now_ns();
        let acked = self.js.publish(format!("selfheal.event.{EVENT}"), body.into()).await?;
        acked.await.context("the event was not accepted")?;
        let accepted_ns = now_ns();
        let file = self.marks.join(&target);
        let acted_ns = eventually("the action has begun", ACTION_LIMIT, async || {
            std::fs::read_to_string(&file).ok()?.parse().ok()
        })
        .await?;
        tokio::time::timeout(ACTION_LIMIT, self.until_over(&target))
            .await
            .context("its incident did not end")??;
        Ok(Times { sent_ns, accepted_ns, acted_ns })
    }

    /// Waits until the incident of a target is over, so that the next one finds nobody at work.
    async fn until_over(&mut self, target: &str) -> anyhow::Result<()> {
        loop {
            let message = self.over.next().await.context("the broker has gone")?;
            let line: LogLine = serde_json::from_slice(&message.payload)?;
            if line.target.as_deref() == Some(target) {
                return Ok(());
            }
        }
    }
}

struct Times {
    sent_ns: u128,
    accepted_ns: u128,
    acted_ns: u128,
}

/// An action that came before we heard of the acknowledgement took no time at all.
fn between(from_ns: u128, to_ns: u128) -> Duration {
    let ns = to_ns.saturating_sub(from_ns);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}
