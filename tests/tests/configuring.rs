//! The configuration file of running supervisors: held edits, outages, failovers, and size.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Instant};

use bus::{Bus, testing::Broker};
use domain::{
    config::{Config, parse},
    fact::Fact,
    policy::Autonomy,
};
use tests::{
    eventually,
    stack::{binary, directory},
    supervisor::{Supervisor, leader, log, publish, status},
};

const CAREFUL: &str = "\
targets:
  - {name: a, checks: [{tcp: \"127.0.0.1:1\"}]}
policy:
  autonomy: approve
  attempts: 2
";

fn save(dir: &Path, text: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("selfheal.yaml"), text).unwrap();
}

/// Runs the command line against this broker; returns its exit code and what it printed.
fn cli(broker: &Broker, dir: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary("selfheal"));
    command.current_dir(dir).args(args).args(["--nats-url", &broker.url(), "--timeout", "20s"]);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// Returns the configuration that agents follow.
async fn followed(bus: &Bus) -> Result<Config, String> {
    let mut configs = bus.config_store().watch();
    let found =
        tokio::time::timeout(std::time::Duration::from_secs(5), configs.wait_for(Option::is_some));
    let text = found.await.map_err(|error| error.to_string())?.unwrap().clone().unwrap().1;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

async fn is_followed(bus: &Bus, config: &Config) {
    eventually("the configuration is followed", || async {
        let now = followed(bus).await?;
        if now == *config {
            Ok(())
        } else {
            Err(format!("{} targets, {:?}", now.targets.len(), now.policy.autonomy))
        }
    })
    .await;
}

/// Configurations that were ever in force, by the log.
fn were_in_force(dir: &Path) -> Vec<Config> {
    let facts = log(dir).into_iter().map(|it| it.detail.fact);
    let configs = facts.filter_map(|it| {
        if let Fact::Configured { config, .. } = it { Some(*config) } else { None }
    });
    configs.collect()
}

#[tokio::test]
async fn an_edit_that_loosens_is_held_over_restarts_until_a_person_applies_it() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("config-held");
    save(&dir, CAREFUL);
    let supervisor = Supervisor::start(&broker, &dir);
    is_followed(&bus, &parse(CAREFUL).unwrap()).await;
    let loose = CAREFUL.replace("approve", "auto");
    save(&dir, &loose);
    let is_held = || async {
        let held = status(&bus).await?.config_held.ok_or("nothing is held")?;
        if held.differences == ["policy.autonomy: approve -> auto"] {
            Ok(())
        } else {
            Err(format!("{held:?}"))
        }
    };
    eventually("the edit is held", is_held).await;
    eventually("it is reported", || async {
        let told = log(&dir).iter().any(|it| it.incident_type == "selfheal.config_held");
        if told { Ok(()) } else { Err("no incident") }
    })
    .await;
    let (_, shown) = cli(&broker, &dir, &["status"]);
    assert!(shown.contains("configuration held") && shown.contains("approve -> auto"), "{shown}");
    drop(supervisor);
    let _again = Supervisor::start(&broker, &dir);
    leader(&bus).await;
    publish(&bus, "after").await;
    eventually("it is held after a restart", is_held).await;
    assert_eq!(were_in_force(&dir), [parse(CAREFUL).unwrap()]);
    let (code, told) = cli(&broker, &dir, &["apply", "selfheal.yaml"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("policy.autonomy: approve -> auto"), "{told}");
    is_followed(&bus, &parse(&loose).unwrap()).await;
    assert_eq!(status(&bus).await.unwrap().config_held, None);
    eventually("the report is ended", || async {
        let lines = log(&dir);
        let mut of_it = lines.iter().filter(|it| it.incident_type == "selfheal.config_held");
        let last = of_it.next_back().and_then(|it| it.status);
        if last.is_some_and(domain::view::Status::is_over) {
            Ok(())
        } else {
            Err(format!("{last:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn an_edit_while_the_broker_is_away_comes_into_force_when_it_is_back() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("config-away");
    save(&dir, CAREFUL);
    let _supervisor = Supervisor::start(&broker, &dir);
    is_followed(&bus, &parse(CAREFUL).unwrap()).await;
    broker.kill();
    let tight = CAREFUL.replace("approve", "observe");
    save(&dir, &tight);
    eventually("the edit is seen while the broker is away", || async {
        let text = fs::read_to_string(dir.join("stderr")).unwrap_or_default();
        if text.contains("the configuration file has changed") { Ok(()) } else { Err(text) }
    })
    .await;
    broker.restart().await;
    is_followed(&bus, &parse(&tight).unwrap()).await;
}

#[tokio::test]
async fn a_failover_brings_no_old_file_back_into_force() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("config-failover");
    let (first, second) = (dir.join("first"), dir.join("second"));
    let old = CAREFUL.replace("approve", "auto");
    save(&first, &old);
    // Its text was never submitted by anybody.
    save(&second, &format!("# the other host\n{old}"));
    let leads = Supervisor::start(&broker, &first);
    is_followed(&bus, &parse(&old).unwrap()).await;
    let _standby = Supervisor::start(&broker, &second);
    eventually("the other one follows", || async {
        if log(&second).is_empty() { Err("no line yet") } else { Ok(()) }
    })
    .await;
    let observing = CAREFUL.replace("approve", "observe");
    save(&dir, &observing);
    let (code, told) = cli(&broker, &dir, &["apply", "selfheal.yaml"]);
    assert_eq!(code, 0, "{told}");
    is_followed(&bus, &parse(&observing).unwrap()).await;
    drop(leads);
    eventually("the new leader has looked at its file", || async {
        let text = fs::read_to_string(second.join("stderr")).unwrap_or_default();
        if text.contains("is older than the configuration in force") { Ok(()) } else { Err(text) }
    })
    .await;
    publish(&bus, "after").await;
    assert_eq!(followed(&bus).await.unwrap().policy.autonomy, Autonomy::Observe);
    assert_eq!(were_in_force(&second).last(), Some(&parse(&observing).unwrap()));
    // What is changed there from now on counts.
    let edited = observing.replace("attempts: 2", "attempts: 1");
    save(&second, &edited);
    is_followed(&bus, &parse(&edited).unwrap()).await;
}

/// A fleet of processes and containers.
fn fleet(n: usize) -> String {
    let mut text = String::from("policy:\n  autonomy: observe\ntargets:\n");
    for n in 0..n {
        let handle = if n % 2 == 0 {
            format!("docker: {{container: shop-{n}}}")
        } else {
            format!("process: {{command: [\"/usr/bin/shop\", \"--instance\", \"{n}\"]}}")
        };
        writeln!(text, "  - {{name: shop-{n}, labels: {{app: shop}}, {handle}, checks: [{{tcp: \"127.0.0.1:1\", every: 60s}}]}}")
            .unwrap();
    }
    text
}

fn rss_mib(supervisor: &Supervisor) -> u64 {
    let pid = supervisor.pid().as_raw_nonzero();
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|it| it.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn ten_thousand_targets_are_checked_followed_edited_and_restored() {
    const N: usize = 10_000;
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("config-large");
    let text = fleet(N);
    save(&dir, &text);
    let (code, told) = cli(&broker, &dir, &["check", "selfheal.yaml"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("10000 targets"), "{told}");
    let begun = Instant::now();
    let supervisor = Supervisor::start(&broker, &dir);
    is_followed(&bus, &parse(&text).unwrap()).await;
    let first = begun.elapsed();
    assert_eq!(status(&bus).await.unwrap().n_targets, N);
    let edited = text.replace("name: shop-5000,", "name: shop-5000, soak: 9s,");
    let begun = Instant::now();
    save(&dir, &edited);
    is_followed(&bus, &parse(&edited).unwrap()).await;
    let edit = begun.elapsed();
    let rss = rss_mib(&supervisor);
    let bytes = (text.len(), fs::metadata(dir.join("incident_logs.jsonl")).unwrap().len());
    drop(supervisor);

    // The ledger alone tells it, and so does the log alone.
    let elsewhere = dir.join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let begun = Instant::now();
    let supervisor = Supervisor::start(&broker, &elsewhere);
    eventually("the ledger is folded", || async {
        let n = status(&bus).await?.n_targets;
        if n == N { Ok(()) } else { Err(n.to_string()) }
    })
    .await;
    let folded = begun.elapsed();
    drop(supervisor);
    let other = Broker::start().await;
    let (code, told) = cli(&other, &dir, &["restore", "--data-dir", "."]);
    assert_eq!(code, 0, "{told}");
    let _restored = Supervisor::start(&other, &dir);
    let bus = other.bus().await.unwrap();
    is_followed(&bus, &parse(&edited).unwrap()).await;
    #[expect(clippy::print_stderr, reason = "a measurement")]
    {
        eprintln!(
            "{N} targets: text {} B, log {} B; in force after {first:?}, an edit after {edit:?}, folded after {folded:?}; supervisor {rss} MiB",
            bytes.0, bytes.1
        );
    }
}
