//! Microsoft Teams: an Adaptive Card to a workflow that posts what it is sent.
//!
//! <https://adaptivecards.io/explorer/>, version 1.5, which Teams shows everywhere.

use domain::notify::Teams;
use serde_json::{Value, json};

use super::{Doubt, Failure, Sending, Sent, Tools, Way, secret};
use crate::{
    letter::{Letter, cut},
    outgoing,
};

pub(super) const WAY: Way = Way {
    name: "teams",
    // A workflow posts whatever it is sent, also twice.
    in_doubt: Doubt::Leave,
    is_for: |to| to.teams.is_some(),
    send,
};

/// Most that Teams takes.
const MESSAGE_BYTES_MAX: usize = 28 * 1024;

/// Longest texts. There are nine at most, and a character may take six bytes in JSON.
const TEXT_CHARS_MAX: usize = 450;

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(teams) = &letter.to.teams else {
            return Err(Failure::not_sent("it is not for Teams"));
        };
        post(tools, letter, teams).await
    })
}

async fn post(tools: &Tools, letter: &Letter<'_>, teams: &Teams) -> Result<Sent, Failure> {
    let url = secret(&teams.webhook)?;
    let url = url.expose().trim();
    let body = message(letter).to_string();
    if MESSAGE_BYTES_MAX < body.len() {
        return Err(Failure::not_sent(format!(
            "the card is longer than {MESSAGE_BYTES_MAX} bytes"
        )));
    }
    let host = outgoing::host(url);
    let answer = outgoing::send(&host, false, || {
        let request = tools.http.post(url).body(body.clone());
        request.header(reqwest::header::CONTENT_TYPE, "application/json")
    });
    let answer = answer.await.map_err(Failure::once)?;
    Ok(Sent::new(format!("{host} answered {}", answer.status().as_u16())))
}

fn message(letter: &Letter<'_>) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card(letter),
        }],
    })
}

fn card(letter: &Letter<'_>) -> Value {
    let work = letter.work;
    let color = match letter.severity() {
        _ if work.occasion.ends() => "Good",
        "critical" | "error" => "Attention",
        "warning" => "Warning",
        _ => "Default",
    };
    let text = |text: &str| cut(text, TEXT_CHARS_MAX);
    let measured = work.measured.join("; ");
    let facts = [
        ("Target", letter.target()),
        ("Status", letter.field("status")),
        ("Severity", letter.severity()),
        ("Cause", letter.field("analysis")),
        ("Plan", letter.plan("/summary").unwrap_or_default()),
        ("Risk", letter.plan("/plan/risk").unwrap_or_default()),
        ("Measured", &measured),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let facts: Vec<_> =
        facts.map(|(title, value)| json!({"title": title, "value": text(value)})).collect();
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "msteams": {"width": "Full"},
        "body": [
            {"type": "TextBlock", "text": text(&work.title), "size": "Large", "weight": "Bolder", "color": color, "wrap": true},
            {"type": "TextBlock", "text": text(&work.text), "wrap": true},
            {"type": "FactSet", "facts": facts},
            {"type": "TextBlock", "text": format!("Incident {}", letter.incident()), "isSubtle": true, "size": "Small", "wrap": true},
        ],
    });
    if let (Some(url), Some(fields)) = (&letter.approve_url, card.as_object_mut()) {
        let open =
            json!([{"type": "Action.OpenUrl", "title": "Review the plan and decide", "url": url}]);
        fields.insert("actions".to_owned(), open);
    }
    card
}
