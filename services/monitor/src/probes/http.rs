//! An HTTP GET is answered as expected.

use std::error::Error;

use futures_util::future::BoxFuture;
use reqwest::{Response, header};
use serde_json::json;
use service::{outgoing::is_forbidden, read_texts};

use super::Question;
use crate::sample::Finding;

/// A body is searched so far.
const BODY_MAX: usize = 1024 * 1024;

/// So much of the body of an unexpected answer is evidence.
const BODY_SHOWN: usize = 500;

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(get(question))
}

async fn get(question: &Question) -> Finding {
    let check = &question.check;
    let client = match question.instruments.http().await {
        Ok(client) => client,
        Err(error) => {
            return Finding::not_asked(format!("cannot set up HTTP: {}", root(&error)));
        }
    };
    let url = check.http.as_deref().unwrap_or_default();
    let mut request = client.get(url).header(header::CONNECTION, "close");
    let headers = match read_texts(&check.headers) {
        Ok(headers) => headers,
        Err(error) => return Finding::not_asked(service::Chain(&error).to_string()),
    };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut response = match request.send().await {
        Ok(response) => response,
        // Its innermost cause says why it is refused.
        Err(error) if error.is_builder() || is_forbidden(&error) => {
            return Finding::not_asked(root(&error));
        }
        Err(error) => return Finding::failed(why(&error)),
    };
    let status = response.status().as_u16();
    let is_expected = if check.status.is_empty() {
        (200..400).contains(&status)
    } else {
        check.status.contains(&status)
    };
    if !is_expected {
        let (body, _) = read(&mut response, BODY_SHOWN, |_| false).await;
        return Finding::failed(format!("answered {status}"))
            .with("status", json!(status))
            .with("body", json!(String::from_utf8_lossy(&body)));
    }
    let Some(wanted) = &check.contains else {
        return Finding::passed(format!("answered {status}")).with("status", json!(status));
    };
    let has_it = |body: &[u8]| String::from_utf8_lossy(body).contains(wanted.as_str());
    match read(&mut response, BODY_MAX, has_it).await {
        (_, Read::Found) => Finding::passed(format!("answered {status} with `{wanted}`")),
        (body, Read::Ended) => {
            let shown = body.get(..BODY_SHOWN.min(body.len())).unwrap_or_default();
            Finding::failed(format!("answered {status} without `{wanted}`"))
                .with("status", json!(status))
                .with("body", json!(String::from_utf8_lossy(shown)))
        }
        (_, Read::Broken(why)) => Finding::failed(format!("answered {status}, then broke: {why}")),
    }
}

/// Why reading a body has stopped.
enum Read {
    Found,
    Ended,
    Broken(String),
}

/// Reads a body until it has what is wanted, ends, or is too long.
async fn read(
    response: &mut Response,
    bytes_max: usize,
    is_enough: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Read) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, Read::Ended),
            Err(error) => return (body, Read::Broken(root(&error))),
        }
        if is_enough(&body) {
            return (body, Read::Found);
        }
        if bytes_max <= body.len() {
            body.truncate(bytes_max);
            return (body, Read::Ended);
        }
    }
}

fn why(error: &reqwest::Error) -> String {
    let root = root(error);
    if error.is_connect() { format!("cannot connect: {root}") } else { root }
}

/// Returns the innermost cause: the outer ones only repeat the address.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
