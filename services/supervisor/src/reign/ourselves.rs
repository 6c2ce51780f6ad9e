//! What a leader tells about the system itself.

use std::path::PathBuf;

use chrono::Utc;
use domain::{
    event::{Event, EventType, Status},
    wire::{Envelope, Input, InputKind},
};
use service::{Chain, Context};
use tracing::{debug, error, warn};

use super::{End, Reign, spans};
use crate::{Args, core::Consequences, lending, state::Written};

impl Reign {
    /// Raises or clears the event about our own log. A log that lacks lines which only the
    /// ledger has is made whole by following again.
    pub(super) fn about_the_log(&self, was_failing: &mut bool, written: Written) -> Option<End> {
        let (is_failing, end) = match written {
            Written::Failing | Written::Waiting => (true, None),
            Written::Synced | Written::Recovered => (false, None),
            Written::Incomplete => (false, Some(End::Deposed)),
        };
        if std::mem::replace(was_failing, is_failing) != is_failing {
            let status = if is_failing { Status::Firing } else { Status::Resolved };
            self.about_us("log_unwritable", status);
        }
        end
    }

    /// Sends an event about ourselves.
    pub(super) fn about_us(&self, what: &str, status: Status) {
        self.tell_events(vec![our_event(what, what.to_owned(), status, &self.member_id)]);
    }

    /// Tells which of our own processes are missed, and which are back.
    pub(super) async fn look_at_agents(&self) {
        let state = self.state.read().await;
        let events = self.vigil.with(|it| it.events(state.core.desk(), Utc::now()));
        drop(state);
        for event in &events {
            let (what, status) = (event.kind.as_str(), event.status);
            let about = event.target.as_deref().unwrap_or_default();
            warn!(what, about, ?status, "one of our own processes is missed, or back");
        }
        self.tell_events(events);
    }

    /// Asks other supervisors for lines that our log lacks, beside everything else.
    pub(crate) fn fill_log(&self, cx: &Context<Args>, log: PathBuf) {
        let (writer, tasks, member) =
            (self.writer.clone(), cx.tasks.clone(), self.member_id.clone());
        let key = format!("log_incomplete/{}", self.dir.node());
        let told = move |is_missing: bool| {
            let status = if is_missing { Status::Firing } else { Status::Resolved };
            let event = our_event("log_incomplete", key.clone(), status, &member);
            let (writer, event) = (writer.clone(), event.clone());
            tasks.spawn(async move {
                let envelope = Envelope::new(event.id.clone(), Input::Event(event));
                if let Err(failure) = writer.submit(InputKind::Event, envelope).await {
                    debug!(error = %Chain(&failure), "an input of our own was not accepted");
                }
            });
        };
        let (bus, member, stop) = (cx.bus.clone(), self.member_id.clone(), cx.stop.clone());
        cx.tasks.spawn(lending::fill(bus, member, log, stop, told));
    }

    /// Submits events of our own.
    pub(super) fn tell_events(&self, events: Vec<Event>) {
        let wrap = |event: Event| Envelope::new(event.id.clone(), Input::Event(event));
        self.tell(events.into_iter().map(wrap).collect());
    }

    /// Submits inputs of our own without waiting for the broker.
    pub(super) fn tell(&self, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            let writer = self.writer.clone();
            self.tasks.spawn(async move {
                let kind = envelope.input.kind();
                if let Err(failure) = writer.submit(kind, envelope).await {
                    // Deadlines stay and are told again; the rest is about ourselves.
                    debug!(error = %Chain(&failure), "an input of our own was not accepted");
                }
            });
        }
    }

    /// Counts and logs what was decided.
    pub(super) fn count(&self, stored: &Consequences) {
        self.measures.count(stored);
        spans::send(stored);
        for (position, rejection) in &stored.rejections {
            let reason = rejection.reason;
            metrics::counter!("selfheal_supervisor_rejected_total", "reason" => reason)
                .increment(1);
            warn!(%position, reason, why = rejection.why, "an input was rejected");
        }
        for fault in &stored.faults {
            error!(error = %Chain(fault), "a decision did not fit the state; it is not recorded");
        }
    }
}

/// The same trouble whichever supervisor meets it, so that the next one can clear it.
pub(super) fn our_event(what: &str, key: String, status: Status, member: &str) -> Event {
    let kind = format!("selfheal.{what}").parse();
    let kind = kind.unwrap_or_else(|_| EventType::known("selfheal.trouble"));
    let mut event = Event::new(uuid::Uuid::now_v7().to_string(), kind, "selfheal/supervisor");
    event.fingerprint = Some(key);
    event.status = status;
    event.labels.insert("member".to_owned(), member.to_owned());
    event
}
