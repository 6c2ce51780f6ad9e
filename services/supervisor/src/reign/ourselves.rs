//! What a leader tells about the system itself.

use std::{path::PathBuf, time::Duration};

use chrono::Utc;
use domain::{
    event::{Event, EventType, Status},
    wire::{Envelope, Input, InputKind, TimerFired},
};
use service::{Chain, Context};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{End, Reign, spans};
use crate::{Args, core::Consequences, lending, state::Written};

/// Wait before our taking over is told again, when the broker did not take it.
const LEADERSHIP_AGAIN: Duration = Duration::from_millis(500);
/// How often it is told; then deadlines go on all the same.
const LEADERSHIP_TRIES: usize = 20;

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

    /// Tells the desk that we lead, so that deadlines of work that nobody could do or report
    /// meanwhile count from now. Ends when the broker has taken it: what is told after that
    /// stands behind it in the inbox.
    pub(super) fn say_that_we_lead(
        &self,
        epoch: u64,
        stop: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        let (writer, member, stop) = (self.writer.clone(), self.member_id.clone(), stop.clone());
        Some(self.tasks.spawn(async move {
            for _ in 0..LEADERSHIP_TRIES {
                let id = format!("leadership/{epoch}/{member}");
                let input = Input::Timer(TimerFired::leadership(epoch, Utc::now()));
                let submit = writer.submit(InputKind::Timer, Envelope::new(id, input));
                let Some(submitted) = stop.run_until_cancelled(submit).await else { return };
                let Err(failure) = submitted else { return };
                debug!(error = %Chain(&failure), "taking over was not accepted, tried again");
                let wait = tokio::time::sleep(LEADERSHIP_AGAIN);
                if stop.run_until_cancelled(wait).await.is_none() {
                    return;
                }
            }
        }))
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
