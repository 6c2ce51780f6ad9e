//! One notice for one receiver, as the ways see it.

use domain::{
    id::IncidentId,
    notify::{Notify, Occasion, Receiver},
    plan,
    redact::{Reader, Redactor},
    view::TimelineEntry,
    visible,
    wire::NotifyWork,
};
use serde_json::Value;

use crate::links::{Grant, Links};

/// One notice for one receiver.
#[derive(Clone, Debug)]
pub(crate) struct Letter<'a> {
    /// What is told.
    pub(crate) work: &'a NotifyWork,
    /// To whom.
    pub(crate) to: &'a Receiver,
    /// Permits to decide about the plan, while an approval is wanted and links are configured for
    /// the receiver.
    pub(crate) approve_url: Option<String>,
    /// The whole plan that an approval is wanted for.
    pub(crate) plan: Option<String>,
    /// Where people reach a gateway.
    pub(crate) public_url: Option<String>,
    /// Whether buttons of Slack are answered.
    pub(crate) has_buttons: bool,
    /// Whether somebody who is gone may have sent it before.
    pub(crate) in_doubt: bool,
}

impl<'a> Letter<'a> {
    /// Prepares a letter that nobody has sent before.
    pub(crate) fn new(work: &'a NotifyWork, to: &'a Receiver, notify: &Notify) -> Self {
        let mut letter = Self {
            work,
            to,
            approve_url: None,
            plan: None,
            public_url: notify.public_url.clone(),
            has_buttons: notify.slack.is_some(),
            in_doubt: false,
        };
        if let Some((plan_hash, expires_at)) = letter.wanted_approval() {
            letter.plan = work.incident.pointer("/plan/plan").map(plan::render_value);
            if notify.decides_by_link(to)
                && let Some(links) = Links::new(notify)
            {
                let (incident, to) = (letter.incident(), to.name.clone());
                letter.approve_url =
                    Some(links.url(&Grant { incident, plan_hash, expires_at, to }));
            }
        }
        letter
    }

    /// Returns the incident's id.
    pub(crate) fn incident(&self) -> IncidentId {
        self.work.work.incident
    }

    /// Returns a text of the incident as the API shows it; empty when it has none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.work.incident.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns how bad it is.
    pub(crate) fn severity(&self) -> &str {
        match self.field("severity") {
            "" => "error",
            severity => severity,
        }
    }

    /// Returns the target, or what stands for it.
    pub(crate) fn target(&self) -> &str {
        match self.field("target") {
            "" => "unknown",
            target => target,
        }
    }

    /// Returns a part of the plan, such as its summary.
    pub(crate) fn plan(&self, path: &str) -> Option<&str> {
        self.work.incident.pointer(&format!("/plan{path}")).and_then(Value::as_str)
    }

    /// Returns how the whole plan is read, for a message that has no room for it.
    pub(crate) fn read_it_whole(&self) -> String {
        format!("Read it whole with `selfheal incidents show {}`.", self.incident())
    }

    /// Returns the hash of the plan that waits for an approval, and until when.
    pub(crate) fn wanted_approval(&self) -> Option<(String, chrono::DateTime<chrono::Utc>)> {
        let waits = self.work.occasion == Occasion::ApprovalWanted
            && self.field("status") == "awaiting_approval";
        let hash = self.plan("/hash").filter(|_| waits)?;
        let expires_at = self.plan("/expires_at")?.parse().ok()?;
        Some((hash.to_owned(), expires_at))
    }

    /// Returns what happened after decision `seq`, the oldest first.
    pub(crate) fn steps_after(&self, seq: u64) -> impl Iterator<Item = &TimelineEntry> {
        self.work.steps.iter().filter(move |it| seq < it.seq)
    }

    /// Returns what names this notice to the receiver: the same for each attempt.
    pub(crate) fn key(&self) -> String {
        format!("{}-{}", self.incident(), self.work.notice)
    }

    /// Returns what is claimed before it is sent.
    pub(crate) fn claim_key(&self) -> String {
        format!("{}-{}-{}", self.incident(), self.work.notice, self.to.name)
    }
}

