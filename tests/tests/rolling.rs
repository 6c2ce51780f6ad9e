//! Everything is restarted, one after the other, under load: nothing is lost, targets are
//! healed meanwhile, and no client gets an error that another try does not cure.
use std::{collections::BTreeSet, path::Path};

use bus::Bus;
use tests::{
    agents::Agent,
    cluster::{Cluster, NODES},
    eventually,
    judge::logs_agree,
    load::Load,
    stack::directory,
    supervisor::{leader, log},
    target::{Target, free_address},
};

/// Agents that there are two of.
const KINDS: [&str; 5] = ["supervisor", "monitor", "analyzer", "fixer", "gateway"];
/// Clients of each way.
const CLIENTS: usize = 3;
/// Events that show that all goes on.
const SOME: usize = 15;
/// Streams that must have all copies before the next broker may go.
const STREAMS: [&str; 4] =
    ["SELFHEAL_INBOX", "SELFHEAL_LEDGER", "SELFHEAL_WORK_FIX", "KV_selfheal_members"];

fn config(store: &Target) -> String {
    format!(
        "targets:
  - name: database
    {}
    checks: [{{tcp: \"{}\", every: 200ms}}]
policy:
  budget: {{per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}}
  backoff: 200ms
  soak: 500ms
",
        store.handle(),
        store.address
    )
}

/// The whole system, two of each agent.
struct Fleet {
    agents: Vec<Agent>,
    gateways: Vec<String>,
}

impl Fleet {
    fn start(dir: &Path, url: &str) -> Self {
        let state = dir.join("data/run").display().to_string();
        let config = dir.join("selfheal.yaml").display().to_string();
        let (mut agents, mut gateways) = (Vec::new(), Vec::new());
        for kind in KINDS {
            for n in 0..2 {
                let listen = free_address().to_string();
                let more: Vec<&str> = match kind {
                    "supervisor" => vec!["--data-dir", ".", "--config", &config],
                    "monitor" | "fixer" => vec!["--state-dir", &state],
                    "gateway" => vec!["--listen", &listen],
                    _ => Vec::new(),
                };
                agents.push(Agent::start(kind, &dir.join(format!("{kind}-{n}")), url, &more));
                if kind == "gateway" {
                    gateways.push(format!("http://{listen}"));
                }
            }
        }
        Self { agents, gateways }
    }

    /// Waits until all are seen among the living.
    async fn lives(&self, bus: &Bus) {
        let mut watch = bus.members().watch();
        let pids: BTreeSet<_> = self.agents.iter().filter_map(Agent::pid).collect();
        eventually("all agents live", || {
            let living: BTreeSet<_> =
                watch.borrow_and_update().values().map(|member| member.pid).collect();
            let missing: Vec<_> = pids.difference(&living).copied().collect();
            async move { if missing.is_empty() { Ok(()) } else { Err(missing) } }
        })
        .await;
    }
}

/// Kills the target and waits until it was healed and the incident is over.
async fn heals(store: &Target, dir: &Path) {
    let n_before = n_resolved(dir);
    assert!(store.kill(), "the target was not there");
    eventually("the target is healed", || async {
        let n_now = n_resolved(dir);
        if n_before < n_now && store.answers() { Ok(()) } else { Err((n_before, n_now)) }
    })
    .await;
}

fn n_resolved(dir: &Path) -> usize {
    log(dir).iter().filter(|it| it.decision == "resolved").count()
}

#[tokio::test]
async fn a_rolling_restart_of_everything_loses_nothing() {
    let dir = directory("rolling");
    let store = Target::store(&dir, &[]);
    store.start().await;
    std::fs::write(dir.join("selfheal.yaml"), config(&store)).unwrap();
    let mut cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    let mut fleet = Fleet::start(&dir, &cluster.url());
    fleet.lives(&bus).await;
    leader(&bus).await;
    let (a, b) = (dir.join("supervisor-0"), dir.join("supervisor-1"));
    let http = Load::by_http(&fleet.gateways, CLIENTS);
    let direct = Load::by_bus(&bus, CLIENTS);
    http.goes_on(SOME).await;
    heals(&store, &a).await;

    for idx in 0..fleet.agents.len() {
        let agent = &mut fleet.agents[idx];
        assert_eq!(agent.stop().await, 0, "{}", agent.said());
        http.goes_on(SOME).await;
        agent.restart();
        fleet.lives(&bus).await;
        // Every second one is the last of its kind: the whole loop is of new processes then.
        if idx % 2 == 1 {
            heals(&store, &a).await;
        }
    }
    for idx in 0..NODES {
        cluster.stop(idx).await;
        http.goes_on(SOME).await;
        direct.goes_on(SOME).await;
        cluster.node(idx).restart().await;
        for stream in STREAMS {
            cluster.leader_of(stream).await;
        }
    }
    heals(&store, &a).await;

    let mut sent = http.stop().await;
    sent.add(direct.stop().await);
    logs_agree(&[&a, &b], &sent).await;
    #[expect(clippy::print_stderr, reason = "a measurement")]
    {
        eprintln!(
            "{} accepted, {} tries again, longest {:?}",
            sent.types.len(),
            sent.n_again,
            sent.longest
        );
    }
    let attempts = store.attempts();
    let different: BTreeSet<_> = attempts.iter().collect();
    assert_eq!(attempts.len(), different.len(), "an attempt ran twice: {attempts:?}");
}
