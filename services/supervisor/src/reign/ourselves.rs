//! What a leader tells about the system itself.

use domain::{
    event::{Event, EventType, Status},
    wire::{Envelope, Input},
};
use service::Chain;
use tracing::{debug, error, warn};

use super::{End, Reign};
use crate::{core::Consequences, state::Written};

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
        let Ok(kind) = format!("selfheal.{what}").parse::<EventType>() else { return };
        // The same trouble whichever supervisor meets it, so that the next one can clear it.
        let mut event = Event::new(uuid::Uuid::now_v7().to_string(), kind, "selfheal/supervisor");
        event.fingerprint = Some(what.to_owned());
        event.status = status;
        event.labels.insert("member".to_owned(), self.member_id.clone());
        self.tell_events(vec![event]);
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
        for (kind, n) in &stored.inputs {
            metrics::counter!("selfheal_supervisor_inputs_total", "kind" => kind.as_str())
                .increment(*n);
        }
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
