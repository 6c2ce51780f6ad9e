//! Alerts of a real Prometheus come in, by each of the two ways; what they are about is healed,
//! and its end closes it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{fs, net::SocketAddr};

use rustix::process::{Pid, Signal, kill_process};
use tests::{
    alerting::{Alerting, Way},
    eventually,
    stack::{Stack, directory},
    target::free_address,
};
use tokio::io::AsyncWriteExt as _;

/// A web server that Prometheus scrapes. Our own check looks so seldom that only an alert can
/// tell that it hangs; the process itself lives on.
fn config(dir: &std::path::Path, web: SocketAddr) -> String {
    let (host, port) = (web.ip(), web.port());
    let root = dir.join("web");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("metrics"), "web_up 1\n").unwrap();
    format!(
        "targets:
  - name: web
    select: [{{job: web-server}}]
    process:
      command: [python3, -m, http.server, \"{port}\", --bind, \"{host}\", --directory, {}]
    checks: [{{http: \"http://{web}/metrics\", every: 1h, timeout: 1s}}]
policy:
  budget: {{per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}}
  runbooks: {{restart-hung-process: {{autonomy: auto}}}}
  soak: 500ms
",
        root.display()
    )
}

async fn an_alert_heals_and_its_end_closes(way: Way) {
    let dir = directory("alerting");
    let (web, stranger) = (free_address(), free_address());
    let stack = Stack::up(&dir, &config(&dir, web));
    // It does not run yet: the system starts it.
    stack.until("web", &["resolved"]).await;
    let jobs = [("web-server", web), ("stranger", stranger)];
    let _alerting = Alerting::start(&dir, way, (stack.url(), &stack.token()), &jobs);

    // One that nobody configured opens an incident all the same, and goes to a person.
    let unknown = eventually("the alert of the stranger comes", || async {
        let all = stack.incidents("type=InstanceDown&status=escalated").await?;
        all.first().cloned().ok_or_else(|| format!("{all:#?}"))
    })
    .await;
    assert_eq!(unknown["source"], "alertmanager");
    assert_eq!(unknown["severity"], "critical");

    let pid = fs::read_to_string(dir.join("data/run/web.pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let healed = eventually("the alert is healed", || async {
        let all = stack.incidents("type=InstanceDown&target=web").await?;
        let over = all.iter().find(|it| it["status"] == "resolved");
        over.cloned().ok_or_else(|| format!("{all:#?}"))
    })
    .await;
    assert_eq!(healed["attempt"], 1, "{healed:#}");
    assert!(healed["analysis"].as_str().unwrap().contains("process_stopped"), "{healed:#}");
    let page = reqwest::get(format!("http://{web}/metrics")).await.unwrap();
    assert_eq!(page.status(), 200);

    // The stranger comes up, and the end of the alert closes its incident.
    let listener = tokio::net::TcpListener::bind(stranger).await.unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((mut connection, _)) = listener.accept().await else { return };
            let page =
                "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\nstranger 1\n";
            drop(connection.write_all(page.as_bytes()).await);
            drop(connection.shutdown().await);
        }
    });
    eventually("the end of the alert closes its incident", || async {
        let id = unknown["id"].as_str().unwrap();
        let now = stack.get(&format!("/api/v1/incidents/{id}")).await?;
        if now["status"] == "self_resolved" { Ok(()) } else { Err(format!("{now:#}")) }
    })
    .await;
    stack.until_quiet().await;
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn an_alert_comes_by_the_webhook_of_a_real_alertmanager_and_is_healed() {
    an_alert_heals_and_its_end_closes(Way::Webhook).await;
}

#[tokio::test]
async fn an_alert_comes_straight_from_a_real_prometheus_and_is_healed() {
    an_alert_heals_and_its_end_closes(Way::Direct).await;
}

/// A group of a hundred alerts, none of which was there before.
fn group(n: usize) -> serde_json::Value {
    let alert = |idx: usize| {
        serde_json::json!({"status": "firing", "startsAt": "2026-01-02T03:04:05Z",
            "labels": {"alertname": "Full", "disk": format!("{n}-{idx}")},
            "endsAt": "0001-01-01T00:00:00Z", "fingerprint": format!("{n:08x}{idx:08x}")})
    };
    serde_json::json!({"version": "4", "alerts": (0..100).map(alert).collect::<Vec<_>>()})
}

#[tokio::test]
async fn groups_that_were_accepted_are_neither_lost_nor_doubled_when_all_is_killed() {
    const N_GROUPS: usize = 24;
    let dir = directory("groups");
    let stack = Stack::up(&dir, "policy: {soak: 500ms}\n");
    for n in 0..N_GROUPS {
        match n {
            4 | 16 => assert!(0 < stack.kill("gateway")),
            8 | 17 => assert!(0 < stack.kill("supervisor")),
            12 => assert!(0 < stack.kill("nats-server")),
            _ => {}
        }
        // As a sender does: the same again until it hears 2xx.
        eventually("a group is accepted", || async {
            let answer = stack.post("/integrations/alertmanager", &group(n)).await;
            match answer {
                Ok((202, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    eventually("every alert has its incident", || async {
        let page = stack.get("/api/v1/incidents?limit=1").await?;
        let total = page["total"].as_u64();
        if total == Some(100 * N_GROUPS as u64) { Ok(()) } else { Err(format!("{total:?}")) }
    })
    .await;
    let log = stack.log();
    let opened = log.iter().filter(|it| it["decision"] == "opened").count();
    assert_eq!(opened, 100 * N_GROUPS, "one incident for each, whatever was sent again");
    assert_eq!(stack.stop(), 0);
}
