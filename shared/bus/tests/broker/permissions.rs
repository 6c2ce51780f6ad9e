use std::{fmt::Write as _, time::Duration};

use bus::{
    BrokerOptions, Bus, Claimed, PutToken, Subjects, roles::Role, testing::Broker,
    topology::StreamId,
};
use chrono::Utc;
use domain::{
    id::IncidentId,
    wire::{Claim, InputKind, Member, WorkKind},
};

use crate::{eventually, input};

const ZONE: &str = "default";
const WAIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);

/// Writes the accounts of a broker on which each role may do what the table says, and no more.
pub(crate) fn accounts() -> String {
    let names = Subjects::new("selfheal");
    let list = |subjects: &[String]| {
        subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
    };
    let (mut users, mut outside) = (String::new(), String::new());
    for role in Role::ALL {
        let users = if role.is_outside() { &mut outside } else { &mut users };
        let may = role.permissions(&names, &[ZONE.to_owned()]);
        let responses = if may.allow_responses { ", allow_responses: true" } else { "" };
        writeln!(
            users,
            "{{ user: {name}, password: {name}, permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{subscribe}] }}{responses} }} }}",
            name = role.as_str(),
            publish = list(&may.publish),
            subscribe = list(&may.subscribe),
        )
        .unwrap();
    }
    format!(
        "accounts {{
            A {{ jetstream: enabled, users: [\n{users}], exports: [ {{ service: \"selfheal.event.>\", accounts: [B] }} ] }}
            B {{ users: [\n{outside}], imports: [ {{ service: {{ account: A, subject: \"selfheal.event.>\" }} }} ] }}
        }}"
    )
}

async fn login(broker: &Broker, role: Role) -> Bus {
    let name = role.as_str();
    let options = BrokerOptions {
        url: broker.url_for(name, name),
        name: format!("selfheal-{name}"),
        ..BrokerOptions::default()
    };
    bus::connect(&options).await.unwrap()
}

fn member(role: Role) -> Member {
    Member {
        id: format!("{}-1", role.as_str()),
        kind: role.as_str().to_owned(),
        zones: vec![ZONE.to_owned()],
        version: "0.1.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        started_at: Utc::now(),
        pulse: None,
    }
}

/// What every agent does.
async fn live_as_agent(bus: &Bus, role: Role) {
    bus.wait_for_topology().await.unwrap();
    bus.members().join(member(role)).await.unwrap();
    let micro = bus.micro_service(role.as_str(), "0.1.0", "id").await.unwrap();
    let own = format!("{}-1", role.as_str());
    bus.members().watch().wait_for(|living| living.contains_key(&own)).await.unwrap();
    bus.config_store().watch().wait_for(Option::is_some).await.unwrap();
    drop(micro);
}

async fn take_work(leader: &Bus, hand: &Bus, kind: WorkKind) {
    let mut worker = hand.work().consume(kind, &[ZONE.to_owned()], 1);
    leader.work().publish(kind, ZONE, kind.as_str(), "do".into()).await.unwrap();
    let job = worker.next().await;
    drop(job.keep_alive());
    job.ack().await;
}

/// Goal: the list of permissions in docs/wire.md is enough for every agent. Method: a broker
/// that permits just that, and each role doing all that it does.
#[tokio::test]
async fn the_documented_permissions_are_enough_for_every_role() {
    let broker = Broker::with_config(&accounts()).await;
    let supervisor = login(&broker, Role::Supervisor).await;
    supervisor.ensure_topology().await.unwrap();
    supervisor.config_store().put("configuration".into(), 0).await.unwrap();
    let lease = supervisor.lead("node").await.unwrap();
    live_as_agent(&supervisor, Role::Supervisor).await;
    supervisor.ledger().append(0, "decisions".into(), &[]).await.unwrap();
    let mut snapshot = supervisor.snapshots().create(1);
    snapshot.write(b"the desk").await.unwrap();
    snapshot.finish().await.unwrap();
    let mut read = supervisor.snapshots().read(1).await.unwrap();
    assert_eq!(read.next().await.unwrap().unwrap(), "the desk");
    supervisor.snapshots().keep_newest(0).await.unwrap();
    supervisor.ledger().purge_to(1).await.unwrap();
    let position = domain::id::Position::new(1, 0);
    supervisor.reject("unreadable", position, "x".into(), "why").await.unwrap();
    let mut inbox = supervisor.read_inbox(0).await.unwrap();
    let names = supervisor.subjects().clone();
    let serve =
        supervisor.serve(names.query_all(), "q", |request| async move { Ok(request.payload) });
    let _queries = serve.await.unwrap();

    let monitor = login(&broker, Role::Monitor).await;
    let analyzer = login(&broker, Role::Analyzer).await;
    let fixer = login(&broker, Role::Fixer).await;
    let gateway = login(&broker, Role::Gateway).await;
    let cli = login(&broker, Role::Cli).await;
    let publisher = login(&broker, Role::Publisher).await;
    for (bus, role, work, frames) in [
        (
            &monitor,
            Role::Monitor,
            WorkKind::Verify,
            vec![InputKind::Event, InputKind::Verification],
        ),
        (&analyzer, Role::Analyzer, WorkKind::Diagnose, vec![InputKind::Analysis]),
        (&fixer, Role::Fixer, WorkKind::Fix, vec![InputKind::Fix]),
        (
            &gateway,
            Role::Gateway,
            WorkKind::Notify,
            vec![InputKind::Event, InputKind::Command, InputKind::Notice],
        ),
    ] {
        live_as_agent(bus, role).await;
        take_work(&supervisor, bus, work).await;
        // Events of agents have a place of their own.
        let writer = if role == Role::Monitor { bus.agent_writer() } else { bus.inbox_writer() };
        for kind in frames {
            writer.submit(kind, input("id")).await.unwrap();
        }
    }
    probe(&monitor, &analyzer).await;
    claim(&fixer, &gateway).await;
    for asker in [&gateway, &cli, &monitor] {
        let answer = asker.request(names.query("x"), "hi".into(), WAIT);
        assert_eq!(&answer.await.unwrap()[..], b"hi");
    }
    watch(&supervisor, &[&gateway, &cli], &monitor).await;
    look_at_streams(&cli).await;
    cli.inbox_writer().submit(InputKind::Command, input("id")).await.unwrap();
    make_token(&cli, &gateway).await;
    publish_event(&broker, &names).await;
    let read = inbox.next_batch(1, WAIT).await.unwrap();
    assert_eq!(read[0].seq, 1);
    lease.release().await;
    for bus in [&supervisor, &monitor, &analyzer, &fixer, &gateway, &cli, &publisher] {
        let violation = bus.last_violation().filter(|told| !told.contains("$JS.API.INFO"));
        assert_eq!(violation, None);
    }
}

/// Asks for the state of the streams, as `selfheal doctor` does.
async fn look_at_streams(cli: &Bus) {
    for id in [StreamId::Inbox, StreamId::Ledger, StreamId::Work(WorkKind::Fix), StreamId::Rejected]
    {
        let asked = format!("$JS.API.STREAM.INFO.{}", cli.subjects().stream(id));
        cli.request(asked, "".into(), WAIT).await.unwrap();
    }
}

async fn make_token(cli: &Bus, gateway: &Bus) {
    cli.config_store().watch().wait_for(Option::is_some).await.unwrap();
    let put = cli.token_store().put(&crate::tokens::record("ci"), 0).await.unwrap();
    assert_eq!((put, cli.token_store().list(WAIT).await.unwrap().len()), (PutToken::Stored, 1));
    gateway.token_store().watch().wait_for(Option::is_some).await.unwrap();
}

async fn watch(supervisor: &Bus, watchers: &[&Bus], monitor: &Bus) {
    let names = supervisor.subjects();
    for watcher in watchers {
        let _live = watcher.subscribe(names.live_all(), None).await.unwrap();
    }
    let _over = monitor.subscribe(names.over(), None).await.unwrap();
    supervisor.publish_core(names.over(), "line".into()).await.unwrap();
    let mut ear = supervisor.ear().await.unwrap();
    ear.tell(names.live(&IncidentId::NONE), "line".into()).await.unwrap();
}

#[tokio::test]
async fn who_may_not_hear_itself_takes_it_that_somebody_listens() {
    let broker = Broker::with_config(&accounts()).await;
    let analyzer = login(&broker, Role::Analyzer).await;
    let subject = analyzer.subjects().live(&IncidentId::NONE);
    let mut ear = analyzer.ear().await.unwrap();
    for _ in 0..2 {
        assert!(ear.tell(subject.clone(), "a".into()).await.unwrap());
    }
}

async fn probe(monitor: &Bus, analyzer: &Bus) {
    let subject = monitor.subjects().probe(ZONE);
    let serve = monitor.serve(subject.clone(), "m", |request| async move { Ok(request.payload) });
    let _server = serve.await.unwrap();
    let answer = eventually("the probe is answered", || {
        analyzer.request(subject.clone(), "x".into(), SHORT)
    });
    assert_eq!(&answer.await[..], b"x");
    let live = analyzer.subjects().live(&IncidentId::NONE);
    analyzer.publish_core(live, "progress".into()).await.unwrap();
}

fn a_claim(id: &str) -> Claim {
    Claim::new(id.to_owned(), "fixer-1".to_owned(), Utc::now(), "hash".to_owned())
}

async fn claim(fixer: &Bus, gateway: &Bus) {
    for (id, first) in [("first", true), ("second", false)] {
        let claimed = gateway.claims().claim_once("n", &a_claim(id)).await.unwrap();
        assert_eq!(claimed == Claimed::Won, first, "{claimed:?}");
    }
    let (first, second) = (a_claim("first"), a_claim("second"));
    let claims = fixer.claims();
    assert_eq!(claims.claim(&IncidentId::NONE, "1", &first).await.unwrap(), Claimed::Won);
    let lost = claims.claim(&IncidentId::NONE, "1", &second).await.unwrap();
    assert_eq!(lost, Claimed::Lost(first));
}

async fn publish_event(broker: &Broker, names: &Subjects) {
    let options =
        async_nats::ConnectOptions::with_user_and_password("publisher".into(), "publisher".into())
            .custom_inbox_prefix("_INBOX_publisher");
    let client = options.connect(broker.url()).await.unwrap();
    let js = async_nats::jetstream::new(client);
    js.publish(names.event("disk.full"), "{}".into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_gateway_can_claim_notices_and_no_attempt() {
    let broker = Broker::with_config(&accounts()).await;
    let supervisor = login(&broker, Role::Supervisor).await;
    supervisor.ensure_topology().await.unwrap();
    let gateway = login(&broker, Role::Gateway).await;
    let attempt = gateway.subjects().claim(&IncidentId::NONE, "1");
    gateway.publish_core(attempt.clone(), "evil".into()).await.unwrap();
    eventually("the violation", || async {
        let told = gateway.last_violation();
        if told.as_ref().is_some_and(|told| told.contains(&attempt)) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn a_fixer_can_neither_write_decisions_nor_take_the_lease_and_the_violation_is_remembered() {
    let broker = Broker::with_config(&accounts()).await;
    let supervisor = login(&broker, Role::Supervisor).await;
    supervisor.ensure_topology().await.unwrap();
    let fixer = login(&broker, Role::Fixer).await;
    let names = fixer.subjects().clone();
    for subject in [names.ledger(), names.leader_key(), names.work(WorkKind::Fix, ZONE)] {
        fixer.publish_core(subject.clone(), "evil".into()).await.unwrap();
        eventually("the violation", || async {
            let told = fixer.last_violation();
            if told.as_ref().is_some_and(|told| told.contains(&subject)) {
                Ok(())
            } else {
                Err(told)
            }
        })
        .await;
    }
    assert_eq!(supervisor.ledger().last_seq().await.unwrap(), 0);
}

#[tokio::test]
async fn a_gateway_reads_the_tokens_and_can_make_none() {
    let broker = Broker::with_config(&accounts()).await;
    let supervisor = login(&broker, Role::Supervisor).await;
    supervisor.ensure_topology().await.unwrap();
    for role in [Role::Gateway, Role::Monitor, Role::Publisher] {
        let bus = login(&broker, role).await;
        let key = bus.subjects().token_key("evil");
        bus.publish_core(key.clone(), "{}".into()).await.unwrap();
        eventually("the violation", || async {
            let told = bus.last_violation();
            if told.as_ref().is_some_and(|it| it.contains(&key)) { Ok(()) } else { Err(told) }
        })
        .await;
    }
    assert!(login(&broker, Role::Cli).await.token_store().list(WAIT).await.unwrap().is_empty());
}
