//! Three brokers, two supervisors on hosts of their own: what is killed is replaced, and
//! nothing that was accepted is lost or doubled.

use std::time::Duration;

use bus::{
    testing::{Broker, Network, Proxy},
    topology::MEMBER_TTL,
};
use domain::wire::{AnswerStatus, Member};
use tests::{
    agents::Agent,
    cluster::{Cluster, NODES},
    eventually,
    judge::logs_agree,
    load::{Load, Sent},
    stack::directory,
    supervisor::{leader, publish},
};
use tokio::time::timeout;

/// The stream of the signs of life.
const MEMBERS: &str = "KV_selfheal_members";
/// Clients of a test.
const CLIENTS: usize = 4;
/// Events that show that all goes on.
const SOME: usize = 20;

/// A supervisor as on a host of its own: what it stores is in a directory of its own.
fn supervisor(dir: &std::path::Path, url: &str) -> Agent {
    Agent::start("supervisor", dir, url, &["--data-dir", "."])
}

#[tokio::test]
async fn kill_9_of_the_brokers_leader_loses_and_doubles_nothing() {
    let dir = directory("cluster");
    let mut cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    let (a, b) = (dir.join("a"), dir.join("b"));
    let agents = [supervisor(&a, &cluster.url()), supervisor(&b, &cluster.url())];
    leader(&bus).await;
    let load = Load::by_bus(&bus, CLIENTS);
    load.goes_on(SOME).await;
    for stream in ["SELFHEAL_INBOX", "SELFHEAL_LEDGER"] {
        let idx = cluster.leader_of(stream).await;
        cluster.node(idx).kill();
        load.goes_on(SOME).await;
        cluster.node(idx).restart().await;
        load.goes_on(SOME).await;
    }
    let sent = load.stop().await;
    logs_agree(&[&a, &b], &sent).await;
    drop(agents);
}

#[tokio::test]
async fn a_cluster_that_is_killed_whole_comes_back_with_all_that_it_has_accepted() {
    let dir = directory("blackout");
    let mut cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    let agent = supervisor(&dir, &cluster.url());
    leader(&bus).await;
    let load = Load::by_bus(&bus, CLIENTS);
    load.goes_on(SOME).await;
    for idx in 0..NODES {
        cluster.node(idx).kill();
    }
    for idx in 0..NODES {
        cluster.node(idx).restart().await;
    }
    load.goes_on(SOME).await;
    let sent = load.stop().await;
    logs_agree(&[&dir], &sent).await;
    drop(agent);
}

#[tokio::test]
async fn everything_has_three_copies_also_what_was_made_with_one() {
    let mut cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    let js = cluster.outside().await;
    let mut inbox = js.get_stream("SELFHEAL_INBOX").await.unwrap();
    let one = async_nats::jetstream::stream::Config {
        num_replicas: 1,
        ..inbox.info().await.unwrap().config.clone()
    };
    js.update_stream(one).await.unwrap();
    bus.ensure_topology().await.unwrap();
    for stream in ["SELFHEAL_INBOX", "SELFHEAL_WORK_FIX", "OBJ_selfheal_snapshots"] {
        let idx = cluster.leader_of(stream).await;
        assert!(idx < NODES);
    }
    let seq = bus.ledger().append(0, "decided".into(), &[]).await.unwrap();
    let idx = cluster.leader_of("SELFHEAL_LEDGER").await;
    cluster.node(idx).kill();
    assert_eq!(bus.ledger().last_seq().await.unwrap(), seq);
}

#[tokio::test]
async fn a_snapshot_is_whole_although_the_leader_is_killed_while_it_is_written_and_read() {
    let mut cluster = Cluster::start().await;
    let bus = cluster.bus().await;
    let line = [b'x'; 1000];
    let mut writer = bus.snapshots().create(1);
    for n in 0..2000 {
        if n == 1000 {
            let idx = cluster.leader_of("OBJ_selfheal_snapshots").await;
            cluster.node(idx).kill();
        }
        writer.write(&line).await.unwrap();
    }
    let size = writer.finish().await.unwrap();
    for idx in 0..NODES {
        cluster.node(idx).restart().await;
    }
    let mut reader = bus.snapshots().read(1).await.unwrap();
    let mut n_bytes = 0;
    while let Some(part) = reader.next().await.unwrap() {
        n_bytes += part.len();
    }
    assert_eq!((n_bytes, size), (2_000_000, 2_000_000));
}

