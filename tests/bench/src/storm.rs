//! Many events of few fingerprints, and many incidents that are open at once.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::{
    Setting,
    cost::Cost,
    histogram::Histogram,
    load::{Bodies, Load, Pace},
    rounded, scaled,
    stack::{Stack, Wanted, quiet_config},
};

const EVENTS: u64 = 1_000_000;
const FINGERPRINTS: u64 = 100;
/// Numbers of open incidents at which is measured what an event costs.
const LEVELS: [u64; 4] = [100, 1_000, 10_000, 100_000];
/// Events with which the cost is measured at each level.
const PROBES: u64 = 10_000;
const CONNECTIONS: usize = 64;
/// No run takes so long; its number of events ends it.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);
/// Questions of each kind.
const QUESTIONS: u32 = 30;
const SUPERVISOR: &str = "selfheal-supervisor";

/// Measures.
///
/// # Errors
///
/// When the system does not start or does not answer.
pub async fn measure(setting: &Setting) -> anyhow::Result<Value> {
    Ok(json!({
        "few_fingerprints": few(setting).await?,
        "many_incidents": many(setting).await?,
    }))
}

fn start(setting: &Setting) -> anyhow::Result<Stack> {
    let config = quiet_config()?;
    Stack::start(setting, &Wanted { config: &config, sync: &setting.sync, dir: None })
}

fn load(stack: &Stack, bodies: Bodies, n: u64) -> Load {
    Load {
        address: stack.api,
        path: "/publish_event",
        token: None,
        connections: CONNECTIONS,
        span: SPAN,
        requests_max: n,
        pace: Pace::Closed,
        bodies,
    }
}

async fn few(setting: &Setting) -> anyhow::Result<Value> {
    let stack = start(setting)?;
    let n = scaled(EVENTS, setting.scale);
    let cost = Cost::measure(&stack, load(&stack, Bodies::repeated(FINGERPRINTS), n)).await?;
    let status = stack.get("/api/v1/status").await?;
    Ok(json!({
        "n_events": n,
        "n_fingerprints": FINGERPRINTS,
        "n_decisions": status.pointer("/system/n_decisions"),
        "load": cost.tell()?,
        "rss_mib": stack.memory(),
    }))
}

async fn many(setting: &Setting) -> anyhow::Result<Value> {
    let stack = start(setting)?;
    let mut told = Map::new();
    let mut n_open = 0;
    let mut first = None;
    let (mut supervisor, mut all) = (0.0, 0.0);
    for level in LEVELS {
        let level = scaled(level, setting.scale).max(FINGERPRINTS);
        if level <= n_open {
            continue;
        }
        let n_more = level - n_open;
        let opening = Cost::measure(&stack, load(&stack, Bodies::distinct(n_open), n_more)).await?;
        n_open = level;
        stack.until_idle().await;
        // What an event costs while nothing is added: the same ones, again and again.
        let probes = scaled(PROBES, setting.scale.max(0.1));
        let bodies = Bodies::repeated(FINGERPRINTS);
        let cost = Cost::measure(&stack, load(&stack, bodies, probes)).await?;
        supervisor = cost.of_us(SUPERVISOR);
        all = cost.all_us();
        first.get_or_insert((supervisor, all));
        let row = json!({
            "n_open": open(&stack).await?,
            "opening": opening.tell()?,
            "repeats": cost.tell()?,
            "rss_mib": stack.memory(),
        });
        told.insert(format!("open_{level}"), row);
        stack.until_idle().await;
    }
    let (first_supervisor, first_all) = first.context("no level")?;
    told.insert(
        "cost_of_most_to_first".to_owned(),
        json!({"supervisor": rounded(supervisor / first_supervisor), "all": rounded(all / first_all)}),
    );
    told.insert("list_ms".to_owned(), lists(&stack, n_open).await?);
    Ok(told.into())
}

fn total(page: &Value) -> Option<u64> {
    page.get("total")?.as_u64()
}

async fn open(stack: &Stack) -> anyhow::Result<Value> {
    let page = stack.get("/api/v1/incidents?open=true&limit=1").await?;
    Ok(total(&page).into())
}

/// Times questions through the front door, each with a connection of its own.
async fn lists(stack: &Stack, n_open: u64) -> anyhow::Result<Value> {
    let one = format!("/api/v1/incidents?q=s-{:09}", n_open / 2);
    let questions = [
        ("newest", "/api/v1/incidents?limit=50"),
        ("status_and_type", "/api/v1/incidents?status=escalated&type=service_down&limit=50"),
        ("text_of_one", one.as_str()),
        ("text_of_none", "/api/v1/incidents?q=nobody"),
    ];
    let mut told = Map::new();
    for (name, path) in questions {
        let mut took = Histogram::default();
        let mut n_found = None;
        for _ in 0..QUESTIONS {
            let begun = Instant::now();
            let page = stack.get(path).await?;
            took.record(begun.elapsed());
            n_found = total(&page);
        }
        let mut summary = took.summary();
        if let Some(summary) = summary.as_object_mut() {
            summary.insert("n_found".to_owned(), json!(n_found));
        }
        told.insert(name.to_owned(), summary);
    }
    Ok(told.into())
}
