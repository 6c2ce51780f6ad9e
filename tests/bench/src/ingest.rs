//! Events a second through the front door, beside what the machine can do without us.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::{
    Setting,
    cost::{Cost, tell},
    float, floor,
    load::{Bodies, Load, Pace},
    proc, rounded,
    stack::{Stack, Wanted, quiet_config},
};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const MANY: usize = 64;
/// Fingerprints of the repeated events.
const N_FINGERPRINTS: u64 = 100;
/// Alerts of one group.
const GROUP: u64 = 100;
/// Groups of one run: the system has to decide all of it before the next.
const GROUPS_MAX: u64 = 1000;
/// Connections that send groups; a cluster of Alertmanagers has a few.
const GROUP_CONNECTIONS: [usize; 3] = [1, 4, 16];
/// Room for the requests of one run in the numbers of services.
const STRIDE: u64 = 10_000_000;
/// Messages in flight of a publisher that pipelines.
const PIPELINED: usize = 256;
/// Every server gets warm before it is measured.
const WARM_UP: Duration = Duration::from_millis(700);

/// Measures.
///
/// # Errors
///
/// When the system does not start or does not answer.
pub async fn measure(setting: &Setting) -> anyhow::Result<Value> {
    let bare = bare(setting).await?;
    let stack = start(setting, "always")?;
    let one = floor::broker(&stack, 1, setting.span).await?;
    let pipelined = floor::broker(&stack, PIPELINED, setting.span).await?;
    let distinct = series(setting, &stack, Bodies::distinct).await?;
    let half = distinct.best / 2.0;
    let at_half = paced(setting, &stack, half).await?;
    let direct_bodies = Bodies::distinct(90 * STRIDE);
    let direct_one = floor::direct(&stack, &direct_bodies, 1, setting.span).await?;
    let direct_bodies = Bodies::distinct(91 * STRIDE);
    let direct = floor::direct(&stack, &direct_bodies, PIPELINED, setting.span).await?;
    stack.until_idle().await;
    drop(stack);
    let stack = start(setting, "always")?;
    let repeated = series(setting, &stack, |_| Bodies::repeated(N_FINGERPRINTS)).await?;
    drop(stack);
    let stack = start(setting, "always")?;
    let groups = groups(setting, &stack).await?;
    drop(stack);
    let of = |it: &Series| it.at_many;
    Ok(json!({
        "bare_http": bare.rows,
        "broker": {"one_at_a_time_per_s": rounded(one), "pipelined_per_s": rounded(pipelined)},
        "distinct": distinct.rows,
        "distinct_at_half_rate": at_half,
        "repeated": repeated.rows,
        "groups_of_100": groups.rows,
        "direct_nats": {"one_at_a_time_per_s": rounded(direct_one), "pipelined_per_s": rounded(direct)},
        "at_64": {
            "percent_of_bare_http": rounded(100.0 * of(&distinct) / of(&bare)),
            "times_one_synced_publish": rounded(of(&distinct) / one),
            "repeated_to_distinct": rounded(of(&repeated) / of(&distinct)),
            "best_alerts_in_groups_to_distinct": rounded(groups.best / of(&distinct)),
        },
    }))
}

/// Measures only what the gateway takes at 64 connections, for profilers.
///
/// # Errors
///
/// As [`measure`].
pub async fn profile(setting: &Setting) -> anyhow::Result<Value> {
    let stack = start(setting, &setting.sync)?;
    let distinct = row(setting, &stack, MANY, Bodies::distinct(0)).await?;
    stack.until_idle().await;
    let repeated = row(setting, &stack, MANY, Bodies::repeated(N_FINGERPRINTS)).await?;
    Ok(json!({"distinct": distinct.1, "repeated": repeated.1}))
}

struct Series {
    rows: Value,
    best: f64,
    at_many: f64,
}

/// Starts a system that has one target, which is well and stays so.
fn start(setting: &Setting, sync: &str) -> anyhow::Result<Stack> {
    let config = quiet_config()?;
    let wanted = Wanted { config: &config, sync, dir: None };
    Stack::start(setting, &wanted)
}

