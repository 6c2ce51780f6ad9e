//! Requests to those who are told: tried a few times, and never sent again when they may have
//! arrived and doing so would tell somebody twice.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, header};
use service::Chain;
use tokio::time::sleep;
use tracing::debug;

/// Longest time for one attempt.
pub(crate) const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(10);

/// Attempts in a row; then the failure is reported, and the supervisor decides.
const ATTEMPTS_MAX: u32 = 4;

/// Wait before the second attempt; doubles from there.
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// Longest wait that a receiver may ask for by `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15);

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What happened, without anything secret.
    pub(crate) reason: String,
    /// Whether it may have arrived even so.
    pub(crate) may_have_arrived: bool,
}

struct Attempt {
    trouble: Trouble,
    again: bool,
    wait: Option<Duration>,
}

/// Sends a request until it is answered with success. `is_harmless` says that the receiver
/// knows a repetition, so that one that may have arrived is sent again, too.
///
/// # Errors
///
/// [`Trouble`] after the last attempt, or at once when another would be of no use.
pub(crate) async fn send(
    host: &str,
    is_harmless: bool,
    request: impl Fn() -> RequestBuilder,
) -> Result<Response, Trouble> {
    let mut backoff = BACKOFF_MIN;
    let mut attempt = 1;
    // Once one may have arrived, no later failure takes that back.
    let mut may_have_arrived = false;
    loop {
        let failed = match once(request()).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        may_have_arrived |= failed.trouble.may_have_arrived;
        let again = failed.again && (is_harmless || !may_have_arrived);
        if !again || ATTEMPTS_MAX <= attempt {
            let reason = failed.trouble.reason;
            let reason = format!("{host}: {reason} (attempt {attempt} of {ATTEMPTS_MAX})");
            return Err(Trouble { reason, may_have_arrived });
        }
        debug!(attempt, reason = failed.trouble.reason, "a receiver did not take it, trying again");
        sleep(failed.wait.unwrap_or(backoff)).await;
        backoff *= 2;
        attempt += 1;
    }
}

async fn once(request: RequestBuilder) -> Result<Response, Attempt> {
    let answer = request.send().await.map_err(|error| {
        let again = !error.is_builder();
        let may_have_arrived = again && !error.is_connect();
        // The URL of a webhook is a secret in most chat programs.
        let reason = Chain(&error.without_url()).to_string();
        Attempt { trouble: Trouble { reason, may_have_arrived }, again, wait: None }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let wait = retry_after(&answer);
    let again = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT;
    // Something in between gave up waiting; what stands behind it may have taken it.
    let may_have_arrived = status == StatusCode::GATEWAY_TIMEOUT;
    let trouble = Trouble { reason: format!("answered {status}"), may_have_arrived };
    Err(Attempt { trouble, again, wait })
}

/// Returns how long the receiver asks to wait, within the limit.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Returns the host of a URL: the rest may be secret.
pub(crate) fn host(url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    parsed
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| "the receiver".to_owned())
}