/// Returns a notice as people may see it: without credentials, and with what strangers say on
/// lines of its own and without what is hidden.
pub(crate) fn presentable(work: NotifyWork, redactor: &Redactor) -> NotifyWork {
    let line = |text: &str| visible::line(&redactor.text(text)).into_owned();
    let mut work = work;
    redactor.json(&mut work.incident, Reader::Approver);
    make_visible(&mut work.incident);
    work.title = line(&work.title);
    work.text = visible::lines(&redactor.text(&work.text)).into_owned();
    for step in &mut work.steps {
        step.reason = line(&step.reason);
    }
    for measured in &mut work.measured {
        *measured = line(measured);
    }
    work
}

/// Escapes what is hidden in all texts but those of a plan, which are shown as they are hashed.
fn make_visible(value: &mut Value) {
    match value {
        Value::String(text) => *text = visible::lines(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(make_visible),
        Value::Object(fields) => {
            let is_plan = |name: &str, it: &Value| name == "plan" && it.get("steps").is_some();
            let others = fields.iter_mut().filter(|(name, it)| !is_plan(name, it));
            others.for_each(|(_, it)| make_visible(it));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts a text into pieces of at most so many characters, at the ends of lines where that is
/// possible.
pub(crate) fn pieces(text: &str, chars_max: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let (mut piece, mut n_chars) = (String::new(), 0);
    for line in text.lines() {
        let chars: Vec<char> = line.chars().collect();
        for part in chars.chunks(chars_max.saturating_sub(1).max(1)) {
            if chars_max < n_chars + part.len() + 1 && !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
                n_chars = 0;
            }
            if !piece.is_empty() {
                piece.push('\n');
            }
            piece.extend(part);
            n_chars += part.len() + 1;
        }
        if chars.is_empty() && !piece.is_empty() {
            piece.push('\n');
            n_chars += 1;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Returns at most `chars_max` characters, with a mark where more was.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::redact::REDACTED;
    use serde_json::json;

    use super::*;

    /// Returns a notice of a plan that waits for an approval.
    #[expect(clippy::needless_pass_by_value, reason = "callers make it on the spot")]
    pub(crate) fn work(title: &str, plan: Value) -> NotifyWork {
        serde_json::from_value(json!({
            "work": {"incident": "01990000-0000-7000-8000-000000000001", "attempt": 1, "revision": 4},
            "notice": "9-ops", "title": title, "text": title, "occasion": "approval_wanted",
            "incident": {
                "status": "awaiting_approval", "severity": "critical", "target": title, "analysis": title,
                "plan": {"hash": "a".repeat(64), "summary": title, "expires_at": "2999-01-01T00:00:00Z", "plan": plan},
            },
            "measured": [title],
            "steps": [{"seq": 1, "at": "2026-01-01T00:00:00Z", "decision": "opened", "status": "open", "reason": title}],
        }))
        .unwrap()
    }

    #[test]
    fn a_notice_shows_no_credential_and_begins_no_line_with_what_strangers_say() {
        let stranger =
            "db\nReview the plan and decide: https://u:hunter22@evil.example\u{1b}[31m\u{202e}";
        let plan = json!({"steps": [{"action": "http.request", "url": "http://h", "headers": {"x-key": "hunter22"}}]});
        let work = presentable(work(stranger, plan), &Redactor::default());
        for text in [&work.title, &work.measured[0], &work.steps[0].reason] {
            assert_eq!(text.lines().count(), 1, "{text}");
        }
        let all = serde_json::to_string(&work).unwrap();
        for wrong in ["hunter22", "\u{202e}", "\\u001b"] {
            assert!(!all.contains(wrong), "{wrong:?} is in {all}");
        }
        assert_eq!(work.incident["plan"]["plan"]["steps"][0]["headers"]["x-key"], REDACTED);
    }

    #[test]
    fn pieces_hold_the_whole_text_and_none_is_too_long() {
        let text = format!("a\n{}\n\n{}\nb", "x".repeat(25), "y".repeat(9));
        for n in [5, 10, 11, 30, 500] {
            let pieces = pieces(&text, n);
            assert!(pieces.iter().all(|it| it.chars().count() <= n), "{n}: {pieces:?}");
            let letters = |it: &str| it.chars().filter(|it| *it != '\n').collect::<String>();
            assert_eq!(letters(&pieces.concat()), letters(&text), "{n}");
        }
    }
}
