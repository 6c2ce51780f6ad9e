//! Notices that people are owed, and how long somebody is sought.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Incident, Phase};
use crate::{notify::Occasion, wire::NoticeReport};

/// Notices that are owed at once; when nobody can be told, the newest count.
const NOTICES_MAX: usize = 64;

/// How often one notice is tried, each time a few times in a row by the gateway. With the
/// waits between, a receiver that is away for a quarter of an hour still hears of it.
const TRIES_MAX: u32 = 6;

/// Wait before the second try; doubles with each further one.
const TRY_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(30);

/// A notice that people are owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Names it: number of the decision that caused it, and the receiver.
    pub id: String,
    /// One line.
    pub title: String,
    /// Why, in words.
    pub text: String,
    /// What it tells of.
    #[serde(default)]
    pub occasion: Occasion,
    /// Name of the receiver; empty in what an older version owed to all.
    #[serde(default)]
    pub to: String,
    /// Not before this time: quiet hours, too many notices, or a try that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
}

impl Notice {
    /// Returns the name of the present try: a late report of another one is told by it.
    #[must_use]
    pub fn name(&self) -> String {
        if self.tries == 0 { self.id.clone() } else { format!("{}-t{}", self.id, self.tries + 1) }
    }
}

/// An escalation under way: somebody is sought until one acknowledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Name of the escalation.
    pub escalation: String,
    /// Index of the next step.
    pub step: u32,
    /// When it comes.
    pub due: DateTime<Utc>,
    /// What people are called for.
    pub occasion: Occasion,
}

impl Incident {
    /// Returns the notices that can be sent now: of each receiver the first, so that it hears
    /// of things in their order and what it keeps is known to the next one.
    pub fn notices_wanted(&self) -> impl Iterator<Item = &Notice> {
        let first = |idx: usize, it: &Notice| {
            self.notices.iter().take(idx).all(|former| former.to != it.to)
        };
        let all = self.notices.iter().enumerate();
        all.filter(move |(idx, it)| it.not_before.is_none() && first(*idx, it)).map(|(_, it)| it)
    }

    /// Returns when a notice that waits, or the next step of an escalation, is due.
    #[must_use]
    pub fn telling_due(&self) -> Option<DateTime<Utc>> {
        let notices = self.notices.iter().filter_map(|it| it.not_before);
        notices.chain(self.calls.iter().map(|it| it.due)).min()
    }

    /// Owes a receiver a notice. One that still waits says nothing that the new one does not:
    /// it is replaced, and unless the new one is urgent, that waits as long.
    pub(crate) fn owe(&mut self, mut notice: Notice, is_urgent: bool) {
        let waits = |it: &Notice| it.to == notice.to && it.not_before.is_some();
        if let Some(idx) = self.notices.iter().position(waits) {
            let former = self.notices.remove(idx);
            if !is_urgent {
                notice.not_before = former.not_before;
                notice.tries = former.tries;
            }
        }
        if self.notices.len() == NOTICES_MAX {
            self.notices.remove(0);
        }
        if notice.occasion.calls() {
            self.told.entry(notice.to.clone()).or_default();
        }
        self.notices.push(notice);
    }

    /// Takes up what a gateway says about a notice: it was sent, or is tried again later, or
    /// is given up.
    pub(super) fn notified(&mut self, report: &NoticeReport, at: DateTime<Utc>) {
        let Some(idx) = self.notices.iter().position(|it| it.name() == report.notice) else {
            return;
        };
        let Some(notice) = self.notices.get_mut(idx) else { return };
        if let Some(keep) = &report.keep {
            self.told.insert(notice.to.clone(), keep.clone());
        }
        if will_be_tried_again(notice, report) {
            let factor = 1_i32.checked_shl(notice.tries).unwrap_or(i32::MAX);
            notice.tries += 1;
            notice.not_before = Some(at + TRY_AGAIN_AFTER * factor);
        } else {
            self.notices.remove(idx);
        }
    }

    /// Lets notices go that have waited.
    pub(super) fn release(&mut self, names: &[String]) {
        for notice in &mut self.notices {
            if names.contains(&notice.name()) {
                notice.not_before = None;
            }
        }
    }

    /// Ends the escalations that nobody is needed for any more.
    pub(crate) fn end_calls(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let is_seen = self.acknowledged_by.is_some();
        let phase = &self.phase;
        self.calls.retain(|call| {
            let waits = match call.occasion {
                Occasion::Escalated => matches!(phase, Phase::Escalated(_)),
                Occasion::ApprovalWanted => matches!(phase, Phase::AwaitingApproval { .. }),
                Occasion::Storm => matches!(phase, Phase::Proposed { hold: Some(_), .. }),
                Occasion::Opened
                | Occasion::Approved
                | Occasion::FixStarted
                | Occasion::Reopened
                | Occasion::Acknowledged
                | Occasion::Resolved
                | Occasion::Closed => !matches!(phase, Phase::Over(_)),
            };
            waits && !is_seen
        });
    }
}

/// Returns whether a notice that could not be sent is tried again.
pub(crate) fn will_be_tried_again(notice: &Notice, report: &NoticeReport) -> bool {
    report.outcome.is_err() && report.again && notice.tries + 1 < TRIES_MAX
}
