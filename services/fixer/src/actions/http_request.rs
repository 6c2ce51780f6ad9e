//! `http.request`: sends one HTTP request.

use std::{fmt::Write as _, time::Duration};

use domain::{
    action::{Action, ActionName},
    redact,
};
use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use service::{
    Chain,
    outgoing::{Client, is_forbidden},
};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied, Setting},
    output::{HeadTail, OUTPUT_BYTES_MAX},
    secrets,
};

/// Most bytes read of an answer; more would only be cut away.
const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(super) const LISTED: Listed =
    Listed { name: ActionName::HttpRequest, by_default: false, permit, run };

fn permit(action: &Action, allow: &AllowList, _: Setting<'_>) -> Result<(), Denied> {
    let Action::HttpRequest { url, .. } = action else { return Ok(()) };
    allow.url(url)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::HttpRequest { method, url, headers, body, status } = action else {
            return Err(Failure::misled(action));
        };
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|error| Failure::of(&error, "use GET, POST, PUT, PATCH or DELETE"))?;
        let client = client(tools).await?;
        let mut request = client
            .request(method.clone(), url)
            .headers(header_map(&secrets::read_all(headers)?)?)
            .timeout(attempt.remaining());
        if let Some(body) = body {
            request = request.body(secrets::read(body)?);
        }
        let what = format!("{method} {}", redact::text(url));
        let answer = request.send().await.map_err(|error| unanswered(&what, &error, attempt))?;
        let got = answer.status();
        let told = format!("{what} answered {got}");
        let output = secrets::hidden(text_of(answer).await, &secrets::of(headers)?);
        let wanted =
            if status.is_empty() { got.is_success() } else { status.contains(&got.as_u16()) };
        if wanted {
            return Ok(Done { summary: told, output, is_idle: false });
        }
        let mut reason = format!("{told}, expected ");
        match status.as_slice() {
            [] => reason.push_str("200 to 299"),
            // Writing to a string cannot fail.
            some => drop(write!(reason, "{some:?}")),
        }
        Err(Failure { output, ..Failure::new(reason) })
    })
}

/// Returns the client, which follows redirects only within one host.
pub(crate) async fn client(tools: &Tools) -> Result<&Client, Failure> {
    let make = || async {
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("selfheal-fixer/", env!("CARGO_PKG_VERSION")))
            // A proxy of our environment must not see what is meant for a target.
            .no_proxy()
            .pool_max_idle_per_host(0);
        // A redirect may not lead where the local list was not asked about.
        tools.allow.outgoing().client_within_host(builder)
    };
    tools
        .http
        .get_or_try_init(make)
        .await
        .map_err(|error| Failure::of(&error, "this is a fault of the fixer: please report it"))
}

fn header_map(headers: &std::collections::BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let wrong = |error: &(dyn std::error::Error + 'static)| {
            Failure::of(error, &format!("correct the header `{name}`"))
        };
        let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
        map.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(&error))?, value);
    }
    Ok(map)
}

fn unanswered(what: &str, error: &reqwest::Error, attempt: &Attempt) -> Failure {
    if is_forbidden(error) {
        return Failure::refused(redact::text(&Chain(error).to_string()));
    }
    if error.is_timeout() {
        return Failure::timed_out(what, attempt.timeout);
    }
    let reason = redact::text(&Chain(error).to_string()).into_owned();
    Failure::new(format!(
        "{reason}; see that the address is right and can be reached from the fixer"
    ))
}

async fn text_of(mut answer: Response) -> String {
    let mut output = HeadTail::new(OUTPUT_BYTES_MAX);
    let mut n_bytes = 0;
    while let Ok(Some(part)) = answer.chunk().await {
        output.push(&part);
        n_bytes += part.len();
        if BODY_BYTES_MAX < n_bytes {
            break;
        }
    }
    output.into_text()
}
