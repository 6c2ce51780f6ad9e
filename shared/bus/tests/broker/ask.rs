use std::time::Duration;

use bus::{Asked, Error, ServeError, testing::Broker};
use domain::{
    id::Position,
    wire::{Answer, AnswerStatus, Envelope, Input},
};

use crate::{input, outside};

const WAIT: Duration = Duration::from_secs(10);

fn timer() -> Input {
    input("any").input
}

#[tokio::test]
async fn the_answer_to_an_input_reaches_the_one_who_asked() {
    let broker = Broker::start().await;
    let (supervisor, gateway) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let answering = tokio::spawn(async move {
        let mut reader = supervisor.read_inbox(0).await.unwrap();
        for n in 0..2 {
            let batch = reader.next_batch(1, WAIT).await.unwrap();
            let frame: Vec<Envelope> = serde_json::from_slice(&batch[0].payload).unwrap();
            let answer = Answer {
                status: AnswerStatus::Done,
                incident_id: None,
                message: format!("{} {n}", frame[0].id),
            };
            let reply_to = frame[0].reply_to.clone().unwrap();
            assert!(reply_to.starts_with("_INBOX_"), "{reply_to}");
            let payload = serde_json::to_vec(&answer).unwrap();
            supervisor.publish_core(reply_to, payload.into()).await.unwrap();
        }
        supervisor
    });
    let writer = gateway.inbox_writer();
    for n in 0..2 {
        let asked = gateway.ask::<Answer>(&writer, timer(), format!("id-{n}"), WAIT).await.unwrap();
        let Asked::Answer(answer) = asked else { panic!("{asked:?}") };
        assert_eq!(answer.message, format!("id-{n} {n}"));
    }
    answering.await.unwrap();
}

#[tokio::test]
async fn an_input_that_nobody_answers_is_accepted() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    let wait = Duration::from_millis(200);
    let asked = bus.ask::<Answer>(&writer, timer(), "id".to_owned(), wait).await.unwrap();
    assert!(matches!(asked, Asked::Accepted(accepted) if accepted.position == Position::new(1, 0)));
}

#[tokio::test]
async fn a_question_is_answered_refused_or_told_that_nobody_is_there() {
    let broker = Broker::start().await;
    let (supervisor, cli) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let names = cli.subjects().clone();
    let nobody = cli.request(names.query("incidents"), "".into(), WAIT).await.unwrap_err();
    assert!(matches!(nobody, Error::NoResponder { .. }), "{nobody}");
    let own = names.clone();
    let _server = supervisor
        .serve(names.query_all(), "supervisors", move |request| {
            let what = own.query_what(&request.subject).map(str::to_owned);
            async move {
                match what.as_deref() {
                    Some("echo") => Ok(request.payload),
                    Some(_) | None => Err(ServeError::new(404, "no such\nquery")),
                }
            }
        })
        .await
        .unwrap();
    let echo = cli.request(names.query("echo"), "hello".into(), WAIT).await.unwrap();
    assert_eq!(&echo[..], b"hello");
    let refused = cli.request(names.query("cake"), "".into(), WAIT).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { code: 404, message, .. } if message == "no such query"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_told_live_is_heard_by_those_who_listen() {
    let broker = Broker::start().await;
    let (supervisor, gateway) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let mut live = gateway.subscribe(gateway.subjects().live_all(), None).await.unwrap();
    let subject = supervisor.subjects().live(&domain::id::IncidentId::NONE);
    supervisor.publish_core(subject.clone(), "now".into()).await.unwrap();
    let message = tokio::time::timeout(WAIT, live.next()).await.unwrap().unwrap();
    assert_eq!((message.subject, &message.payload[..]), (subject, &b"now"[..]));
}

#[tokio::test]
async fn every_process_is_shown_as_a_micro_service() {
    let broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    let micro = bus.micro_service("monitor", "0.1.0", "monitor-1").await.unwrap();
    let subject = bus.subjects().probe("default");
    let _endpoint = micro
        .endpoint(
            "probe",
            subject.clone(),
            "monitors",
            |request| async move { Ok(request.payload) },
        )
        .await
        .unwrap();
    let answer = bus.request(subject, "x".into(), WAIT).await.unwrap();
    assert_eq!(&answer[..], b"x");
    let info = bus.request("$SRV.INFO.selfheal-monitor".to_owned(), "".into(), WAIT).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["metadata"]["member"], "monitor-1");
    micro.stop().await;
}

#[tokio::test]
async fn rejected_input_is_kept_once_whole_with_its_reason() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let raw: bytes::Bytes = vec![0xFF, b'\n', 0].into();
    for _ in 0..2 {
        let why = "not UTF-8\nat byte 0";
        bus.reject("unreadable", Position::new(7, 1), raw.clone(), why).await.unwrap();
    }
    let js = outside(&broker.url()).await;
    let stream = js.get_stream("SELFHEAL_REJECTED").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
    let kept = stream.get_raw_message(1).await.unwrap();
    assert_eq!((kept.subject.as_str(), &kept.payload), ("selfheal.rejected.unreadable", &raw));
    assert_eq!(kept.headers.get("Selfheal-Why").unwrap().as_str(), "not UTF-8 at byte 0");
    assert_eq!(kept.headers.get("Selfheal-Position").unwrap().as_str(), "7.1");
}
