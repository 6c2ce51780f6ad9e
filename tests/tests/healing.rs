//! The whole loop on real processes: detect, open, diagnose, fix, verify, close, log.

use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory},
    target::Target,
};

/// A policy under which a target may be killed as often as a test wants.
const POLICY: &str = "
policy:
  budget: {per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}
  soak: 500ms
";

fn config(targets: &[String], policy: &str) -> String {
    if targets.is_empty() {
        return policy.to_owned();
    }
    format!("targets:\n{}\n{policy}", targets.join("\n"))
}

fn store_with_port(store: &Target) -> String {
    format!(
        "  - name: {}\n    {}\n    checks: [{{tcp: \"{}\"}}]",
        store.name,
        store.handle(),
        store.address
    )
}

fn shop_with_health(shop: &Target) -> String {
    format!(
        "  - name: {}\n    {}\n    depends_on: [database]\n    checks: [{{http: \"http://{}/health\", every: 200ms}}]",
        shop.name,
        shop.handle(),
        shop.address
    )
}

#[tokio::test]
async fn a_killed_process_is_healed_proven_and_logged() {
    let dir = directory("heal");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&[store_with_port(&store)], POLICY));

    assert!(store.kill());
    let incident = stack.until("database", &["resolved"]).await;
    assert!(store.answers());
    assert_eq!(store.attempts().len(), 1, "one fix, counted by the target");
    assert_eq!(incident["attempt"], 1);
    let wanted = ["opened", "diagnosed", "fix_started", "fix_ended", "verified", "resolved"];
    let decisions = stack.decisions("database");
    let mut rest = decisions.iter();
    for want in wanted {
        assert!(rest.any(|it| it == want), "{want} is missing, or out of order: {decisions:?}");
    }
    let log = stack.log();
    let last = log.iter().rfind(|it| it["incident_id"] == incident["id"]).unwrap();
    assert!(last["analysis"].as_str().unwrap().contains("process"), "{last}");
    assert!(last["resolution"].as_str().unwrap().contains("samples"), "{last}");
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn the_documented_event_is_answered_and_a_healthy_target_is_left_alone() {
    let dir = directory("event");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&[store_with_port(&store)], POLICY));

    let event = json!({"type": "service_down", "source": "external",
        "payload": {"service": "database", "timestamp": "2025-08-18T12:34:56Z"}});
    let (status, answer) = stack.post("/publish_event", &event).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["status"], "incident_opened");
    assert_eq!(answer["message"], "Incident logged and under analysis.");
    let fields: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["incident_id", "message", "status"], "exactly as documented");
    // The answer comes after the line.
    assert!(stack.log().iter().any(|it| it["incident_id"] == answer["incident_id"]));

    let incident = stack.until("database", &["self_resolved"]).await;
    assert!(incident["analysis"].is_string() && incident["resolution"].is_string());
    assert!(store.attempts().is_empty(), "nothing was wrong, so nothing was done");

    let (_, answer) = stack
        .post("/publish_event", &json!({"type": "odd", "payload": {"service": "nobody"}}))
        .await
        .unwrap();
    assert_eq!(answer["status"], "incident_opened");
    let incident = stack.until("nobody", &["escalated"]).await;
    assert!(incident["analysis"].is_string() && incident["waiting"].is_string());
}

#[tokio::test]
async fn a_dead_dependency_is_one_fix_and_its_symptom_closes_with_it() {
    let dir = directory("dependency");
    let store = Target::store(&dir, &["--start-delay-ms", "1500"]);
    let shop = Target::shop(&dir, &store);
    store.start().await;
    shop.start().await;
    let targets = [store_with_port(&store), shop_with_health(&shop)];
    let stack = Stack::up(&dir, &config(&targets, POLICY));

    assert!(store.kill());
    let symptom = stack.until("shop", &["merged"]).await;
    let cause = stack.until("database", &["resolved"]).await;
    assert_eq!(symptom["symptom_of"], cause["id"], "{symptom:#}");
    stack.until("shop", &["resolved"]).await;
    assert_eq!(store.attempts().len(), 1);
    assert!(shop.attempts().is_empty(), "the symptom is not fixed");
    let log = stack.log();
    let fixes = log.iter().filter(|it| it["decision"] == "fix_started").count();
    assert_eq!(fixes, 1);
}

