//! The gateway with the permissions that an installation gives it, and not one more.

use bus::{BrokerOptions, Subjects, roles::Role, testing::Broker};
use domain::wire::{AnswerStatus, NotifyWork, WorkKind};
use serde_json::json;

use crate::fixture::{Desk, Gateway, PATIENCE, an_incident, answer, command, heard};

/// Returns the users `admin`, who may do all, and `gateway`, as `deploy/nats.conf` has it.
fn users() -> String {
    let names = Subjects::new("selfheal");
    let may = Role::Gateway.permissions(&names, &["default".to_owned()]);
    let (publish, subscribe) = (json!(may.publish), json!(may.subscribe));
    format!(
        "authorization {{ users: [
           {{ user: admin, password: secret }}
           {{ user: gateway, password: secret, permissions: {{
               publish: {publish}, subscribe: {subscribe}, allow_responses: {} }} }}
         ] }}",
        may.allow_responses
    )
}

#[tokio::test]
async fn all_that_the_gateway_does_is_permitted_to_it() {
    let broker = Broker::with_config(&users()).await;
    let options =
        BrokerOptions { url: broker.url_for("admin", "secret"), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    bus.ensure_topology().await.unwrap();
    let mut desk = Desk::at(bus, |_| answer(AnswerStatus::IncidentOpened)).await;
    let mut gateway = Gateway::spawn(command(&broker.url_for("gateway", "secret"))).await;
    let id = gateway.line("ready").await["member"].as_str().unwrap().to_owned();

    let (status, told) = gateway.send("/publish_event", json!({"type": "a"})).await;
    assert_eq!((status, &told["status"]), (200, &json!("incident_opened")));
    assert_eq!(heard(gateway.post("/api/v1/pause")).await.0, 200);
    assert_eq!(heard(gateway.get("/api/v1/incidents")).await.0, 200);
    let mut members = desk.bus.members().watch();
    let joined = members.wait_for(|members| members.contains_key(&id));
    assert!(tokio::time::timeout(PATIENCE, joined).await.is_ok(), "it is among the living");

    let mut stream = gateway.get("/api/v1/stream").send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some(), "hello");
    let live = desk.bus.subjects().live(&an_incident());
    desk.bus.publish_core(live, "{\"seq\": 1}".into()).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, stream.chunk()).await;
    assert!(told.expect("the live message comes").unwrap().is_some());

    let work: NotifyWork = serde_json::from_value(json!({
        "work": {"incident": an_incident(), "attempt": 0, "revision": 1}, "notice": "n",
        "title": "t", "text": "x", "incident": null, "to": [{"log": true}],
    }))
    .unwrap();
    let payload = serde_json::to_vec(&work).unwrap().into();
    desk.bus.work().publish(WorkKind::Notify, "default", "wish", payload).await.unwrap();
    assert_eq!(desk.inputs(3).await.len(), 3, "event, command and the notice's report");
    assert!(!gateway.has_said("the broker does not permit this"));
}
