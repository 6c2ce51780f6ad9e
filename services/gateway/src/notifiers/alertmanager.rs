//! An Alertmanager as the one who tells others: `POST /api/v2/alerts`.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use domain::notify::Alertmanager;
use serde_json::json;

use super::{Doubt, Failure, Sending, Sent, Tools, Way};
use crate::{letter::Letter, outgoing};

pub(super) const WAY: Way = Way {
    name: "alertmanager",
    // The same labels are the same alert.
    in_doubt: Doubt::SendAgain,
    is_for: |to| to.alertmanager.is_some(),
    send,
};

/// How long an alert stays without another word. Each notice renews it; one that is never
/// resolved ends at last.
const FIRING_FOR: TimeDelta = TimeDelta::days(7);

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(alertmanager) = &letter.to.alertmanager else {
            return Err(Failure::not_sent("it is no Alertmanager"));
        };
        post(tools, letter, alertmanager).await
    })
}

async fn post(
    tools: &Tools,
    letter: &Letter<'_>,
    alertmanager: &Alertmanager,
) -> Result<Sent, Failure> {
    // The labels are the alert's name: they stay as they were when it was first told.
    let kept = letter.work.kept.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let labels: BTreeMap<String, String> = kept.unwrap_or_else(|| labels(letter));
    let now = Utc::now();
    let ends_at = if letter.work.occasion.ends() { now } else { now + FIRING_FOR };
    let mut alert = json!({
        "labels": labels,
        "annotations": {
            "summary": letter.work.title,
            "description": letter.work.text,
            "analysis": letter.field("analysis"),
            "occasion": letter.work.occasion,
        },
        "endsAt": ends_at,
    });
    if let Some(fields) = alert.as_object_mut() {
        let opened_at = letter.field("opened_at");
        if !opened_at.is_empty() {
            fields.insert("startsAt".to_owned(), json!(opened_at));
        }
        if let Some(url) = &letter.public_url {
            fields.insert("generatorURL".to_owned(), json!(url));
        }
    }
    let url = format!("{}/api/v2/alerts", alertmanager.url.trim_end_matches('/'));
    let host = outgoing::host(&url);
    let body = json!([alert]);
    let answer = outgoing::send(&host, true, || tools.http.post(&url).json(&body)).await;
    let answer = answer.map_err(|it| Failure::not_sent(it.reason))?;
    let told = format!("{host} answered {}", answer.status().as_u16());
    Ok(Sent { told, keep: serde_json::to_string(&labels).ok() })
}

fn labels(letter: &Letter<'_>) -> BTreeMap<String, String> {
    let kind = letter.field("type");
    let pairs = [
        ("alertname", if kind.is_empty() { "selfheal" } else { kind }),
        ("severity", letter.severity()),
        ("target", letter.target()),
        ("zone", letter.field("zone")),
        ("source", "selfheal"),
    ];
    let incident = ("incident".to_owned(), letter.incident().to_string());
    let named = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    named.map(|(key, value)| (key.to_owned(), value.to_owned())).chain([incident]).collect()
}