#[tokio::test]
async fn what_cannot_be_healed_is_escalated_after_bounded_attempts() {
    let dir = directory("hopeless");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let policy = format!("{POLICY}  backoff: 200ms\n  verify_within: 2s\n");
    let stack = Stack::up(&dir, &config(&[store_with_port(&store)], &policy));
    // From now on every start fails: its file is a directory.
    std::fs::remove_file(dir.join("store.aof")).unwrap_or_default();
    std::fs::create_dir_all(dir.join("store.aof")).unwrap();
    assert!(store.kill());
    let incident = stack.until("database", &["escalated"]).await;
    let n_attempts = incident["attempt"].as_u64().unwrap();
    assert!((1..=3).contains(&n_attempts), "{incident:#}");
    let detail =
        stack.get(&format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap())).await;
    let detail = detail.unwrap();
    assert!(!detail["evidence"].as_array().unwrap().is_empty(), "{detail:#}");
    assert!(stack.log().iter().all(|it| it["status"] != "resolved"), "not called resolved");
    // No restart loop: the log stays as it is while the monitor looks on.
    let before = stack.log().iter().filter(|it| it["decision"] == "fix_started").count();
    assert_eq!(u64::try_from(before).unwrap(), n_attempts);

    // A person mends it, and asks for another try.
    std::fs::remove_dir_all(dir.join("store.aof")).unwrap();
    let path = format!("/api/v1/incidents/{}/retry", incident["id"].as_str().unwrap());
    let (status, answer) = stack.post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    stack.until("database", &["resolved"]).await;
    assert!(store.answers());
}

#[tokio::test]
async fn nothing_runs_before_the_approval_of_exactly_that_plan() {
    let dir = directory("approve");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(
        &dir,
        &config(&[store_with_port(&store)], &format!("{POLICY}  autonomy: approve\n")),
    );
    assert!(store.kill());
    let incident = stack.until("database", &["awaiting_approval"]).await;
    let path = format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap());
    let wrong = json!({"plan_hash": "0".repeat(64)});
    let (status, answer) = stack.post(&format!("{path}/approve"), &wrong).await.unwrap();
    assert_eq!(status, 409, "{answer}");
    assert!(store.attempts().is_empty(), "nothing ran");
    assert!(!store.answers());
    let right = json!({"plan_hash": incident["plan"]["hash"]});
    let (status, answer) = stack.post(&format!("{path}/approve"), &right).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    stack.until("database", &["resolved"]).await;
    assert_eq!(store.attempts().len(), 1);
    let decisions = stack.decisions("database");
    let at = |name: &str| decisions.iter().position(|it| it == name);
    assert!(at("approved") < at("fix_started"), "{decisions:?}");
}

#[tokio::test]
async fn an_approval_comes_too_late_when_its_time_is_over() {
    let dir = directory("expiry");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let policy = format!("{POLICY}  autonomy: approve\n  approval_timeout: 1s\n");
    let stack = Stack::up(&dir, &config(&[store_with_port(&store)], &policy));
    assert!(store.kill());
    let incident = stack.until("database", &["escalated"]).await;
    let path = format!("/api/v1/incidents/{}/approve", incident["id"].as_str().unwrap());
    let (status, answer) = stack.post(&path, &json!({"plan_hash": "0"})).await.unwrap();
    assert_eq!(status, 409, "{answer}");
    assert!(store.attempts().is_empty());
}