async fn series(
    setting: &Setting,
    stack: &Stack,
    bodies: impl Fn(u64) -> Bodies,
) -> anyhow::Result<Series> {
    let mut rows = Map::new();
    let (mut best, mut at_many) = (0.0_f64, 0.0);
    for (idx, connections) in (1_u64..).zip(CONNECTIONS) {
        let (per_s, told) = row(setting, stack, connections, bodies(idx * STRIDE)).await?;
        best = best.max(per_s);
        if connections == MANY {
            at_many = per_s;
        }
        rows.insert(connections.to_string(), told);
        stack.until_idle().await;
    }
    Ok(Series { rows: rows.into(), best, at_many })
}

/// Groups of alerts through the door of Alertmanager, which is answered when the broker has
/// all of them.
async fn groups(setting: &Setting, stack: &Stack) -> anyhow::Result<Series> {
    let mut rows = Map::new();
    let (mut best, mut last) = (0.0_f64, 0.0);
    for (idx, connections) in (1_u64..).zip(GROUP_CONNECTIONS) {
        let bodies = Bodies::groups(idx * STRIDE, GROUP);
        let mut load = closed(setting, stack.api, connections, bodies);
        (load.path, load.requests_max) = ("/integrations/alertmanager", GROUPS_MAX);
        load.token = Some(stack.token.clone());
        let outcome = load.run().await?;
        last = outcome.per_s() * float(GROUP);
        best = best.max(last);
        let mut told = tell(&outcome)?;
        if let Some(told) = told.as_object_mut() {
            told.insert("alerts_per_s".to_owned(), json!(rounded(last)));
        }
        rows.insert(connections.to_string(), told);
        stack.until_idle().await;
    }
    Ok(Series { rows: rows.into(), best, at_many: last })
}

async fn row(
    setting: &Setting,
    stack: &Stack,
    connections: usize,
    bodies: Bodies,
) -> anyhow::Result<(f64, Value)> {
    let load = closed(setting, stack.api, connections, bodies);
    let cost = Cost::measure(stack, load).await?;
    Ok((cost.outcome.per_s(), cost.tell()?))
}

async fn paced(setting: &Setting, stack: &Stack, per_s: f64) -> anyhow::Result<Value> {
    let mut load = closed(setting, stack.api, MANY, Bodies::distinct(50 * STRIDE));
    load.pace = Pace::Open { per_s };
    let outcome = load.run().await?;
    stack.until_idle().await;
    tell(&outcome)
}

fn closed(setting: &Setting, address: SocketAddr, connections: usize, bodies: Bodies) -> Load {
    Load {
        address,
        path: "/publish_event",
        token: None,
        connections,
        span: setting.span,
        requests_max: STRIDE,
        pace: Pace::Closed,
        bodies,
    }
}

async fn bare(setting: &Setting) -> anyhow::Result<Series> {
    let (mut child, input, address) = bare_process()?;
    let mut rows = Map::new();
    let mut at_many = 0.0;
    let mut warm = closed(setting, address, MANY, Bodies::distinct(0));
    warm.span = WARM_UP;
    warm.run().await?;
    for connections in CONNECTIONS {
        let before = proc::process(child.id());
        let load = closed(setting, address, connections, Bodies::distinct(0));
        let outcome = load.run().await?;
        let after = proc::process(child.id());
        let mut told = tell(&outcome)?;
        if let (Some(before), Some(after)) = (before, after) {
            let us = (after.cpu_s - before.cpu_s) * 1e6 / float(outcome.latencies.n()).max(1.0);
            if let Some(told) = told.as_object_mut() {
                told.insert("cpu_us_per_event".to_owned(), json!({"server": rounded(us)}));
            }
        }
        rows.insert(connections.to_string(), told);
        at_many = outcome.per_s();
    }
    drop(input);
    child.wait().context("cannot wait for the bare server")?;
    Ok(Series { rows: rows.into(), best: at_many, at_many })
}

fn bare_process() -> anyhow::Result<(Child, ChildStdin, SocketAddr)> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .arg("bare-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the bare server")?;
    let input = child.stdin.take().context("no input")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let address = line.trim().parse().context("the bare server tells no address")?;
    Ok((child, input, address))
}
