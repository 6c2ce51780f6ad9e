//! Two supervisors: one leads, the other is ready to; each keeps the whole log.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use rustix::process::{Signal, kill_process};
use tests::{
    eventually,
    stack::directory,
    supervisor::{Supervisor, leader, log, publish},
};

#[tokio::test]
async fn a_standby_takes_over_and_both_logs_tell_the_same() {
    let dir = directory("standby");
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let (dir_a, dir_b) = (dir.join("a"), dir.join("b"));
    let a = Supervisor::start(&broker, &dir_a);
    let first = leader(&bus).await;
    let _b = Supervisor::start(&broker, &dir_b);
    assert_eq!(publish(&bus, "1").await.status, AnswerStatus::IncidentOpened);

    drop(a);
    assert_eq!(publish(&bus, "2").await.status, AnswerStatus::IncidentOpened);
    assert_ne!(leader(&bus).await, first, "the other one leads now");

    let a = Supervisor::start(&broker, &dir_a);
    broker.kill();
    broker.restart().await;
    publish(&bus, "3").await;
    eventually("both logs are whole and the same", || async {
        let (in_a, in_b) = (log(&dir_a), log(&dir_b));
        let numbered = in_a.iter().zip(1..).all(|(line, seq)| line.seq == seq);
        let opened = in_a.iter().filter(|it| it.decision == "opened").count();
        if in_a == in_b && numbered && opened == 3 {
            Ok(())
        } else {
            Err((in_a.len(), in_b.len(), opened))
        }
    })
    .await;
    drop(a);
}

#[tokio::test]
async fn a_frozen_leader_that_wakes_up_does_no_harm() {
    let dir = directory("frozen");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let (dir_a, dir_b) = (dir.join("a"), dir.join("b"));
    let a = Supervisor::start(&broker, &dir_a);
    let first = leader(&bus).await;
    let _b = Supervisor::start(&broker, &dir_b);
    publish(&bus, "1").await;
    kill_process(a.pid(), Signal::STOP).unwrap();
    publish(&bus, "2").await;
    kill_process(a.pid(), Signal::CONT).unwrap();
    publish(&bus, "3").await;
    assert_ne!(leader(&bus).await, first);
    eventually("both logs are whole and the same", || async {
        let (in_a, in_b) = (log(&dir_a), log(&dir_b));
        let opened = in_b.iter().filter(|it| it.decision == "opened").count();
        if in_a == in_b && opened == 3 { Ok(()) } else { Err((in_a.len(), in_b.len(), opened)) }
    })
    .await;
}

#[tokio::test]
async fn a_log_that_has_more_than_the_ledger_is_not_led_by() {
    let dir = directory("other-broker");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let supervisor = Supervisor::start(&broker, &dir);
    publish(&bus, "1").await;
    drop(supervisor);

    // The broker's disk is lost.
    let empty = Broker::start().await;
    let mut supervisor = Supervisor::start(&empty, &dir);
    assert_eq!(supervisor.wait(), 78);
    let said = std::fs::read_to_string(dir.join("stderr")).unwrap();
    assert!(said.contains("selfheal restore"), "{said}");
}
