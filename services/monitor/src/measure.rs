//! What is measured for a diagnosis, for the people who decide.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    measure::{Measure, Measured, MeasuredSeries},
    span::Span,
};
use tokio::time::timeout;

use crate::{
    instruments::Instruments,
    prometheus::{self, Series},
};

/// Series of one measure that are told: what a person reads at a glance.
const SERIES_MAX: usize = 8;

/// Labels of a series that are told, and the length of each.
const LABELS_MAX: usize = 4;
const LABEL_CHARS_MAX: usize = 80;

/// Longest reason of a failure: others have written it.
const FAILURE_CHARS_MAX: usize = 300;

/// Asks, for no longer than `limit` and the measure's own time.
pub(crate) async fn measure(
    instruments: &Instruments,
    measure: &Measure,
    limit: Duration,
) -> Measured {
    let limit = limit.min(measure.timeout.to_std());
    let asked = &measure.prometheus;
    let asking = prometheus::ask(instruments, &asked.url, &asked.query, &measure.headers);
    let answer = timeout(limit, asking).await.unwrap_or_else(|_elapsed| {
        let limit = Span::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        Err(prometheus::Failure::Unanswered(format!("no answer within {limit}")))
    });
    match answer {
        Ok(series) => told(measure, &series),
        Err(why) => Measured {
            name: measure.name.clone(),
            failure: Some(cut(&why.to_string(), FAILURE_CHARS_MAX)),
            ..Measured::default()
        },
    }
}

fn told(measure: &Measure, all: &[Series]) -> Measured {
    let one = |it: &Series| MeasuredSeries { labels: labels(it, all), value: it.value.1.clone() };
    Measured {
        name: measure.name.clone(),
        at: all.first().and_then(|it| at(it.value.0)),
        series: all.iter().take(SERIES_MAX).map(one).collect(),
        n_left_out: all.len().saturating_sub(SERIES_MAX) as u64,
        failure: None,
    }
}

/// Returns the labels that tell a series from the others; of a single one, all but its name.
fn labels(series: &Series, all: &[Series]) -> BTreeMap<String, String> {
    let tells_apart = |name: &String| {
        let own = series.metric.get(name);
        all.len() < 2 || all.iter().any(|it| it.metric.get(name) != own)
    };
    let texts = series.metric.iter().filter_map(|(name, it)| Some((name, it.as_str()?)));
    texts
        .filter(|(name, _)| *name != "__name__" && tells_apart(name))
        .take(LABELS_MAX)
        .map(|(name, text)| (name.clone(), cut(text, LABEL_CHARS_MAX)))
        .collect()
}

/// Reads a time as Prometheus writes it: seconds with a fraction.
fn at(seconds: f64) -> Option<DateTime<Utc>> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    DateTime::from_timestamp_millis(i64::try_from(since.as_millis()).ok()?)
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use domain::measure::PrometheusQuery;
    use serde_json::{Value, json};

    use super::*;

    fn answered(result: Value) -> Measured {
        let measure = Measure {
            name: "queue length".to_owned(),
            prometheus: PrometheusQuery {
                url: "http://localhost".to_owned(),
                query: "queue_length".to_owned(),
            },
            unit: None,
            headers: BTreeMap::new(),
            timeout: Span::from_secs(1),
        };
        told(&measure, &prometheus::read("vector", result).unwrap())
    }

    fn labels(measured: &Measured) -> Vec<Vec<(String, String)>> {
        let pairs = |it: &MeasuredSeries| -> Vec<(String, String)> {
            it.labels.clone().into_iter().collect()
        };
        measured.series.iter().map(pairs).collect()
    }

    #[test]
    fn of_several_series_only_what_tells_them_apart_is_told() {
        let one = |queue: &str, value: &str| {
            let labels = json!({"__name__": "queue_length", "job": "mq", "queue": queue});
            json!({"metric": labels, "value": [1_767_323_045.25, value]})
        };
        let measured = answered(json!([one("mail", "3"), one("bills", "+Inf")]));
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(labels(&measured), [[pair("queue", "mail")], [pair("queue", "bills")]]);
        assert_eq!(measured.series[1].value, "+Inf");
        assert_eq!(measured.at, "2026-01-02T03:04:05.250Z".parse().ok());
        let single = answered(json!([one("mail", "3")]));
        assert_eq!(labels(&single), [[pair("job", "mq"), pair("queue", "mail")]]);
        assert_eq!(answered(json!([])).series, []);
    }

    #[test]
    fn many_series_are_cut_and_counted() {
        let one = |n: usize| {
            let label = |it: usize| (format!("l{it}"), json!(format!("{n}{}", "x".repeat(500))));
            let metric: serde_json::Map<_, _> = (0..50).map(label).collect();
            json!({"metric": metric, "value": [1.5, "1"]})
        };
        let measured = answered((0..1000).map(one).collect());
        assert_eq!((measured.series.len(), measured.n_left_out), (8, 992));
        assert!(measured.series.iter().all(|it| it.labels.len() == 4));
        let size = serde_json::to_vec(&measured).unwrap().len();
        assert!(size < 8 << 10, "{size}");
    }

    #[test]
    fn a_time_that_is_none_is_not_told() {
        assert_eq!(at(f64::NAN), None);
        assert_eq!(at(-1.0), None);
        assert_eq!(at(1e300), None);
    }
}
