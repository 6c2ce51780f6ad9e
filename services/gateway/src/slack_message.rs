//! What a notice looks like in Slack: blocks, within Slack's limits.
//!
//! <https://docs.slack.dev/reference/block-kit/blocks>

use serde_json::{Value, json};

use crate::letter::{Letter, cut, pieces};

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
/// Longest piece of a text that needs several sections. Slack takes 3000.
const PIECE_CHARS_MAX: usize = 2900;
/// Sections that a plan may take. What is longer is not shown whole, and so has no button that
/// approves it.
const PLAN_PIECES_MAX: usize = 5;

/// Returns the text for lists and for screens that read aloud.
pub(crate) fn fallback(letter: &Letter<'_>) -> String {
    escape(&cut(&format!("{}: {}", letter.work.title, letter.work.text), SECTION_CHARS_MAX))
}

/// Returns the blocks of a notice.
pub(crate) fn blocks(letter: &Letter<'_>) -> Value {
    let work = letter.work;
    let field = |name: &str, value: &str| {
        text_of(&format!("*{name}*\n{}", escape(&cut(value, FIELD_CHARS_MAX))))
    };
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
        json!({"type": "section", "text": text_of(&text)}),
        json!({"type": "section", "fields": fields}),
    ];
    if !work.measured.is_empty() {
        let text = escape(&cut(&work.measured.join("\n"), SECTION_CHARS_MAX));
        blocks.push(json!({"type": "section", "text": text_of(&text)}));
    }
    let (plan, is_whole) = plan(letter);
    blocks.extend(plan);
    let buttons = buttons(letter, is_whole);
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let incident = format!("Incident `{}`", letter.incident());
    blocks.push(json!({"type": "context", "elements": [text_of(&incident)]}));
    Value::Array(blocks)
}

/// Returns a text with our own marks. `verbatim`: nothing in it becomes a link, or calls anybody.
fn text_of(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Returns the plan that an approval is wanted for, and whether that is all of it. It is plain
/// text: nothing in it is a mark.
fn plan(letter: &Letter<'_>) -> (Vec<Value>, bool) {
    let Some(plan) = &letter.plan else { return (Vec::new(), true) };
    let pieces = pieces(plan, PIECE_CHARS_MAX);
    let shown = pieces.iter().take(PLAN_PIECES_MAX);
    let plain = |text: &str| json!({"type": "plain_text", "text": text, "emoji": false});
    let mut blocks: Vec<_> =
        shown.map(|it| json!({"type": "section", "text": plain(it)})).collect();
    let is_whole = pieces.len() <= PLAN_PIECES_MAX;
    if !is_whole {
        let text = format!(
            "The plan is longer than a message may be, so it cannot be approved here. {}",
            letter.read_it_whole()
        );
        blocks.push(json!({"type": "section", "text": text_of(&text)}));
    }
    (blocks, is_whole)
}

/// Returns the buttons. None approves what is not shown whole.
fn buttons(letter: &Letter<'_>, is_whole: bool) -> Vec<Value> {
    let Some((plan_hash, _)) = letter.wanted_approval() else { return Vec::new() };
    let value = format!("{} {plan_hash}", letter.incident());
    let mut buttons = Vec::new();
    if letter.has_buttons {
        let both = [(APPROVE, "Approve", "primary"), (REJECT, "Reject", "danger")];
        for (id, text, style) in both.into_iter().filter(|it| is_whole || it.0 == REJECT) {
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

/// Returns the blocks of a message of the thread.
pub(crate) fn thread_blocks(text: &str) -> Value {
    let pieces = pieces(text, PIECE_CHARS_MAX);
    let section = |it: &String| json!({"type": "section", "text": text_of(it)});
    pieces.iter().map(section).collect()
}

/// Makes text harmless: Slack reads `&`, `<` and `>` as its own signs.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use domain::notify::{Notify, Receiver};

    use super::*;
    use crate::letter::{presentable, tests::work};

    fn sent(title: &str, plan: Value) -> Value {
        let work = presentable(work(title, plan), &domain::redact::Redactor::default());
        let to: Receiver = serde_json::from_value(
            json!({"name": "chat", "slack": {"webhook": {"env": "SECRET_URL"}}}),
        )
        .unwrap();
        let notify = json!({
            "public_url": "https://ops.example", "link_secret": {"env": "SECRET_LINKS"},
            "slack": {"signing_secret": {"env": "SECRET_S"}, "approvers": ["U1"]},
        });
        let notify: Notify = serde_json::from_value(notify).unwrap();
        blocks(&Letter::new(&work, &to, &notify))
    }

    #[test]
    fn a_plan_that_does_not_fit_has_no_button_that_approves_it() {
        let small = sent("t", json!({"body": "x"})).to_string();
        assert!(small.contains(APPROVE) && small.contains(REJECT), "{small}");
        assert!(!small.contains("/approve/"), "no link decides beside the buttons: {small}");
        let large = sent("t", json!({"body": "x".repeat(20_000)})).to_string();
        assert!(!large.contains(APPROVE) && large.contains(REJECT), "{large}");
        assert!(large.contains("selfheal incidents show"), "{large}");
    }

    #[test]
    fn what_strangers_say_makes_no_link_calls_nobody_and_hides_nothing() {
        let title = "<!channel> <https://evil.example|Approve> https://evil.example \u{202e}\nx";
        let sent = sent(title, json!({"title": title}));
        for block in sent.as_array().unwrap() {
            let texts = [&block["text"]]
                .into_iter()
                .chain(block["fields"].as_array().into_iter().flatten());
            for text in texts.filter(|it| it["type"] == "mrkdwn") {
                assert_eq!(text["verbatim"], true, "{text}");
                assert!(!text["text"].as_str().unwrap().contains('<'), "{text}");
            }
        }
        let all = sent.to_string();
        assert!(!all.contains('\u{202e}') && all.contains("\\\\u{202e}"), "{all}");
    }
}
