//! Whoever is to be told hears it once, whatever is killed between the decision and the send.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests panic as tests do"
)]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory},
};

/// How often each kind is killed.
const N_ROUNDS: usize = 4;

/// Two who are told: one knows a repetition by its key, the other does not.
#[derive(Clone, Debug, Default)]
struct Told {
    pager: Arc<Mutex<Vec<Value>>>,
    hook: Arc<Mutex<Vec<Value>>>,
}

impl Told {
    /// Listens, and returns the URL.
    async fn listen(&self) -> String {
        async fn page(
            State(told): State<Told>,
            Json(body): Json<Value>,
        ) -> (StatusCode, Json<Value>) {
            let answer = json!({"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]});
            told.pager.lock().unwrap().push(body);
            (StatusCode::ACCEPTED, Json(answer))
        }
        async fn hook(State(told): State<Told>, Json(body): Json<Value>) {
            told.hook.lock().unwrap().push(body);
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v2/enqueue", post(page)).route("/hook", post(hook));
        let routes = routes.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    /// Returns what the pager heard about an incident, without repetitions.
    fn pages(&self, id: &str) -> BTreeSet<String> {
        let pager = self.pager.lock().unwrap();
        pager
            .iter()
            .filter(|it| it["dedup_key"] == id)
            .map(|it| it["event_action"].to_string())
            .collect()
    }

    /// Returns how often the other one heard of an incident.
    fn n_hooks(&self, id: &str) -> usize {
        self.hook.lock().unwrap().iter().filter(|it| it.to_string().contains(id)).count()
    }
}

/// Returns the lines of one incident with one decision, also while others are written.
fn lines(stack: &Stack, id: &str, decision: &str) -> Vec<Value> {
    let text =
        std::fs::read_to_string(stack.dir().join("data/incident_logs.jsonl")).unwrap_or_default();
    let whole = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    whole.filter(|it| it["incident_id"] == id && it["decision"] == decision).collect()
}

async fn tells_once(kind: &str) {
    let told = Told::default();
    let url = told.listen().await;
    let dir = directory(&format!("tell-{kind}"));
    private::write(&dir.join("hook"), format!("{url}/hook").as_bytes()).unwrap();
    private::write(&dir.join("key"), b"0123456789abcdef0123456789abcdef").unwrap();
    let config = format!(
        "notify:
  receivers:
    - {{name: ops, webhook: {{url_from: {{file: {0}/hook}}}}}}
    - {{name: pager, pagerduty: {{routing_key: {{file: {0}/key}}, url: '{url}/v2/enqueue'}}}}
",
        dir.display()
    );
    let stack = Stack::up(&dir, &config);
    for round in 0..N_ROUNDS {
        let event =
            json!({"id": format!("{round}"), "type": format!("odd_{round}"), "payload": {}});
        let (status, answer) = stack.post("/publish_event", &event).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let id = answer["incident_id"].as_str().unwrap().to_owned();
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while lines(&stack, &id, "escalated").is_empty() {
            ticks.tick().await;
        }
        assert!(0 < stack.kill(kind), "{round}: there was no {kind} to kill");

        let notified = eventually("both are told, as the log says", || async {
            let notified = lines(&stack, &id, "notified");
            if notified.len() == 2 { Ok(notified) } else { Err(notified) }
        })
        .await;
        assert_eq!(told.pages(&id), BTreeSet::from(["\"trigger\"".to_owned()]), "{round}");
        let in_doubt = notified.iter().any(|it| it.to_string().contains("may have arrived"));
        match told.n_hooks(&id) {
            1 => {}
            // Only who sends can leave open whether it was sent; then the log says so.
            0 => assert!(kind == "gateway" && in_doubt, "{round}: nothing was sent: {notified:?}"),
            n => panic!("{round}: sent {n} times: {notified:?}"),
        }
        eventually("all live again", || async {
            let is_well = stack.get("/api/v1/status").await;
            let all = ["supervisor", "monitor", "analyzer", "fixer", "gateway", "nats-server"];
            let missing: Vec<_> = all.into_iter().filter(|it| stack.pids(it).is_empty()).collect();
            if missing.is_empty() { is_well.map(drop) } else { Err(format!("{missing:?}")) }
        })
        .await;
    }
    let log = stack.log();
    let n_notified = log.iter().filter(|it| it["decision"] == "notified").count();
    assert!(2 * N_ROUNDS <= n_notified, "{n_notified}");
}

#[tokio::test]
async fn a_killed_supervisor_loses_and_doubles_no_notice() {
    tells_once("supervisor").await;
}

#[tokio::test]
async fn a_killed_gateway_loses_and_doubles_no_notice() {
    tells_once("gateway").await;
}

#[tokio::test]
async fn a_killed_broker_loses_and_doubles_no_notice() {
    tells_once("nats-server").await;
}
