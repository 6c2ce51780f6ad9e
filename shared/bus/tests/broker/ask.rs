use std::time::Duration;

use bus::{Asked, Error, NotAccepted, ServeError, testing::Broker};
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
        let mut asked = Vec::new();
        while asked.len() < 3 {
            let batch = reader.next_batch(1, WAIT).await.unwrap();
            let frame: Vec<Envelope> = serde_json::from_slice(&batch[0].payload).unwrap();
            for envelope in frame {
                let message = envelope.id;
                let answer = Answer { status: AnswerStatus::Done, incident_id: None, message };
                asked.push((envelope.reply_to.unwrap(), answer));
            }
        }
        assert!(asked.iter().all(|(to, _)| to.starts_with("_INBOX_")), "{asked:?}");
        // An older supervisor answers each at its own subject.
        let (to, answer) = asked.remove(1);
        let answer = serde_json::to_vec(&answer).unwrap();
        supervisor.publish_core(to, answer.into()).await.unwrap();
        supervisor.answer(&asked).await.unwrap();
        supervisor
    });
    let writer = gateway.inbox_writer();
    let ask = async |n: u32| {
        let asked = gateway.ask::<Answer>(&writer, timer(), format!("id-{n}"), WAIT).await.unwrap();
        let Asked::Answer(answer) = asked else { panic!("{asked:?}") };
        assert_eq!(answer.message, format!("id-{n}"));
    };
    tokio::join!(ask(0), ask(1), ask(2));
    answering.await.unwrap();
}

#[tokio::test]
async fn an_input_that_nobody_answers_or_that_cannot_be_read_is_accepted() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    let wait = Duration::from_millis(200);
    let asked = bus.ask::<Answer>(&writer, timer(), "id".to_owned(), wait).await.unwrap();
    assert_eq!(asked, Asked::Accepted);
    let asking = bus.ask::<Answer>(&writer, timer(), "other".to_owned(), WAIT);
    let answering = async {
        let mut reader = bus.read_inbox(1).await.unwrap();
        let batch = reader.next_batch(1, WAIT).await.unwrap();
        let frame: Vec<Envelope> = serde_json::from_slice(&batch[0].payload).unwrap();
        bus.answer(&[(frame[0].reply_to.clone().unwrap(), 5)]).await.unwrap();
    };
    let (asked, ()) = tokio::join!(asking, answering);
    assert_eq!(asked.unwrap(), Asked::Accepted);
}

#[tokio::test]
async fn who_waits_for_an_answer_hears_that_the_broker_does_not_take_the_input() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer().with_give_up(Duration::from_millis(300));
    bus.ask::<Answer>(&writer, timer(), "first".to_owned(), Duration::ZERO).await.unwrap();
    broker.kill();
    let wait = Duration::from_millis(50);
    let asked = bus.ask::<Answer>(&writer, timer(), "id".to_owned(), wait).await;
    assert!(matches!(asked, Err(Error::NotAccepted(NotAccepted::Unavailable(_)))), "{asked:?}");
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
async fn who_tells_hears_whether_anybody_listens() {
    let broker = Broker::start().await;
    let (supervisor, watcher) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let names = supervisor.subjects().clone();
    let one = names.live(&domain::id::IncidentId::NONE);
    let another = "01a20a78-786e-7e44-b402-bb5559ce28b8".parse().unwrap();
    let mut ear = supervisor.ear().await.unwrap();
    assert!(!ear.tell(one.clone(), "a".into()).await.unwrap());
    let elsewhere = watcher.subscribe(names.live(&another), None).await.unwrap();
    assert!(!ear.tell(one.clone(), "b".into()).await.unwrap());
    drop(elsewhere);
    for subject in [names.live_all(), one.clone()] {
        let mut live = watcher.subscribe(subject, None).await.unwrap();
        assert!(ear.tell(one.clone(), "c".into()).await.unwrap());
        let message = tokio::time::timeout(WAIT, live.next()).await.unwrap().unwrap();
        assert_eq!((&message.subject, &message.payload[..]), (&one, &b"c"[..]));
        drop(live);
        // The broker hears of the end of a subscription a little later.
        while ear.tell(one.clone(), "d".into()).await.unwrap() {}
    }
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