fn member(id: &str) -> Member {
    Member {
        id: id.to_owned(),
        kind: "monitor".to_owned(),
        zones: vec!["default".to_owned()],
        version: "0.1.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        started_at: chrono::Utc::now(),
        pulse: None,
    }
}

/// Goal: while the brokers elect a leader nobody is taken for dead, though no sign of life is
/// stored for longer than a life. Method: the server that leads the members' bucket is killed,
/// twice, and then one that does not lead but keeps what others read through.
#[tokio::test]
async fn nobody_is_taken_for_dead_while_the_brokers_elect_a_leader() {
    let mut cluster = Cluster::start().await;
    let (watcher, one, two) = (cluster.bus().await, cluster.bus().await, cluster.bus().await);
    one.members().join(member("one")).await.unwrap();
    two.members().join(member("two")).await.unwrap();
    let mut living = watcher.members().watch();
    living.wait_for(|living| living.len() == 2).await.unwrap();
    let mut seen = living.clone();
    let dies = tokio::spawn(async move { seen.wait_for(|it| it.len() != 2).await.is_ok() });
    for _ in 0..2 {
        let idx = cluster.leader_of(MEMBERS).await;
        cluster.node(idx).kill();
        cluster.elects_another(MEMBERS, idx).await;
        cluster.node(idx).restart().await;
    }
    let idx = (cluster.leader_of(MEMBERS).await + 1) % NODES;
    cluster.node(idx).kill();
    assert!(timeout(MEMBER_TTL * 2, dies).await.is_err(), "somebody was taken for dead");
    // And still the dead are found.
    drop(two);
    living.wait_for(|living| living.len() == 1).await.unwrap();
}

#[tokio::test]
async fn a_cut_network_between_a_supervisor_and_the_broker_loses_and_doubles_nothing() {
    let dir = directory("cut");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let (a, b) = (dir.join("a"), dir.join("b"));
    let first = supervisor(&a, &proxy.url());
    let behind_the_proxy = leader(&bus).await;
    let second = supervisor(&b, &broker.url());
    let load = Load::by_bus(&bus, CLIENTS);
    load.goes_on(SOME).await;
    let mut sent = Sent::default();
    let slow = Network::Slow(Duration::from_millis(30));
    for (n, network) in [slow, Network::Silent, Network::Cut].into_iter().enumerate() {
        proxy.set(network);
        let name = n.to_string();
        let answer = publish(&bus, &name).await;
        assert_eq!(answer.status, AnswerStatus::IncidentOpened);
        sent.types.push(format!("trouble_{name}"));
        load.goes_on(SOME).await;
    }
    assert_ne!(leader(&bus).await, behind_the_proxy, "the one that can be reached leads");
    proxy.set(Network::Open);
    load.goes_on(SOME).await;
    let load = load.stop().await;
    sent.types.extend(load.types);
    logs_agree(&[&a, &b], &sent).await;
    drop((first, second));
}

#[tokio::test]
async fn two_supervisors_on_hosts_of_their_own_each_keep_the_whole_log() {
    let dir = directory("hosts");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let (a, b) = (dir.join("a"), dir.join("b"));
    let mut agents = [supervisor(&a, &broker.url()), supervisor(&b, &broker.url())];
    leader(&bus).await;
    let load = Load::by_bus(&bus, CLIENTS);
    for n in 0..4 {
        load.goes_on(SOME).await;
        let agent = &mut agents[n % 2];
        if n < 2 {
            assert_eq!(agent.stop().await, 0, "{}", agent.said());
        } else {
            agent.kill();
        }
        load.goes_on(SOME).await;
        agent.restart();
    }
    let sent = load.stop().await;
    logs_agree(&[&a, &b], &sent).await;

    // One that comes new, with an empty disk, has the whole log as well.
    let c = dir.join("c");
    let third = supervisor(&c, &broker.url());
    logs_agree(&[&a, &b, &c], &sent).await;
    // And each has a name of its own among the living.
    eventually("three supervisors are seen", || async {
        let living = bus.members().watch().borrow().clone();
        let n = living.values().filter(|member| member.kind == "supervisor").count();
        if n == 3 { Ok(()) } else { Err(living) }
    })
    .await;
    drop(third);
}
