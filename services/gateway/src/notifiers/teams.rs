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

/// Room for what is around the texts of a card: its frame, the link, and that the plan goes on.
const FRAME_BYTES: usize = 1536;

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

/// Returns the card. All that others say is in runs of text, which no client reads as Markdown.
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
    let run = |text: &str| json!({"type": "TextRun", "text": text});
    let title = json!({"type": "TextRun", "text": text(&work.title), "size": "Large", "weight": "Bolder", "color": color});
    let mut body = vec![paragraph(&[title]), paragraph(&[run(&text(&work.text))])];
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let name = json!({"type": "TextRun", "text": format!("{name}: "), "weight": "Bolder"});
        body.push(paragraph(&[name, run(&text(value))]));
    }
    let incident = format!("Incident {}", letter.incident());
    body.push(paragraph(&[
        json!({"type": "TextRun", "text": incident, "isSubtle": true, "size": "Small"}),
    ]));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "msteams": {"width": "Full"},
    });
    let room = MESSAGE_BYTES_MAX.saturating_sub(Value::from(body.clone()).to_string().len());
    body.extend(plan(letter, room.saturating_sub(FRAME_BYTES)));
    if let Some(fields) = card.as_object_mut() {
        fields.insert("body".to_owned(), body.into());
        if let Some(url) = &letter.approve_url {
            let open = json!([{"type": "Action.OpenUrl", "title": "Review the plan and decide", "url": url}]);
            fields.insert("actions".to_owned(), open);
        }
    }
    card
}

fn paragraph(runs: &[Value]) -> Value {
    json!({"type": "RichTextBlock", "inlines": runs})
}

/// Returns the plan that an approval is wanted for, a paragraph for each line; when it does not
/// fit into so many bytes, the card says so.
fn plan(letter: &Letter<'_>, room: usize) -> Vec<Value> {
    let Some(plan) = &letter.plan else { return Vec::new() };
    let (mut paragraphs, mut n_bytes) = (Vec::new(), 0);
    for line in plan.lines() {
        let run = json!({"type": "TextRun", "text": line, "fontType": "Monospace"});
        let paragraph = paragraph(&[run]);
        n_bytes += paragraph.to_string().len() + 1;
        if room < n_bytes {
            let text = format!("The plan goes on. {}", letter.read_it_whole());
            let run = json!({"type": "TextRun", "text": text, "weight": "Bolder"});
            paragraphs.push(json!({"type": "RichTextBlock", "inlines": [run]}));
            break;
        }
        paragraphs.push(paragraph);
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use domain::{
        notify::{Notify, Receiver},
        redact::Redactor,
    };

    use super::*;
    use crate::letter::{presentable, tests::work};

    fn sent(title: &str, plan: Value) -> Value {
        let work = presentable(work(title, plan), &Redactor::default());
        message(&Letter::new(&work, &Receiver::default(), &Notify::default()))
    }

    #[test]
    fn what_strangers_say_is_never_read_as_markdown() {
        let card = sent("[Approve](https://evil.example) **x**", json!({"title": "# [a](b)"}));
        let body = card["attachments"][0]["content"]["body"].as_array().unwrap();
        assert!(body.iter().all(|it| it["type"] == "RichTextBlock"), "{card}");
        assert!(card.to_string().contains("# [a](b)"), "{card}");
    }

    #[test]
    fn a_plan_of_any_length_leaves_the_card_within_its_limit_and_says_that_it_goes_on() {
        let long = "\u{1f980}\"\\".repeat(3000);
        let lines: Vec<_> = (0..2000).map(|n| json!({"action": n})).collect();
        for plan in [json!({"title": long}), json!({"steps": lines})] {
            let text = sent(&long, plan).to_string();
            assert!(text.len() <= MESSAGE_BYTES_MAX, "{}", text.len());
            assert!(text.contains("The plan goes on."), "{}", text.len());
        }
        assert!(!sent("a", json!({"title": "b"})).to_string().contains("goes on"));
    }
}
