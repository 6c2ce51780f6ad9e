//! Two supervisors: one leads, the other is ready to; each keeps the whole log.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{path::Path, process::Child, time::Duration};

use bus::testing::Broker;
use domain::{
    event::{Event, EventType},
    view::{LogLine, Query, SystemView},
    wire::{Answer, AnswerStatus, Input},
};
use tests::{
    eventually,
    stack::{binary, directory},
};

/// How long one question may take; a new one is asked then.
const ASK: Duration = Duration::from_secs(2);

struct Supervisor(Child);

impl Supervisor {
    fn start(broker: &Broker, dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let log = std::fs::File::create(dir.join("stderr")).unwrap();
        let child = std::process::Command::new(binary("selfheal-supervisor"))
            .args(["--nats-url", &broker.url(), "--data-dir", "."])
            .current_dir(dir)
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn log(dir: &Path) -> Vec<LogLine> {
    let text = std::fs::read_to_string(dir.join("incident_logs.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn connect(broker: &Broker) -> bus::Bus {
    bus::connect(&bus::BrokerOptions {
        url: broker.url(),
        name: "test".to_owned(),
        ..bus::BrokerOptions::default()
    })
    .await
    .unwrap()
}

/// Publishes an event until a supervisor has answered it.
async fn publish(bus: &bus::Bus, id: &str) -> Answer {
    let kind = format!("trouble_{id}").parse::<EventType>().unwrap();
    let event = Event::new(id, kind, "test");
    eventually("the event is answered", || async {
        let input = Input::Event(event.clone());
        match bus.ask::<Answer>(&bus.inbox_writer(), input, id.to_owned(), ASK).await {
            Ok(bus::Asked::Answer(answer)) => Ok(answer),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

async fn leader(bus: &bus::Bus) -> String {
    eventually("somebody leads", || async {
        let subject = bus.subjects().query("status");
        let question = serde_json::to_vec(&Query::Status).unwrap();
        let answer = bus.request(subject, question.into(), ASK).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let view: SystemView = serde_json::from_slice(&answer).unwrap();
        view.leader.ok_or_else(|| "nobody".to_owned())
    })
    .await
}

#[tokio::test]
async fn a_standby_takes_over_and_both_logs_tell_the_same() {
    let dir = directory("standby");
    let mut broker = Broker::start().await;
    let bus = connect(&broker).await;
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
    use rustix::process::{Pid, Signal, kill_process};
    let dir = directory("frozen");
    let broker = Broker::start().await;
    let bus = connect(&broker).await;
    let (dir_a, dir_b) = (dir.join("a"), dir.join("b"));
    let a = Supervisor::start(&broker, &dir_a);
    let first = leader(&bus).await;
    let _b = Supervisor::start(&broker, &dir_b);
    publish(&bus, "1").await;
    kill_process(Pid::from_child(&a.0), Signal::STOP).unwrap();
    publish(&bus, "2").await;
    kill_process(Pid::from_child(&a.0), Signal::CONT).unwrap();
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
    let bus = connect(&broker).await;
    let supervisor = Supervisor::start(&broker, &dir);
    publish(&bus, "1").await;
    drop(supervisor);

    // The broker's disk is lost.
    let empty = Broker::start().await;
    let mut supervisor = Supervisor::start(&empty, &dir);
    let status = supervisor.0.wait().unwrap();
    assert_eq!(status.code(), Some(78));
    let said = std::fs::read_to_string(dir.join("stderr")).unwrap();
    assert!(said.contains("selfheal restore"), "{said}");
}
