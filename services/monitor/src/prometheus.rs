//! What a Prometheus answers to a query now, for checks and for diagnoses.

use std::collections::BTreeMap;

use domain::secret::Text;
use serde::Deserialize;
use serde_json::{Map, Value};
use service::read_texts;

use crate::instruments::Instruments;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The answer of `/api/v1/query`, as the HTTP API of Prometheus describes it.
#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// One series: its labels, and its value at a time, in seconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Series {
    #[serde(default)]
    pub(crate) metric: Map<String, Value>,
    pub(crate) value: (f64, String),
}

/// Why there are no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The question has a mistake: another try changes nothing.
    #[error("{0}")]
    Mistake(String),
    /// There was no answer that can be read.
    #[error("{0}")]
    Unanswered(String),
}

/// Asks for the series that fit a query now.
///
/// # Errors
///
/// When there is no answer that can be read.
pub(crate) async fn ask(
    instruments: &Instruments,
    url: &str,
    query: &str,
    headers: &BTreeMap<String, Text>,
) -> Result<Vec<Series>, Failure> {
    let client = instruments.http().await;
    let client =
        client.map_err(|error| Failure::Unanswered(format!("cannot set up HTTP: {error}")))?;
    instruments.allow().url(url).map_err(Failure::Mistake)?;
    let url = format!("{}/api/v1/query", url.trim_end_matches('/'));
    let mut url =
        reqwest::Url::parse(&url).map_err(|error| Failure::Mistake(format!("no URL: {error}")))?;
    url.query_pairs_mut().append_pair("query", query);
    let mut request = client.get(url);
    let headers = read_texts(headers)
        .map_err(|error| Failure::Unanswered(service::Chain(&error).to_string()))?;
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let unanswered = |error: reqwest::Error| {
        let error = error.without_url();
        if error.is_builder() || service::outgoing::is_forbidden(&error) {
            return Failure::Mistake(service::Chain(&error).to_string());
        }
        Failure::Unanswered(format!("Prometheus does not answer: {}", service::Chain(&error)))
    };
    let mut response = request.send().await.map_err(unanswered)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unanswered)? {
        body.extend_from_slice(&part);
        if ANSWER_BYTES_MAX < body.len() {
            let why = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err(Failure::Unanswered(why));
        }
    }
    // A query that is refused is answered with 4xx and the reason as JSON.
    let answer: Answer = serde_json::from_slice(&body).map_err(|_error| {
        Failure::Unanswered(format!("Prometheus answered {}", status.as_u16()))
    })?;
    match answer.data {
        Some(data) if answer.status == "success" => read(&data.result_type, data.result),
        Some(_) | None => {
            let why = format!("the query was refused: {}", answer.error);
            // 422 and 5xx are about this moment: it took too long, or storage failed.
            let is_mistake = status == reqwest::StatusCode::BAD_REQUEST;
            Err(if is_mistake { Failure::Mistake(why) } else { Failure::Unanswered(why) })
        }
    }
}

/// Reads the series of a result of this type.
pub(crate) fn read(result_type: &str, result: Value) -> Result<Vec<Series>, Failure> {
    let unread = |error: serde_json::Error| {
        Failure::Unanswered(format!("the answer cannot be read: {error}"))
    };
    match result_type {
        "vector" => serde_json::from_value(result).map_err(unread),
        "scalar" => {
            let value = serde_json::from_value(result).map_err(unread)?;
            Ok(vec![Series { metric: Map::new(), value }])
        }
        other => {
            let why = format!("the query gives a {other}, and not an instant vector");
            Err(Failure::Mistake(why))
        }
    }
}
