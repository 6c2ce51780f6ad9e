//! One notice for one receiver, as the ways see it.

use domain::{
    id::IncidentId,
    notify::{Notify, Occasion, Receiver},
    view::TimelineEntry,
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
    /// Permits to decide about the plan, while an approval is wanted and links are configured.
    pub(crate) approve_url: Option<String>,
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
            public_url: notify.public_url.clone(),
            has_buttons: notify.slack.is_some(),
            in_doubt: false,
        };
        if let Some((plan_hash, expires_at)) = letter.wanted_approval()
            && let Some(links) = Links::new(notify)
        {
            let (incident, to) = (letter.incident(), to.name.clone());
            letter.approve_url = Some(links.url(&Grant { incident, plan_hash, expires_at, to }));
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

/// Returns at most `chars_max` characters, with a mark where more was.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}