#[tokio::test]
async fn a_pause_stops_new_fixes_and_a_resume_lets_them_go_on() {
    let dir = directory("pause");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&[store_with_port(&store)], POLICY));
    let (status, _) = stack.post("/api/v1/pause", &json!({"reason": "a test"})).await.unwrap();
    assert_eq!(status, 200);
    assert!(store.kill());
    let incident = stack.until("database", &["proposed"]).await;
    assert!(incident["waiting"].as_str().unwrap().contains("kill switch"), "{incident:#}");
    assert!(store.attempts().is_empty());
    let (status, _) = stack.post("/api/v1/resume", &json!({})).await.unwrap();
    assert_eq!(status, 200);
    stack.until("database", &["resolved"]).await;
    assert_eq!(store.attempts().len(), 1);
}

#[tokio::test]
async fn a_changed_configuration_is_taken_live_and_a_bad_one_is_refused() {
    let dir = directory("reload");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let stack = Stack::up(&dir, &config(&[], POLICY));
    let n_targets =
        || async { stack.get("/api/v1/status").await.map(|it| it["system"]["n_targets"].clone()) };
    let want =
        |n: u64| move |seen: Value| if seen == json!(n) { Ok(()) } else { Err(seen.to_string()) };
    std::fs::write(dir.join("selfheal.yaml"), "targets: [{nam: x}]").unwrap();
    eventually("the bad file is told", || async {
        let log = std::fs::read_to_string(dir.join("up.log")).unwrap_or_default();
        if log.contains("selfheal.yaml:1:") { Ok(()) } else { Err("not told") }
    })
    .await;
    want(0)(n_targets().await.unwrap()).unwrap();
    std::fs::write(dir.join("selfheal.yaml"), config(&[store_with_port(&store)], POLICY)).unwrap();
    eventually("the target is known", || async { want(1)(n_targets().await?) }).await;
    assert!(store.kill());
    stack.until("database", &["resolved"]).await;
}

#[tokio::test]
async fn targets_that_are_dead_from_the_start_are_all_started_and_nobody_is_woken() {
    let dir = directory("cold");
    let store = Target::store(&dir, &[]);
    let shop = Target::shop(&dir, &store);
    let targets = [store_with_port(&store), shop_with_health(&shop)];
    let stack = Stack::up(&dir, &config(&targets, POLICY));
    eventually("both answer", || async {
        if store.answers() && shop.answers() { Ok(()) } else { Err(stack.decisions("shop")) }
    })
    .await;
    stack.until_quiet().await;
    assert_eq!((store.attempts().len(), shop.attempts().len()), (1, 1));
    assert!(stack.log().iter().all(|it| it["decision"] != "escalated"));

    // And so when both die at once.
    assert!(store.kill() && shop.kill());
    eventually("both answer again", || async {
        if store.answers() && shop.answers() { Ok(()) } else { Err(stack.decisions("shop")) }
    })
    .await;
    stack.until_quiet().await;
    assert_eq!((store.attempts().len(), shop.attempts().len()), (2, 2));
    assert!(stack.log().iter().all(|it| it["decision"] != "escalated"));
}

