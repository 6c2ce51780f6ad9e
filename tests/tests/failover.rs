//! How long it takes until decisions go on when the leader is killed.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::time::{Duration, Instant};

use bus::{Asked, Bus, testing::Broker};
use domain::{
    event::Event,
    wire::{Answer, AnswerStatus, Input},
};
use tests::{
    agents::Agent,
    cluster::Cluster,
    eventually,
    judge::logs_agree,
    load::Sent,
    stack::directory,
    supervisor::{leader, publish},
};

/// Kills of a usual run; `SELFHEAL_FAILOVERS` asks for more, to measure.
const KILLS: usize = 3;
/// An event that is stored is answered by whoever leads next.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Kills whoever says that it leads, and tells which of them it was.
async fn kill_the_leader(bus: &Bus, agents: &mut [Agent; 2]) -> usize {
    let leads = leader(bus).await;
    let idx = eventually("the leader is one of the two", || async {
        let living = bus.members().watch().borrow().clone();
        let member = living.get(&leads).ok_or_else(|| format!("{leads} is not in {living:?}"))?;
        let found = agents.iter().position(|it| it.pid() == Some(member.pid));
        found.ok_or_else(|| format!("{member:?}"))
    })
    .await;
    agents[idx].kill();
    idx
}

async fn is_standby(bus: &Bus, agent: &Agent) {
    eventually("the other one is ready to lead", || async {
        let living = bus.members().watch().borrow().clone();
        let found = living.values().any(|member| Some(member.pid) == agent.pid());
        if found { Ok(()) } else { Err(living) }
    })
    .await;
}

/// Kills the leader again and again, and tells how long it took each time.
async fn kills(name: &str, bus: &Bus, url: &str) {
    let dir = directory(name);
    let dirs = [dir.join("a"), dir.join("b")];
    let mut agents =
        dirs.each_ref().map(|dir| Agent::start("supervisor", dir, url, &["--data-dir", "."]));
    #[expect(clippy::disallowed_methods, reason = "tests have no flags")]
    let n_kills = std::env::var("SELFHEAL_FAILOVERS").ok().and_then(|n| n.parse().ok());
    let writer = bus.inbox_writer();
    let mut sent = Sent::default();
    let mut times = Vec::new();
    for n in 0..n_kills.unwrap_or(KILLS) {
        for agent in &agents {
            is_standby(bus, agent).await;
        }
        let before = format!("before_{n}");
        assert_eq!(publish(bus, &before).await.status, AnswerStatus::IncidentOpened);
        sent.types.push(format!("trouble_{before}"));

        let idx = kill_the_leader(bus, &mut agents).await;
        let start = Instant::now();
        let kind = format!("after_{n}");
        let event = Event::new(kind.clone(), kind.parse().unwrap(), "test");
        let asked = bus.ask::<Answer>(&writer, Input::Event(event), kind.clone(), ANSWER_WITHIN);
        let answer = asked.await.unwrap();
        times.push(start.elapsed());
        assert!(
            matches!(&answer, Asked::Answer(it) if it.status == AnswerStatus::IncidentOpened),
            "{answer:?}"
        );
        sent.types.push(kind);
        agents[idx].restart();
    }
    logs_agree(&[&dirs[0], &dirs[1]], &sent).await;
    times.sort();
    #[expect(clippy::print_stderr, reason = "a measurement")]
    {
        eprintln!(
            "{name}, from kill -9 of the leader to the next decision: median {:?}, all {times:?}",
            times[times.len() / 2]
        );
    }
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_nothing_is_lost() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    kills("failover-single", &bus, &broker.url()).await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_on_a_cluster_of_brokers_too() {
    let cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    kills("failover-cluster", &bus, &cluster.url()).await;
}
