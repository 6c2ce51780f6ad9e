//! The person on call: approves what waits for it, and has another try made of what was
//! escalated and can be healed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clients::Http;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(4);

/// Looks at the list of what waits for a person until `stop`.
pub async fn be_on_call(http: Http, targets: Vec<String>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for target in &targets {
            let path =
                format!("/api/v1/incidents?status=escalated,awaiting_approval&target={target}");
            // Whoever does not answer is asked again at the next look.
            let Some(Ok(page)) = stop.run_until_cancelled(http.get_anywhere(&path)).await else {
                continue;
            };
            let incidents = page.get("incidents").and_then(Value::as_array);
            for incident in incidents.into_iter().flatten() {
                let _acted = stop.run_until_cancelled(act(&http, incident)).await;
            }
        }
    }
}

async fn act(http: &Http, incident: &Value) -> Option<()> {
    let id = incident.get("id")?.as_str()?;
    let (verb, body) = match incident.get("status")?.as_str()? {
        "awaiting_approval" => {
            let hash = incident.get("plan")?.get("hash")?;
            ("approve", json!({"plan_hash": hash, "by": "on-call"}))
        }
        _ => ("retry", json!({"by": "on-call"})),
    };
    let path = format!("/api/v1/incidents/{id}/{verb}");
    // A refusal is a fair answer: the incident may have moved on.
    drop(http.post_anywhere(&path, &body).await);
    Some(())
}