#[tokio::test]
async fn a_fix_that_breaks_a_neighbour_is_taken_back() {
    let dir = directory("regression");
    let store = Target::store(&dir, &[]);
    let shop = Target::shop(&dir, &store);
    store.start().await;
    shop.start().await;
    let marker = dir.join("undone");
    // The cure of `flag` (a file that must be there) kills the shop, which needs it.
    let flag = dir.join("flag");
    std::fs::write(&flag, "").unwrap();
    let runbook = format!(
        "runbooks:
  - name: make-flag
    title: Make the flag, at somebody's cost
    when: {{events: [service_down], targets: [flag]}}
    risk: low
    steps:
      - {{action: command.run, command: [touch, {flag}]}}
      - {{action: command.run, command: [pkill, -9, -F, {pid_file}], undo: {{action: command.run, command: [touch, {marker}]}}}}
",
        flag = flag.display(),
        pid_file = dir.join("data/run/shop.pid").display(),
        marker = marker.display(),
    );
    let flag_target = format!(
        "  - name: flag\n    checks: [{{command: [test, -e, {}], every: 100ms, fail_after: 1}}]",
        flag.display()
    );
    let shop_target = shop_with_health(&shop).replace("[database]", "[flag]");
    let targets = [flag_target, shop_target];
    let stack = Stack::up(&dir, &format!("{}{runbook}", config(&targets, POLICY)));
    eventually("the flag is watched", || async {
        let status = stack.get("/api/v1/status").await?;
        if status["system"]["n_targets"] == 2 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    std::fs::remove_file(&flag).unwrap();
    let incident = stack.until("flag", &["escalated", "resolved"]).await;
    assert_eq!(incident["status"], "escalated", "{incident:#}");
    assert!(marker.exists(), "taken back: {:?}", stack.decisions("flag"));
    assert!(stack.decisions("flag").iter().any(|it| it == "undo_ended"));
    // The victim is healed by itself.
    eventually("the shop answers", || async {
        if shop.answers() { Ok(()) } else { Err(stack.decisions("shop")) }
    })
    .await;
}

/// After a reboot nothing runs. Each target needs one of the level before.
#[tokio::test]
async fn thirty_targets_in_six_levels_come_up_well_within_a_minute() {
    let dir = directory("levels");
    let name = |level: usize, n: usize| format!("t{level}{n}");
    let targets: Vec<_> = (0..30)
        .map(|it| {
            let (level, n) = (it / 5, it % 5);
            let needs = if level == 0 { String::new() } else { name(level - 1, n) };
            format!(
                "  - name: {}\n    process: {{command: [sleep, \"300\"]}}\n    depends_on: [{needs}]",
                name(level, n)
            )
        })
        .collect();
    let begun = std::time::Instant::now();
    let stack = Stack::up(&dir, &config(&targets, "policy: {soak: 3s}\n"));
    for n in 0..5 {
        stack.until(&name(5, n), &["resolved"]).await;
    }
    let took = begun.elapsed();
    assert!(took.as_secs() < 50, "{took:?}");
    // Nothing is started before what it needs is healthy.
    let log = stack.log();
    let first = |target: &str, decision: &str| {
        let is_it = |it: &&Value| it["target"] == target && it["decision"] == decision;
        log.iter().find(is_it).and_then(|it| it["seq"].as_u64())
    };
    for (level, n) in (1..6).flat_map(|level| (0..5).map(move |n| (level, n))) {
        let needed = first(&name(level - 1, n), "resolved");
        let started = first(&name(level, n), "fix_started");
        assert!(needed.is_some() && needed < started, "{level} {n}: {needed:?} {started:?}");
    }
    assert!(stack.decisions("t50").contains(&"fix_started".to_owned()));
}

/// Its start command puts it into the background, where it is ready after six seconds.
#[tokio::test]
async fn a_daemon_that_starts_slowly_is_verified_within_its_start_period() {
    let dir = directory("daemon");
    // Where the end of the test finds it.
    let pid_file = dir.join("data/run/own.pid");
    let script = format!(
        "(sleep 6; exec sh -c 'echo $$ > {}; exec sleep 300') >/dev/null 2>&1 &",
        pid_file.display()
    );
    let target = format!(
        "  - name: daemon\n    process: {{command: [sh, -c, {}], pid_file: {}}}\n    start_period: 20s",
        json!(script),
        json!(pid_file.display().to_string()),
    );
    let stack = Stack::up(&dir, &config(&[target], POLICY));
    let incident = stack.until("daemon", &["resolved", "self_resolved"]).await;
    assert_eq!(incident["status"], "resolved", "{incident:#}");
    assert_eq!((&incident["attempt"], &incident["bring_up"]), (&json!(1), &json!(true)));
    let decisions = stack.decisions("daemon");
    assert!(!decisions.contains(&"not_verified".to_owned()), "{decisions:?}");
}
