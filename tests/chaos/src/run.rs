//! One run: start, load and faults, settle, judge.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use async_nats::jetstream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Places,
    chance::Chance,
    faults::{self, Deeds},
    figures::Figures,
    gather,
    judge::{self, Verdict},
    ledger::{self, Reader, Seen},
    load::{Client, Tally, Way},
    person, settle,
    world::World,
};

/// How long it may take until everything runs and all targets were started.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long clients may try after the last fault.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// Clients by HTTP, and direct publishers.
const N_HTTP: usize = 4;
const N_NATS: usize = 2;

/// What a run is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of all chance in it.
    pub seed: u64,
    /// How long faults are injected.
    pub span: Duration,
    /// Nodes of the broker: 1 or 3.
    pub n_nodes: usize,
    /// Events a second, about.
    pub rate: f64,
    /// The broker's program.
    pub server: PathBuf,
    /// This program, which is also that of the targets.
    pub program: PathBuf,
    /// Directories of the run, and of our own programs.
    pub places: Places,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In figures.
    pub figures: Figures,
    /// In words.
    pub verdict: Verdict,
    /// What else a reader should see: ends that nobody caused, what was not quiet.
    pub remarks: Vec<String>,
}

/// What runs beside the faults.
struct Beside {
    clients: Vec<JoinHandle<()>>,
    tally: Tally,
    seen: Seen,
    reader: JoinHandle<anyhow::Result<()>>,
    person: JoinHandle<()>,
    /// Ends the clients.
    enough: CancellationToken,
    /// Ends even their tries.
    give_up: CancellationToken,
    /// Ends all else.
    stop: CancellationToken,
}

/// Runs.
///
/// # Errors
///
/// When something could not be run at all: nothing was judged then.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<Outcome> {
    let mut chance = Chance::new(options.seed);
    let Options { places, server, program, .. } = options;
    let world = World::start(places, server, program, options.n_nodes).await?;
    let stop = CancellationToken::new();
    let _stopped_in_any_case = stop.clone().drop_guard();
    let keeper = tokio::spawn(Arc::clone(&world).look_after(stop.clone()));
    let beside = begin(options, &world, &mut chance, stop.clone()).await?;
    until_ready(&world).await?;
    tell("everything runs, and all targets were started; faults begin");

    let deeds = Deeds::default();
    let over = CancellationToken::new();
    let breaking =
        faults::break_targets(Arc::clone(&world), chance.fork(), deeds.clone(), over.clone());
    let injecting = faults::inject(Arc::clone(&world), chance, deeds.clone(), over.clone(), tell);
    let timer = async {
        tokio::time::sleep(options.span).await;
        over.cancel();
        Ok(())
    };
    tokio::try_join!(breaking, injecting, timer)?;
    world.restore()?;
    tell("faults have ended; clients finish");
    let batches = beside.seen.batches();
    beside.finish().await?;
    tell("waiting until all is quiet");
    let settled = settle::settle(&world, &beside.seen).await;
    let (logs, facts) = gather::logs(&world, &beside.seen).await?;
    stop.cancel();
    beside.person.await?;
    beside.reader.await??;
    keeper.await??;

    let mut figures = Figures {
        broker: if options.n_nodes == 1 { "single" } else { "cluster" },
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
    for kept in world.kept() {
        let (n, odd) = kept.odd();
        figures.n_odd_ends += n;
        remarks.extend(odd);
    }
    let counts = beside.tally.counts();
    figures.counted(&counts, &beside.seen);
    let history = gather::history(&world, logs, facts, counts)?;
    let records = history.targets.values().flatten();
    figures.n_actions = records.filter(|it| it.fix.is_some() && it.is_action()).count();
    let verdict = judge::judge(&history);
    figures.judged(&verdict);
    if !figures.is_good() {
        gather::keep(&world)?;
    }
    Ok(Outcome { figures, verdict, remarks })
}

async fn begin(
    options: &Options,
    world: &Arc<World>,
    chance: &mut Chance,
    stop: CancellationToken,
) -> anyhow::Result<Beside> {
    let url = world.brokers.url();
    let (seen, tally) = (Seen::default(), Tally::default());
    let (enough, give_up) = (CancellationToken::new(), stop.child_token());
    let reader = Reader { url: url.clone(), name: "chaos-judge" };
    let dump = options.places.dir.join("ledger.jsonl");
    let reader = tokio::spawn(ledger::follow(reader, dump, seen.clone(), stop.clone()));
    let names: Vec<_> = world.ground.targets.iter().map(|it| it.name.clone()).collect();
    let on_call = person::be_on_call(world.http.clone(), names.clone(), stop.clone());
    let person = tokio::spawn(on_call);
    let mut clients = Vec::new();
    for n in 0..N_HTTP + N_NATS {
        let way = if n < N_HTTP {
            Way::Http(world.http.clone())
        } else {
            let servers: Vec<_> = url.split(',').map(str::to_owned).collect();
            let options = async_nats::ConnectOptions::new().name("chaos-publisher");
            let client = options.max_reconnects(None).connect(servers).await;
            Way::Nats(jetstream::new(client.context("cannot reach the broker")?))
        };
        let every = Duration::from_secs_f64(1.0 / options.rate.max(0.1));
        let client = Client {
            name: format!("client-{n}"),
            first: n,
            way,
            targets: names.clone(),
            chance: chance.fork(),
            every: every * u32::try_from(N_HTTP + N_NATS).unwrap_or(1),
            tally: tally.clone(),
        };
        clients.push(tokio::spawn(client.run(enough.clone(), give_up.clone())));
    }
    Ok(Beside { clients, tally, seen, reader, person, enough, give_up, stop })
}

impl Beside {
    /// Lets the clients finish, and waits for them.
    async fn finish(&self) -> anyhow::Result<()> {
        self.enough.cancel();
        let start = Instant::now();
        while self.clients.iter().any(|it| !it.is_finished()) {
            if FINISH_WITHIN < start.elapsed() {
                self.give_up.cancel();
            }
            if self.stop.is_cancelled() {
                bail!("the run was stopped");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Waits until a supervisor leads and all targets are well.
///
/// # Errors
///
/// When it does not come to that in time.
pub async fn until_ready(world: &World) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let leads = world.http.leader().await.is_some();
        let sick = world.ground.sick();
        if leads && sick.is_empty() {
            return Ok(());
        }
        if READY_WITHIN < start.elapsed() {
            bail!("not ready in time: a supervisor leads: {leads}; sick: {}", sick.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
