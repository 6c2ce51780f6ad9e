//! The HTTP interface against its own document: `schemathesis` makes requests of it, right and
//! wrong ones, and compares every answer with what the document says.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bus::testing::Broker;
use serde_json::Value;
use tests::{
    stack::{binary, directory},
    supervisor::{Supervisor, leader},
};

/// The version that `.ci/partners.sh` installs.
const VERSION: &str = "4.32.5";

const TOKEN: &str = "a-token-that-is-long-enough";

/// Returns the program: fetched before, or on the path.
fn schemathesis() -> PathBuf {
    let fetched = "../.tools/schemathesis/bin/schemathesis";
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(fetched);
    let program = if fetched.exists() { fetched } else { "schemathesis".into() };
    let version = Command::new(&program).arg("--version").output();
    let said = version.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let said = said.unwrap_or_else(|error| error.to_string());
    assert!(
        said.contains(VERSION),
        "schemathesis {VERSION} is needed: run `.ci/partners.sh`, which puts it below .tools/; found: {said}"
    );
    program
}

/// A gateway that asks for a token. Killed when dropped.
struct Gateway {
    child: Child,
    url: String,
}

impl Gateway {
    fn start(broker: &Broker) -> Self {
        let mut child = Command::new(binary("selfheal-gateway"))
            .args(["--nats-url", &broker.url(), "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("SELFHEAL_API_TOKEN", TOKEN)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let listening = lines.find(|line| line["message"] == "listening").unwrap();
        let url = format!("http://{}", listening["address"].as_str().unwrap());
        // What it says must be read, or it waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let program = schemathesis();
    let broker = Broker::start().await;
    let dir = directory("contract");
    let _supervisor = Supervisor::start(&broker, &dir.join("supervisor"));
    let bus = broker.connect().await.unwrap();
    leader(&bus).await;
    // Before the gateway knows which doors there are, it asks senders to come again.
    bus.config_store().put("{}".into(), 0).await.unwrap();
    let gateway = Gateway::start(&broker);
    let output = Command::new(program)
        .arg("run")
        .arg(format!("{}/openapi.json", gateway.url))
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        // A stream has no end: tests of the gateway read it.
        .args(["--exclude-path", "/api/v1/stream"])
        // A configuration that was made up would change what all others are tried against; and
        // whether one is taken depends on more than its form.
        .args(["--exclude-path", "/api/v1/config"])
        // No form says which text is an expression; and what is silenced, others do not hear of.
        .args(["--exclude-operation-id", "silence"])
        // The same holds for the matchers of a list; a real `amtool` reads what that answers.
        .args(["--exclude-operation-id", "listAlerts"])
        // One worker: Python 3.11 cannot parse in two threads at once, which hypothesis does.
        .args(["--max-examples", "30", "--seed", "1", "--workers", "1", "--continue-on-failure"])
        .args(["--request-timeout", "20", "--no-color"])
        .current_dir(&dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("generated"), "it says how much it has tried: {said}");
    let _left_over = std::fs::remove_dir_all(&dir);
}
