//! PagerDuty's own client libraries, with only their URL changed.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{path::Path, process::Command};

use serde_json::Value;
use tests::{
    eventually,
    stack::{Stack, directory},
};

/// 32 characters, as every routing key of PagerDuty's.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Runs the script with the libraries in it.
fn clients(dir: &Path, url: &str) -> Value {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../.tools/clients/bin/python");
    assert!(python.exists(), "{} is missing; `.ci/partners.sh` makes it", python.display());
    let script = root.join("partners/pagerduty_client.py");
    let output = Command::new(python)
        .arg(script)
        .args([url, KEY])
        .args([certificate, key])
        .output()
        .unwrap();
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}{errors}"))
}

#[tokio::test]
async fn clients_of_pagerduty_work_when_only_their_url_is_changed() {
    let dir = directory("pagerduty");
    private::write(&dir.join("routing-key"), KEY.as_bytes()).unwrap();
    let config = format!(
        "policy: {{soak: 500ms}}\nintegrations:\n  \
         - {{name: pagerduty, secret: {{routing_keys: [{{file: {}/routing-key}}]}}}}\n",
        dir.display()
    );
    let stack = Stack::up(&dir, &config);
    let told = clients(&dir, stack.url());
    assert_eq!(told["first"], told["again"], "the open alert is updated");
    assert_ne!(told["first"], told["second"]);
    // A key that is none of ours opens nothing, whatever is wrong with it.
    assert_eq!(told["refused"]["error"]["code"], "secret_wrong", "{told}");

    let open = eventually("the first is acknowledged, the second over", || async {
        let all = stack.incidents("").await?;
        let of = |key: &Value| {
            let end = format!("#{}", key.as_str().unwrap_or_default());
            all.iter().find(|it| it["fingerprint"].as_str().is_some_and(|it| it.ends_with(&end)))
        };
        match (of(&told["first"]), of(&told["second"])) {
            (Some(first), Some(second))
                if first["acknowledged_by"].is_string() && second["closed_at"].is_string() =>
            {
                Ok(first.clone())
            }
            _ => Err(format!("{all:#?}")),
        }
    })
    .await;
    assert_eq!(open["count"], 2, "{open:#}");
    assert_eq!(open["severity"], "critical", "the second call did not say how bad it is");
    assert_eq!(open["target"], "db-1.example.org");
    assert_eq!(open["status"], "escalated");
    let changes = stack.log().iter().filter(|it| it["decision"] == "changed").count();
    assert_eq!(changes, 2);
    let log = std::fs::read_to_string(dir.join("data/incident_logs.jsonl")).unwrap();
    assert!(!log.contains(KEY), "a routing key is a secret");
    assert_eq!(stack.stop(), 0);
}
