//! What a Prometheus answers to a query now, for checks and for diagnoses.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

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

/// Asks for the series that fit a query now.
///
/// # Errors
///
/// When there is no answer that can be read; in words.
pub(crate) async fn ask(
    instruments: &Instruments,
    url: &str,
    query: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Vec<Series>, String> {
    let client = instruments.http().await;
    let client = client.map_err(|error| format!("cannot set up HTTP: {error}"))?;
    let url = format!("{}/api/v1/query", url.trim_end_matches('/'));
    let mut url = reqwest::Url::parse(&url).map_err(|error| format!("no URL: {error}"))?;
    url.query_pairs_mut().append_pair("query", query);
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let unanswered = |error: reqwest::Error| {
        let error = error.without_url();
        format!("Prometheus does not answer: {}", service::Chain(&error))
    };
    let mut response = request.send().await.map_err(unanswered)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unanswered)? {
        body.extend_from_slice(&part);
        if ANSWER_BYTES_MAX < body.len() {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    // A query that is refused is answered with 4xx and the reason as JSON.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_error| format!("Prometheus answered {}", status.as_u16()))?;
    match answer.data {
        Some(data) if answer.status == "success" => read(&data.result_type, data.result),
        Some(_) | None => Err(format!("the query was refused: {}", answer.error)),
    }
}

/// Reads the series of a result of this type.
pub(crate) fn read(result_type: &str, result: Value) -> Result<Vec<Series>, String> {
    let unread = |error: serde_json::Error| format!("the answer cannot be read: {error}");
    match result_type {
        "vector" => serde_json::from_value(result).map_err(unread),
        "scalar" => {
            let value = serde_json::from_value(result).map_err(unread)?;
            Ok(vec![Series { metric: Map::new(), value }])
        }
        other => Err(format!("the query gives a {other}, and not an instant vector")),
    }
}
