//! Measures: what is asked for each diagnosis of a target, for the people who decide.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{check, secret::Text, span::Span};

/// Measures of one target: more would delay its diagnosis, and more than anybody reads.
pub const MEASURES_MAX: usize = 16;

/// A diagnosis waits for its measures, so none may have more time than this.
const TIMEOUT_MAX: Span = Span::from_secs(5);

const NAME_CHARS_MAX: usize = 64;
const UNIT_CHARS_MAX: usize = 16;

/// Something that is asked for each diagnosis, such as an error rate or the length of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What is measured, in words; unique for its target.
    #[schemars(regex(pattern = r"\S"), length(max = 64))]
    pub name: String,
    /// The query, and who answers it.
    pub prometheus: PrometheusQuery,
    /// The unit of its values, such as `%` or `requests/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub unit: Option<String>,
    /// Headers that are sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// Time after which the diagnosis goes on without it.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(1)
}

/// A query to a Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusQuery {
    /// Where the server is, such as `http://127.0.0.1:9090`; anything with its query API will do.
    #[schemars(regex(pattern = r"^https?://[^\s/]"))]
    pub url: String,
    /// The query, in PromQL.
    #[schemars(regex(pattern = r"\S"))]
    pub query: String,
}

impl Measure {
    /// Returns what is wrong with it: the field, and why.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        let wrong = |field, why: &str| Some((field, why.to_owned()));
        let PrometheusQuery { url, query } = &self.prometheus;
        if self.name.trim().is_empty() || NAME_CHARS_MAX < self.name.chars().count() {
            return Some(("name", format!("must have 1 to {NAME_CHARS_MAX} characters")));
        }
        if let Some(why) = check::url_mistake(url) {
            return Some(("prometheus.url", why));
        }
        if let Some(why) = check::headers_mistake(&self.headers) {
            return Some(("headers", why));
        }
        if query.trim().is_empty() {
            return wrong("prometheus.query", "must not be empty");
        }
        if self.unit.as_ref().is_some_and(|it| UNIT_CHARS_MAX < it.chars().count()) {
            return Some(("unit", format!("must have at most {UNIT_CHARS_MAX} characters")));
        }
        if self.timeout == Span::ZERO || TIMEOUT_MAX < self.timeout {
            return Some(("timeout", format!("must be longer than 0s and at most {TIMEOUT_MAX}")));
        }
        None
    }
}

/// What a measure gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Measured {
    /// The measure's name.
    pub name: String,
    /// For which time it was answered.
    pub at: Option<DateTime<Utc>>,
    /// One for each series, in the order of the answer.
    pub series: Vec<MeasuredSeries>,
    /// Series that the answer had besides these.
    pub n_left_out: u64,
    /// Why it could not be asked, in words.
    pub failure: Option<String>,
}

/// One series of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeasuredSeries {
    /// The labels that tell it from the others.
    pub labels: BTreeMap<String, String>,
    /// Its value, as Prometheus writes it: also `NaN` and `+Inf`.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_a_mistake_and_names_its_field() {
        let good = Measure {
            name: "queue length".to_owned(),
            prometheus: PrometheusQuery {
                url: "http://prom:9090/base".to_owned(),
                query: "queue_length".to_owned(),
            },
            unit: Some("messages".to_owned()),
            headers: BTreeMap::new(),
            timeout: timeout(),
        };
        assert_eq!(good.mistake(), None);
        let spoiled = |spoil: fn(&mut Measure)| {
            let mut measure = good.clone();
            spoil(&mut measure);
            measure.mistake().map(|(field, _)| field)
        };
        let long = |n: usize| "x".repeat(n);
        assert_eq!(spoiled(|it| it.name = " ".to_owned()), Some("name"));
        assert_eq!(Measure { name: long(65), ..good.clone() }.mistake().unwrap().0, "name");
        assert_eq!(Measure { unit: Some(long(17)), ..good.clone() }.mistake().unwrap().0, "unit");
        assert_eq!(
            spoiled(|it| it.prometheus.url = "prom:9090".to_owned()),
            Some("prometheus.url")
        );
        assert_eq!(spoiled(|it| it.prometheus.url = "http://".to_owned()), Some("prometheus.url"));
        assert_eq!(
            spoiled(|it| it.prometheus.url = "http://a b".to_owned()),
            Some("prometheus.url")
        );
        assert_eq!(spoiled(|it| it.prometheus.query = "\n".to_owned()), Some("prometheus.query"));
        assert_eq!(spoiled(|it| it.timeout = Span::ZERO), Some("timeout"));
        assert_eq!(spoiled(|it| it.timeout = Span::from_secs(6)), Some("timeout"));
    }
}
