//! A POST with JSON to a URL.

use std::time::Duration;

use domain::{policy::Notifier, wire::NotifyWork};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use service::Chain;
use tracing::debug;

use super::{Sending, Tools, Way};

pub(super) const WAY: Way = Way { name: "webhook", send };

/// Longest time for one attempt.
pub(super) const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(10);

/// Attempts for one notice; then its failure is reported, and the supervisor decides.
const ATTEMPTS_MAX: u32 = 4;

/// Wait before the second attempt; doubles from there.
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// Longest wait that a receiver may ask for by `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15);

fn send<'a>(tools: &'a Tools, work: &'a NotifyWork, to: &'a Notifier) -> Option<Sending<'a>> {
    let url = to.webhook.as_deref()?;
    Some(Box::pin(post(tools, url, body(work), key(work))))
}

/// The body: what chat programs show (`text`) and what programs read.
fn body(work: &NotifyWork) -> Value {
    json!({
        "text": format!("{}\n{}", work.title, work.text),
        "title": work.title,
        "incident_id": work.work.incident,
        "notice": work.notice,
        "incident": work.incident,
    })
}

/// The same for each attempt and each delivery, so that a receiver can tell a repetition.
fn key(work: &NotifyWork) -> String {
    format!("{}-{}", work.work.incident, work.notice)
}

async fn post(tools: &Tools, url: &str, body: Value, key: String) -> Result<String, String> {
    let mut backoff = BACKOFF_MIN;
    let mut attempt = 1;
    loop {
        let failure = match attempt_once(tools, url, &body, &key).await {
            Ok(status) => return Ok(format!("{} answered {}", host(url), status.as_u16())),
            Err(failure) => failure,
        };
        if !failure.again || ATTEMPTS_MAX <= attempt {
            return Err(format!(
                "{}: {} (attempt {attempt} of {ATTEMPTS_MAX})",
                host(url),
                failure.reason
            ));
        }
        debug!(attempt, reason = failure.reason, "the webhook failed, trying again");
        tokio::time::sleep(failure.wait.unwrap_or(backoff)).await;
        backoff *= 2;
        attempt += 1;
    }
}

struct Failure {
    reason: String,
    again: bool,
    wait: Option<Duration>,
}

async fn attempt_once(
    tools: &Tools,
    url: &str,
    body: &Value,
    key: &str,
) -> Result<StatusCode, Failure> {
    let answer = tools.http.post(url).header("idempotency-key", key).json(body).send().await;
    let answer = answer.map_err(|error| {
        let again = !error.is_builder();
        // The URL of a webhook is a secret in most chat programs.
        let error = error.without_url();
        Failure { reason: Chain(&error).to_string(), again, wait: None }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(status);
    }
    let wait = answer
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = wait.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let again = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT;
    Err(Failure { reason: format!("answered {status}"), again, wait })
}

fn host(url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    parsed
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| "the webhook".to_owned())
}
