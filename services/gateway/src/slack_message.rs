//! What a notice looks like in Slack: blocks, within Slack's limits.
//!
//! <https://docs.slack.dev/reference/block-kit/blocks>

use serde_json::{Value, json};

use crate::letter::{Letter, cut};

/// Ids of the buttons, which come back when they are pressed.
pub(crate) const APPROVE: &str = "selfheal_approve";
/// See [`APPROVE`].
pub(crate) const REJECT: &str = "selfheal_reject";

/// Longest header.
const HEADER_CHARS_MAX: usize = 150;
/// Longest text of a section, and of one of its fields. Slack takes 3000 and 2000; what is
/// escaped becomes up to five times as long.
const SECTION_CHARS_MAX: usize = 590;
const FIELD_CHARS_MAX: usize = 390;
/// Longest message of a thread; Slack cuts at 40 000.
const THREAD_CHARS_MAX: usize = 6000;

/// Returns the text for lists and for screens that read aloud.
pub(crate) fn fallback(letter: &Letter<'_>) -> String {
    escape(&cut(&format!("{}: {}", letter.work.title, letter.work.text), SECTION_CHARS_MAX))
}

/// Returns the blocks of a notice.
pub(crate) fn blocks(letter: &Letter<'_>) -> Value {
    let work = letter.work;
    let field = |name: &str, value: &str| json!({"type": "mrkdwn", "text": format!("*{name}*\n{}", escape(&cut(value, FIELD_CHARS_MAX)))});
    let fields = [
        ("Target", letter.target()),
        ("Status", letter.field("status")),
        ("Severity", letter.severity()),
        ("Cause", letter.field("analysis")),
        ("Plan", letter.plan("/summary").unwrap_or_default()),
        ("Risk", letter.plan("/plan/risk").unwrap_or_default()),
    ];
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    let fields: Vec<_> = fields.map(|(name, value)| field(name, value)).collect();
    let text = escape(&cut(&work.text, SECTION_CHARS_MAX));
    let text = if text.is_empty() { "no reason was given".to_owned() } else { text };
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": cut(&work.title, HEADER_CHARS_MAX)}}),
        json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}),
        json!({"type": "section", "fields": fields}),
    ];
    if !work.measured.is_empty() {
        let text = escape(&cut(&work.measured.join("\n"), SECTION_CHARS_MAX));
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
    }
    let buttons = buttons(letter);
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let incident = format!("Incident `{}`", letter.incident());
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": incident}]}));
    Value::Array(blocks)
}

fn buttons(letter: &Letter<'_>) -> Vec<Value> {
    let Some((plan_hash, _)) = letter.wanted_approval() else { return Vec::new() };
    let value = format!("{} {plan_hash}", letter.incident());
    let mut buttons = Vec::new();
    if letter.has_buttons {
        for (id, text, style) in [(APPROVE, "Approve", "primary"), (REJECT, "Reject", "danger")] {
            let text = json!({"type": "plain_text", "text": text});
            buttons.push(json!({"type": "button", "action_id": id, "text": text, "style": style, "value": value}));
        }
    }
    if let Some(url) = &letter.approve_url {
        let text = json!({"type": "plain_text", "text": "Review the plan"});
        buttons.push(
            json!({"type": "button", "action_id": "selfheal_look", "text": text, "url": url}),
        );
    }
    buttons
}

/// Returns what happened after decision `seq`, for the thread, with the number of the last one.
pub(crate) fn timeline(letter: &Letter<'_>, seq: u64) -> Option<(String, u64)> {
    let last = letter.steps_after(seq).last()?.seq;
    let line = |it: &domain::view::TimelineEntry| {
        let at = it.at.format("%H:%M:%S");
        format!("`{at}` *{}* {}", it.decision, escape(&cut(&it.reason, FIELD_CHARS_MAX)))
    };
    let lines: Vec<_> = letter.steps_after(seq).map(line).collect();
    Some((cut(&lines.join("\n"), THREAD_CHARS_MAX), last))
}

/// Makes text harmless: Slack reads `&`, `<` and `>` as its own signs.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
