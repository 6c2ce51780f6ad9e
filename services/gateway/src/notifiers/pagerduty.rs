//! PagerDuty, by its Events API v2: one alert for each incident, named by its id.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2-overview>

use domain::notify::{Occasion, PagerDuty};
use serde_json::{Value, json};

use super::{Doubt, Failure, Sending, Sent, Tools, Way, secret};
use crate::{
    letter::{Letter, cut},
    outgoing::{self, Trouble},
};

pub(super) const WAY: Way = Way {
    name: "pagerduty",
    // The same `dedup_key` only updates the alert.
    in_doubt: Doubt::SendAgain,
    is_for: |to| to.pagerduty.is_some(),
    send,
};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// Longest summary that PagerDuty takes.
const SUMMARY_CHARS_MAX: usize = 1024;

/// Longest text in the details; the whole event may have 512 KB.
const DETAIL_CHARS_MAX: usize = 4000;

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(pagerduty) = &letter.to.pagerduty else {
            return Err(Failure::not_sent("it is not for PagerDuty"));
        };
        let Some(action) = action(letter.work.occasion) else {
            return Ok(Sent::new("nothing to say to it"));
        };
        enqueue(tools, letter, pagerduty, action).await
    })
}

/// Returns what an occasion is to PagerDuty, if it is something.
const fn action(occasion: Occasion) -> Option<&'static str> {
    match occasion {
        Occasion::Opened | Occasion::ApprovalWanted | Occasion::Escalated | Occasion::Storm => {
            Some("trigger")
        }
        Occasion::Acknowledged => Some("acknowledge"),
        Occasion::Resolved | Occasion::Closed => Some("resolve"),
        Occasion::Approved | Occasion::FixStarted | Occasion::Reopened => None,
    }
}

async fn enqueue(
    tools: &Tools,
    letter: &Letter<'_>,
    pagerduty: &PagerDuty,
    action: &str,
) -> Result<Sent, Failure> {
    let key = secret(&pagerduty.routing_key)?;
    let body = body(letter, key.expose(), action);
    let url = pagerduty.url.as_deref().unwrap_or(URL);
    let host = outgoing::host(url);
    let answer = outgoing::send(&host, true, || tools.http.post(url).json(&body)).await;
    let again = |it: Trouble| Failure::not_sent(it.reason);
    let answer = answer.map_err(again)?;
    Ok(Sent::new(format!("{action}, {host} answered {}", answer.status().as_u16())))
}

/// Returns the plan, or says where to read the rest of it.
fn whole(letter: &Letter<'_>, plan: &str) -> String {
    if plan.chars().count() <= DETAIL_CHARS_MAX {
        return plan.to_owned();
    }
    format!("{}\nThe plan goes on. {}", cut(plan, DETAIL_CHARS_MAX), letter.read_it_whole())
}

fn body(letter: &Letter<'_>, routing_key: &str, action: &str) -> Value {
    let mut body = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": letter.incident(),
    });
    if action != "trigger" {
        return body;
    }
    let work = letter.work;
    let source =
        if letter.field("source").is_empty() { "selfheal" } else { letter.field("source") };
    let part = json!({
        "client": "Self-Heal ITOps",
        "payload": {
            "summary": cut(&work.title, SUMMARY_CHARS_MAX),
            "source": source,
            "severity": letter.severity(),
            "component": letter.target(),
            "group": letter.field("zone"),
            "class": letter.field("type"),
            "custom_details": {
                "reason": cut(&work.text, DETAIL_CHARS_MAX),
                "analysis": cut(letter.field("analysis"), DETAIL_CHARS_MAX),
                "measured": cut(&work.measured.join("\n"), DETAIL_CHARS_MAX),
                "plan": letter.plan("/summary").map(|it| cut(it, DETAIL_CHARS_MAX)),
                "whole_plan": letter.plan.as_deref().map(|it| whole(letter, it)),
                "incident": letter.incident(),
            },
        },
    });
    if let (Value::Object(whole), Value::Object(part)) = (&mut body, part) {
        whole.extend(part);
        if let Some(url) = &letter.public_url {
            whole.insert("client_url".to_owned(), json!(url));
        }
        if let Some(url) = &letter.approve_url {
            let links = json!([{"href": url, "text": "Review the plan and decide"}]);
            whole.insert("links".to_owned(), links);
        }
    }
    body
}
