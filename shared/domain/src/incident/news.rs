//! What is new about an incident, and what is only said again.

use super::{CLAIMS_MAX, Circumstance, Incident, News};
use crate::{
    event::{Event, short_text},
    fact::Trigger,
};

/// Longest text about news.
const NEWS_CHARS_MAX: usize = 200;

impl Incident {
    /// Returns whether an event says something that none before has said.
    #[must_use]
    pub fn is_news(&self, event: &Event) -> bool {
        !self.claims.contains(&event.claim(event.severity.max(self.event.severity)))
    }

    /// Remembers what an event says, and whether that is news: the last diagnosis may have
    /// seen the check fail that it names.
    pub(super) fn hear(&mut self, event: &Event) {
        let claim = event.claim(event.severity.max(self.event.severity));
        if self.claims.contains(&claim) {
            return;
        }
        if CLAIMS_MAX <= self.claims.len() {
            self.claims.remove(0);
        }
        self.claims.push(claim);
        let is_worse = self.event.severity < event.severity;
        let check = event.check().filter(|_| !is_worse);
        if check.is_some_and(|check| self.has_seen_failing(check)) {
            return;
        }
        let what = event.annotations.get("summary").map_or("", String::as_str);
        let what = short_text(what, NEWS_CHARS_MAX);
        let colon = if what.is_empty() { "" } else { ": " };
        let text = format!("{} reports {}{colon}{what}", event.source, event.kind);
        self.news = Some(News { text, check: check.map(str::to_owned) });
    }

    /// Returns whether the last diagnosis saw a check of the target fail.
    #[must_use]
    pub fn has_seen_failing(&self, check: &str) -> bool {
        let begin = format!("check `{check}` ");
        self.evidence.iter().any(|it| {
            it.source == "check"
                && it.target == self.target
                && it.detail.get("ok").and_then(serde_json::Value::as_bool) == Some(false)
                && it.summary.starts_with(&begin)
        })
    }

    /// What was reported during a diagnosis that has seen it is no news.
    pub(super) fn forget_what_was_seen(&mut self) {
        let check = self.news.as_ref().and_then(|it| it.check.clone());
        if check.is_some_and(|check| self.has_seen_failing(&check)) {
            self.news = None;
        }
    }

    /// Takes up why it is diagnosed again.
    pub(super) fn reopen(&mut self, trigger: Trigger, now: Circumstance<'_>) {
        self.resolution = None;
        match trigger {
            Trigger::News => {
                self.n_reopened += 1;
                self.reopened_at = Some(now.at);
                self.approval = None;
                self.approvals_before.clear();
                self.start_over();
            }
            Trigger::AgentBack => self.retries = None,
            Trigger::Retry => {}
        }
    }

    /// What was tried before does not speak against another try.
    pub(super) fn start_over(&mut self) {
        self.attempts_before_retry = self.attempt;
        self.attempts_returned = 0;
        self.retries = None;
        self.n_rechecks_failed = 0;
        self.resolution = None;
    }
}
