//! A Prometheus answers a query, and the answer is not sick.

use domain::check::{Comparison, PrometheusCheck};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::Question;
use crate::{
    prometheus::{self, Failure, Series},
    sample::Finding,
};

/// Series of an answer that are told.
const SERIES_SHOWN: usize = 5;

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async move {
        let Some(asked) = &question.check.prometheus else {
            return Finding::not_asked("there is no query");
        };
        let headers = &question.check.headers;
        let answer =
            prometheus::ask(&question.instruments, &asked.url, &asked.query, headers).await;
        match answer {
            Ok(series) => judge(asked, &series),
            Err(failure) => unanswered(&failure),
        }
    })
}

fn unanswered(failure: &Failure) -> Finding {
    match failure {
        Failure::Mistake(why) => Finding::not_asked(why),
        Failure::Unanswered(why) => Finding::failed(why),
    }
}

fn judge(asked: &PrometheusCheck, series: &[Series]) -> Finding {
    let comparison = match asked.comparison() {
        Ok(comparison) => comparison,
        Err(why) => return Finding::not_asked(why),
    };
    let is_sick = |it: &&Series| sick(comparison, &it.value.1);
    let n_sick = series.iter().filter(is_sick).count();
    let first = series.iter().find(is_sick).or_else(|| series.first());
    let shown = first.map(|it| format!("{} {}", name(&it.metric), it.value.1)).unwrap_or_default();
    let limit = asked.sick.as_deref().unwrap_or("any");
    let finding = match (series.len(), n_sick) {
        // What cannot be seen is not well.
        (0, _) if comparison.is_some() => {
            return Finding::failed(format!("no series fits `{}`", asked.query));
        }
        (0, _) => Finding::passed(format!("no series fits `{}`", asked.query)),
        (_, 0) => Finding::passed(format!("{shown} (unhealthy: {limit})")),
        (n, n_sick) => {
            Finding::failed(format!("{shown} (unhealthy: {limit}; {n_sick} of {n} series)"))
        }
    };
    let told = series.iter().filter(is_sick).chain(series.iter().filter(|it| !is_sick(it)));
    let told: Vec<Value> = told
        .take(SERIES_SHOWN)
        .map(|it| json!({ "labels": it.metric, "value": it.value.1 }))
        .collect();
    finding.with("query", json!(asked.query)).with("series", json!(told))
}

fn sick(comparison: Option<Comparison>, value: &str) -> bool {
    // Prometheus writes `+Inf`, `-Inf` and `NaN`, which are read as they are.
    let value = value.parse().unwrap_or(f64::NAN);
    comparison.is_none_or(|it| it.holds(value))
}

fn name(labels: &Map<String, Value>) -> String {
    let texts = labels.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let rest: Vec<String> = texts
        .clone()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let metric = texts.clone().find(|(name, _)| *name == "__name__").map_or("", |it| it.1);
    if rest.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", rest.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Outcome;

    fn answered(sick: Option<&str>, kind: &str, result: Value) -> Finding {
        let asked = PrometheusCheck {
            url: "http://localhost".to_owned(),
            query: "up".to_owned(),
            sick: sick.map(str::to_owned),
        };
        let read = prometheus::read(kind, result);
        read.map_or_else(|failure| unanswered(&failure), |it| judge(&asked, &it))
    }

    fn up(values: &[&str]) -> Value {
        let one = |value| json!({"metric": {"__name__": "up", "job": "db"}, "value": [1.5, value]});
        values.iter().map(one).collect()
    }

    #[test]
    fn one_sick_series_is_enough_and_none_at_all_is_sick_too() {
        for (sick, kind, result, wanted) in [
            (Some("< 1"), "vector", up(&["1", "1"]), Outcome::Passed),
            (Some("< 1"), "vector", up(&["1", "0"]), Outcome::Failed),
            (Some("< 1"), "vector", up(&[]), Outcome::Failed),
            (Some("> 5"), "vector", up(&["+Inf"]), Outcome::Failed),
            (Some("> 5"), "vector", up(&["NaN"]), Outcome::Passed),
            (Some("> 5"), "scalar", json!([1.5, "6"]), Outcome::Failed),
            (None, "vector", up(&[]), Outcome::Passed),
            (None, "vector", up(&["0"]), Outcome::Failed),
            (None, "matrix", json!([]), Outcome::NotAsked),
            (None, "string", json!([1.5, "x"]), Outcome::NotAsked),
            (None, "vector", json!({"a": 1}), Outcome::Failed),
        ] {
            let finding = answered(sick, kind, result.clone());
            assert_eq!(finding.outcome, wanted, "{sick:?} {kind} {result}: {}", finding.detail);
        }
        let told = answered(Some("< 1"), "vector", up(&["1", "0"]));
        assert_eq!(told.detail, "up{job=\"db\"} 0 (unhealthy: < 1; 1 of 2 series)");
        assert_eq!(told.evidence["series"][0]["value"], "0");
    }
}
