//! What people want done.

use bus::testing::Broker;
use domain::access::Proof;
use domain::silence::SilenceId;
use domain::wire::{AnswerStatus, Command, Envelope, Input, Verb};
use serde_json::json;

use crate::fixture::{Desk, Gateway, an_incident, answer, heard};

fn command(envelope: &Envelope) -> Command {
    let Input::Command(command) = &envelope.input else { panic!("another input: {envelope:?}") };
    command.clone()
}

#[tokio::test]
async fn each_verb_becomes_its_command() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let incident = an_incident();
    let at = |verb: &str| format!("/api/v1/incidents/{incident}/{verb}");
    let why = || "because".to_owned();
    let wanted = [
        (
            at("approve"),
            json!({"plan_hash": "x", "by": "ann"}),
            Verb::Approve { incident, plan_hash: "x".to_owned() },
        ),
        (
            at("reject"),
            json!({"reason": "because", "by": "ann"}),
            Verb::Reject { incident, reason: why() },
        ),
        (at("acknowledge"), json!({"by": "ann"}), Verb::Acknowledge { incident }),
        (
            at("close"),
            json!({"reason": "because", "by": "ann"}),
            Verb::Close { incident, reason: why() },
        ),
        (at("retry"), json!({"by": "ann"}), Verb::Retry { incident }),
        (
            "/api/v1/pause".to_owned(),
            json!({"reason": "because", "by": "ann"}),
            Verb::Pause { reason: why() },
        ),
        ("/api/v1/resume".to_owned(), json!({"by": "ann"}), Verb::Resume),
    ];
    for (idx, (path, body, verb)) in wanted.into_iter().enumerate() {
        let (status, told) = gateway.send(&path, body).await;
        assert_eq!((status, &told["status"]), (200, &json!("done")), "{path}: {told}");
        let inputs = desk.inputs(idx + 1).await;
        assert_eq!(
            command(&inputs[idx]),
            Command::new("local (ann)", verb).proven(Proof::Host),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_silence_is_made_with_an_end_and_ended() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let wanted = json!({"matchers": ["target=database", "host=~db-.*"],
        "from": "2026-03-01T00:00:00Z", "for": "2h", "comment": "moving it", "by": "ann"});
    let (status, told) = gateway.send("/api/v1/silences", wanted).await;
    assert_eq!(status, 200, "{told}");
    let made = command(&desk.inputs(1).await[0]);
    let Verb::Silence { request } = made.verb else { panic!("{made:?}") };
    assert_eq!((made.by.as_str(), request.comment.as_str()), ("local (ann)", "moving it"));
    assert_eq!(request.matchers.to_string(), "target=database, host=~db-.*");
    assert_eq!(request.until.to_rfc3339(), "2026-03-01T02:00:00+00:00");

    for wrong in [
        json!({"matchers": ["target=database"]}),
        json!({"matchers": ["target"], "for": "2h"}),
        json!({"matchers": ["target=database"], "for": "2h", "until": "2026-03-01T02:00:00Z"}),
        json!({"matchers": ["target=database"], "for": "2h", "matcher": []}),
    ] {
        let (status, told) = gateway.send("/api/v1/silences", wrong.clone()).await;
        assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_body")), "{wrong}");
    }
    let (status, told) = heard(gateway.delete("/api/v1/silences/0123456789abcdef")).await;
    assert_eq!(status, 200, "{told}");
    let ended = command(&desk.inputs(2).await[1]);
    let id = SilenceId("0123456789abcdef".to_owned());
    assert_eq!(ended, Command::new("local", Verb::Unsilence { id }).proven(Proof::Host));
}

#[tokio::test]
async fn an_approval_without_a_hash_names_the_plan_that_is_there_now() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let incident = an_incident();
    let path = format!("/api/v1/incidents/{incident}/approve");
    let (status, told) = heard(gateway.post(&path)).await;
    assert_eq!(status, 200, "{told}");
    let wanted = Verb::Approve { incident, plan_hash: "abc".to_owned() };
    assert_eq!(
        command(&desk.inputs(1).await[0]),
        Command::new("local", wanted).proven(Proof::Host)
    );

    // A mistyped field must not approve whatever is there.
    let (status, told) = gateway.send(&path, json!({"planhash": "x"})).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_body")));
    assert!(told["error"]["message"].as_str().unwrap().contains("planhash"), "{told}");
    let unknown = "/api/v1/incidents/01990000-0000-7000-8000-000000000001/approve";
    assert_eq!(heard(gateway.post(unknown)).await.0, 404);
    assert_eq!(desk.seen.borrow().len(), 1);
}

#[tokio::test]
async fn a_refused_command_is_a_409_with_the_reason() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |envelope| {
        let is_retry = matches!(command(envelope).verb, Verb::Retry { .. });
        answer(if is_retry { AnswerStatus::NotFound } else { AnswerStatus::Refused })
    })
    .await;
    let gateway = Gateway::start(&broker, &[]).await;
    let at = |verb: &str| format!("/api/v1/incidents/{}/{verb}", an_incident());
    let (status, told) = heard(gateway.post(&at("close"))).await;
    assert_eq!((status, &told["error"]["code"]), (409, &json!("refused")));
    assert_eq!(heard(gateway.post(&at("retry"))).await.0, 404);
    let (status, told) = heard(gateway.post(&at("explode"))).await;
    assert_eq!((status, &told["error"]["code"]), (404, &json!("unknown_path")));
    let (status, told) = heard(gateway.post("/api/v1/incidents/seven/close")).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_id")));
    let long = json!({"reason": "x".repeat(1001)});
    assert_eq!(gateway.send(&at("close"), long).await.0, 400);
}
