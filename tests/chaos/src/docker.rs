//! Chaos on containers: the project of `docker-compose.yml`, with a second supervisor and more
//! hands, whose containers are killed, paused, and disconnected from their network.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use async_nats::jetstream;
use serde_json::Value;
use tests::containers::Compose;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    clients::Http,
    faults::Deeds,
    figures::Figures,
    history::{History, Line},
    judge,
    ledger::{self, Reader, Seen},
    load::{Client, Tally, Way},
    run::{Options, Outcome},
};

/// Agents that meet faults. The gateway and the broker keep their published ports, and so
/// are paused only.
const AGENTS: [&str; 5] = ["supervisor", "supervisor-standby", "monitor", "analyzer", "fixer"];
const PAUSED_ONLY: [&str; 2] = ["gateway", "nats"];
/// Targets, which the system starts again.
const TARGETS: [&str; 2] = ["db", "orders"];
const SUPERVISORS: [&str; 2] = ["supervisor", "supervisor-standby"];
/// How many there are of the hands.
const SCALES: [(&str, u32); 3] = [("monitor", 2), ("analyzer", 2), ("fixer", 2)];
/// From one fault to the next, and how long one lasts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
const SPAN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// How long it may take until all is quiet.
const QUIET_WITHIN: Duration = Duration::from_secs(180);
/// Clients.
const N_CLIENTS: u32 = 4;

/// Runs on containers.
///
/// # Errors
///
/// When there is no engine, or something could not be run at all.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<Outcome> {
    let compose = blocking(|| Compose::up_with_profiles("chaos", &SCALES, "standby"))?;
    let mut chance = Chance::new(options.seed);
    let (seen, tally, deeds) = (Seen::default(), Tally::default(), Deeds::default());
    let (stop, enough) = (CancellationToken::new(), CancellationToken::new());
    let _stopped_in_any_case = stop.clone().drop_guard();
    let reader = tokio::spawn(ledger::follow(
        reader(&compose)?,
        options.places.dir.join("ledger.jsonl"),
        seen.clone(),
        stop.clone(),
    ));
    let http = http(&compose)?;
    let clients = clients(options, &compose, &http, &mut chance, &tally, (&enough, &stop)).await?;
    tell("all containers are healthy; faults begin");
    let start = Instant::now();
    while start.elapsed() < options.span {
        tokio::time::sleep(chance.between(PAUSE.0, PAUSE.1)).await;
        fault(&compose, &mut chance, &deeds, tell).await?;
    }
    tell("faults have ended; clients finish");
    let batches = seen.batches();
    enough.cancel();
    for client in clients {
        client.await?;
    }
    tell("waiting until all is quiet");
    let settled = settle(&compose, &http, &seen).await;
    stop.cancel();
    reader.await??;
    let mut figures = Figures {
        broker: "docker",
        seed: options.seed,
        seconds: options.span.as_secs(),
        n_faults: deeds.by_name(),
        ..Figures::default()
    };
    figures.timed(&deeds.all(), &batches);
    let mut remarks = Vec::new();
    match settled {
        Ok(after) => figures.settled_ms = u64::try_from(after.as_millis()).ok(),
        Err(last) => remarks.push(format!("it did not become quiet: {last}")),
    }
    let counts = tally.counts();
    figures.counted(&counts, &seen);
    let history = History {
        accepted: counts.accepted,
        unanswered: counts.unanswered,
        logs: logs(&compose)?,
        facts: seen.facts()?,
        ..History::default()
    };
    let mut verdict = judge::judge(&history);
    // The database counts its starts: one by compose, and one for each fix at most.
    let n_starts = starts(&compose)?;
    if 1 + figures.n_fixes < n_starts {
        let what = format!("the database was started {n_starts} times");
        verdict.doubled.push(what);
    }
    figures.n_actions = n_starts.saturating_sub(1);
    figures.judged(&verdict);
    Ok(Outcome { figures, verdict, remarks })
}

fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

fn http(compose: &Compose) -> anyhow::Result<Http> {
    let token = compose.variable("SELFHEAL_API_TOKEN").map(str::to_owned);
    let gateway = blocking(|| compose.address("gateway", 8080))?;
    Http::new(vec![gateway.parse()?], token)
}

/// Starts the clients; the first of them publishes directly.
async fn clients(
    options: &Options,
    compose: &Compose,
    http: &Http,
    chance: &mut Chance,
    tally: &Tally,
    (enough, stop): (&CancellationToken, &CancellationToken),
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let every = Duration::from_secs_f64(f64::from(N_CLIENTS) / options.rate.max(0.1));
    let mut clients = Vec::new();
    for n in 0..N_CLIENTS {
        let way = if n == 0 { publisher(compose).await? } else { Way::Http(http.clone()) };
        let client = Client {
            name: format!("client-{n}"),
            first: 0,
            way,
            targets: vec!["database".to_owned(), "orders-api".to_owned()],
            chance: chance.fork(),
            every,
            tally: tally.clone(),
        };
        clients.push(tokio::spawn(client.run(enough.clone(), stop.child_token())));
    }
    Ok(clients)
}

