//! `docker compose up` as a person would do it: scaled agents, a killed container, what each may do.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::containers::Compose;

/// A container stops, is seen, diagnosed, started, verified with the soak; on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        match look() {
            Ok(seen) => return seen,
            Err(last) => assert!(start.elapsed() < PATIENCE, "not in time: {what}; last: {last}"),
        }
    }
}

fn incidents(compose: &Compose, filter: &str) -> Result<Vec<Value>, String> {
    let page = compose.get(&format!("/api/v1/incidents?{filter}"));
    let page = page.map_err(|error| format!("{error:#}"))?;
    Ok(page["incidents"].as_array().cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_killed_container_is_healed_once_by_scaled_agents() {
    let compose = Compose::up("heal", &[("fixer", 3), ("analyzer", 2), ("monitor", 2)]).unwrap();
    let members = compose.get("/api/v1/status").unwrap();
    publish_as_stranger(&compose).await;
    assert_eq!(compose.request("GET", "/api/v1/incidents", "", false).unwrap().0, 401);

    compose.run(&["kill", "db"]).unwrap();
    let resolved = eventually("the database's incident is resolved", || {
        let found = incidents(&compose, "target=database&status=resolved")?;
        found.into_iter().next().ok_or_else(|| {
            let all = incidents(&compose, "").unwrap_or_default();
            format!("{all:#?}; status: {members}")
        })
    })
    .await;
    assert_eq!(resolved["attempt"], 1, "{resolved:#}");
    assert!(resolved["analysis"].is_string() && resolved["resolution"].is_string(), "{resolved:#}");
    eventually("no incident of the shop is left open", || {
        let mut open = incidents(&compose, "open=true")?;
        open.retain(|incident| incident["target"].is_string());
        if open.is_empty() { Ok(()) } else { Err(format!("{open:#?}")) }
    })
    .await;

    // The target's own count: started by compose, and once by a fixer.
    let starts = compose.run(&["exec", "-T", "db", "cat", "/var/lib/selfheal/starts"]).unwrap();
    assert_eq!(starts.lines().count(), 2, "{starts}");
    let shop = compose.run(&[
        "exec",
        "-T",
        "orders",
        "selfheal",
        "health",
        "http://127.0.0.1:8081/health",
    ]);
    shop.unwrap();

    // Nobody was denied what it needs, and nobody tried what it may not do.
    let logs = compose.run(&["logs", "--no-color"]).unwrap();
    let denied: Vec<&str> = logs.lines().filter(|line| line.contains("not permit")).collect();
    assert!(denied.is_empty(), "{denied:#?}");

    let log = compose.run(&["exec", "-T", "supervisor", "cat", "incident_logs.jsonl"]).unwrap();
    for (idx, line) in log.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["seq"].as_u64(), u64::try_from(idx + 1).ok(), "{line}");
        for field in ["incident_id", "timestamp", "incident_type", "analysis", "resolution"] {
            assert!(line.get(field).is_some(), "{field} is missing: {line}");
        }
    }
}

/// Goal: who can ask the engine learns no password, and the log can be verified with the keys that
/// were made.
#[tokio::test]
async fn secrets_are_in_no_environment_and_the_log_is_signed() {
    let compose = Compose::up("secrets", &[]).unwrap();
    let services = compose.run(&["ps", "--quiet"]).unwrap();
    for id in services.lines() {
        let told = std::process::Command::new("docker").args(["inspect", id]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        for name in ["SUPERVISOR", "MONITOR", "FIXER", "GATEWAY", "PUBLISHER"] {
            let password = compose.variable(&format!("NATS_{name}_PASSWORD")).unwrap();
            assert!(!told.contains(password), "{name}: {told}");
        }
        assert!(!told.contains(compose.variable("SELFHEAL_API_TOKEN").unwrap()), "{told}");
    }
    let verify = ["exec", "-T", "supervisor", "selfheal", "log", "verify", "--json"];
    let report: Value = serde_json::from_str(&compose.run(&verify).unwrap()).unwrap();
    assert!(report["ok"] == true && report["signature"] == "signed", "{report}");
    assert!(0 < report["lines"].as_u64().unwrap(), "{report}");
}

/// Goal: a second supervisor, on a disk of its own, decides when the first one dies, and the
/// other way round; both keep the whole log.
#[tokio::test]
async fn of_two_supervisors_either_may_be_killed() {
    let compose = Compose::up_with_profiles("standby", &[], "standby").unwrap();
    let supervisors = ["supervisor", "supervisor-standby"];
    for (n, dies) in supervisors.into_iter().enumerate() {
        compose.run(&["kill", dies]).unwrap();
        let body = format!(r#"{{"type": "door.open_{n}", "source": "porter"}}"#);
        eventually("the other one decides", || {
            let answered = compose.request("POST", "/publish_event", &body, true);
            let (status, answer) = answered.map_err(|error| format!("{error:#}"))?;
            if status == 200 { Ok(()) } else { Err(format!("{status}: {answer}")) }
        })
        .await;
        compose.run(&["up", "--detach", "--wait", dies]).unwrap();
    }
    let log = |of| compose.run(&["exec", "-T", of, "cat", "incident_logs.jsonl"]);
    eventually("both logs are whole and the same", || {
        let logs = supervisors.map(|of| log(of).unwrap_or_else(|error| format!("{error:#}")));
        let both = (0..2).all(|n| logs[0].contains(&format!("door.open_{n}")));
        if both && logs[0] == logs[1] { Ok(()) } else { Err(logs.join("\n---\n")) }
    })
    .await;
}

/// Publishes a plain event and a CloudEvent with the publisher's user, and waits for their incidents.
async fn publish_as_stranger(compose: &Compose) {
    let address = compose.address("nats", 4222).unwrap();
    let password = compose.variable("NATS_PUBLISHER_PASSWORD").unwrap().to_owned();
    let client = async_nats::ConnectOptions::with_user_and_password("publisher".into(), password)
        .custom_inbox_prefix("_INBOX_publisher")
        .connect(address)
        .await
        .unwrap();
    let stream = async_nats::jetstream::new(client);
    let plain = r#"{"type": "door.open", "source": "porter", "payload": {"door": 1}}"#;
    let cloud = r#"{"specversion": "1.0", "id": "7", "source": "/porter", "type": "door.broken",
        "datacontenttype": "application/json", "data": {"door": 2}}"#;
    for (subject, body) in
        [("selfheal.event.door.open", plain), ("selfheal.event.door.broken", cloud)]
    {
        stream.publish(subject.to_owned(), body.into()).await.unwrap().await.unwrap();
        let kind = subject.trim_start_matches("selfheal.event.");
        eventually("an incident is opened for the stranger's event", || {
            let found = incidents(compose, &format!("type={kind}"))?;
            found.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await;
    }
}