/// Returns how the ledger is read: by the user that may.
fn reader(compose: &Compose) -> anyhow::Result<Reader> {
    let address = blocking(|| compose.address("nats", 4222))?;
    let password = compose.variable("NATS_SUPERVISOR_PASSWORD").context("no password")?;
    let url = format!("nats://supervisor:{password}@{address}");
    Ok(Reader { url, name: "selfheal-supervisor" })
}

async fn publisher(compose: &Compose) -> anyhow::Result<Way> {
    let address = blocking(|| compose.address("nats", 4222))?;
    let password = compose.variable("NATS_PUBLISHER_PASSWORD").context("no password")?;
    let options = async_nats::ConnectOptions::with_user_and_password(
        "publisher".to_owned(),
        password.to_owned(),
    );
    let options = options.custom_inbox_prefix("_INBOX_publisher").max_reconnects(None);
    Ok(Way::Nats(jetstream::new(options.connect(address).await?)))
}

/// Does one fault, and takes it back.
async fn fault(
    compose: &Compose,
    chance: &mut Chance,
    deeds: &Deeds,
    tell: fn(&str),
) -> anyhow::Result<()> {
    let drawn = chance.below(10);
    let services: &[&str] = match drawn {
        0..=1 => &TARGETS,
        2..=3 => &PAUSED_ONLY,
        _ => &AGENTS,
    };
    let service = chance.pick(services).copied().unwrap_or_default();
    let span = chance.between(SPAN.0, SPAN.1);
    let ids = blocking(|| compose.run(&["ps", "--quiet", service]))?;
    let ids: Vec<_> = ids.lines().collect();
    let Some(id) = chance.pick(&ids).copied() else { return Ok(()) };
    let name = match drawn {
        0..=1 => "target_killed",
        2..=4 => "pause",
        5..=6 => "kill",
        _ => "disconnect",
    };
    tell(&format!("{name} {service} for {} ms", span.as_millis()));
    let n = deeds.begin(name, service.to_owned());
    let docker = |args: &[&str]| blocking(|| docker(args));
    match name {
        "target_killed" => drop(docker(&["kill", id])?),
        "pause" => {
            docker(&["pause", id])?;
            tokio::time::sleep(span).await;
            docker(&["unpause", id])?;
        }
        "kill" => {
            docker(&["kill", id])?;
            tokio::time::sleep(span).await;
            docker(&["start", id])?;
        }
        _ => {
            let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}";
            let network = docker(&["inspect", "--format", format, id])?;
            let network = network.trim();
            docker(&["network", "disconnect", "--force", network, id])?;
            tokio::time::sleep(span).await;
            docker(&["network", "connect", "--alias", service, network, id])?;
        }
    }
    deeds.end(n);
    Ok(())
}

fn docker(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(args).output().context("cannot run docker")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {}: {}", args.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn logs(compose: &Compose) -> anyhow::Result<BTreeMap<String, Vec<Line>>> {
    let mut logs = BTreeMap::new();
    for service in SUPERVISORS {
        let text =
            blocking(|| compose.run(&["exec", "-T", service, "cat", "incident_logs.jsonl"]))?;
        let lines = text.lines().map(Line::read).collect::<Result<_, _>>()?;
        logs.insert(service.to_owned(), lines);
    }
    Ok(logs)
}

fn starts(compose: &Compose) -> anyhow::Result<usize> {
    let starts = &["exec", "-T", "db", "cat", "/var/lib/selfheal/starts"];
    Ok(blocking(|| compose.run(starts))?.lines().count())
}

async fn settle(compose: &Compose, http: &Http, seen: &Seen) -> Result<Duration, String> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    loop {
        ticks.tick().await;
        match look(compose, http, seen).await {
            Ok(()) => return Ok(start.elapsed()),
            Err(last) if QUIET_WITHIN < start.elapsed() => return Err(format!("{last:#}")),
            Err(_) => {}
        }
    }
}

async fn look(compose: &Compose, http: &Http, seen: &Seen) -> anyhow::Result<()> {
    let page = http.get(0, "/api/v1/incidents?open=true&limit=500").await?;
    let incidents = page.get("incidents").and_then(Value::as_array);
    for incident in incidents.into_iter().flatten() {
        let status = incident.get("status").and_then(Value::as_str).unwrap_or_default();
        if !matches!(status, "escalated" | "awaiting_approval") {
            bail!("an incident is {status}");
        }
    }
    let n_facts = seen.n_facts();
    for (service, lines) in logs(compose)? {
        if lines.len() != n_facts {
            bail!("{service} has {} lines of {n_facts}", lines.len());
        }
    }
    starts(compose)?;
    Ok(())
}
