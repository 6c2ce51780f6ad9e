//! What a leader tells about the system itself.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

    /// Raises the event that somebody else has written into the ledger. It is for a person to find
    /// out who, and to close.
    pub(super) async fn about_foreign_messages(&mut self) {
        let n_foreign = self.state.read().await.core.n_foreign();
        if self.n_foreign_told < n_foreign {
            self.about_us("ledger_foreign", Status::Firing);
        }
        // Fewer when a snapshot has covered some of them.
        self.n_foreign_told = n_foreign;
    }

    /// Reports something about ourselves.
    pub(super) fn about_us(&self, what: &'static str, status: Status) {
        self.report(what, self.event_about_us(what, status));
    }

    /// Returns an event about ourselves.
    pub(super) fn event_about_us(&self, what: &str, status: Status) -> Event {
        our_event(what, what.to_owned(), status, &self.member_id)
    }

    /// Reports an event about ourselves. It is kept and sent again until the broker has it, or
    /// until a newer one says otherwise.
    pub(super) fn report(&self, what: &'static str, event: Event) {
        self.reports.put(what, event);
        self.send_reports();
    }

    /// Sends what is not sent yet.
    pub(super) fn send_reports(&self) {
        for (what, event) in self.reports.take_up() {
            let (writer, reports) = (self.writer.clone(), self.reports.clone());
            self.tasks.spawn(async move {
                let envelope = Envelope::new(event.id.clone(), Input::Event(event.clone()));
                let sent = writer.submit(InputKind::Event, envelope).await;
                if let Err(failure) = &sent {
                    debug!(error = %Chain(failure), "an event of our own was not accepted, tried again");
                }
                reports.end(what, &event.id, sent.is_ok());
            });
        }
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
                debug!(error = %Chain(&failure), "taking over was not accepted, will retry");
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

/// Events about ourselves that the broker may not have yet: the newest of each kind, so their
/// number has a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Mutex<BTreeMap<&'static str, Report>>>);

#[derive(Debug)]
struct Report {
    event: Event,
    is_under_way: bool,
}

impl Reports {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<&'static str, Report>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, what: &'static str, event: Event) {
        self.with(|it| it.insert(what, Report { event, is_under_way: false }));
    }

    /// Returns those that nobody is sending now.
    fn take_up(&self) -> Vec<(&'static str, Event)> {
        self.with(|it| {
            let waiting = it.iter_mut().filter(|(_, report)| !report.is_under_way);
            let take = |(what, report): (&&'static str, &mut Report)| {
                report.is_under_way = true;
                (*what, report.event.clone())
            };
            waiting.map(take).collect()
        })
    }

    /// Forgets one that the broker has, unless another has taken its place.
    fn end(&self, what: &'static str, id: &str, is_sent: bool) {
        self.with(|it| {
            if it.get(what).is_some_and(|report| report.event.id == id) {
                if is_sent {
                    it.remove(what);
                } else if let Some(report) = it.get_mut(what) {
                    report.is_under_way = false;
                }
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_our_own_is_kept_until_the_broker_has_it_and_the_newest_counts() {
        let reports = Reports::default();
        let event = |status| our_event("x", "x".to_owned(), status, "me");
        let (first, second) = (event(Status::Firing), event(Status::Resolved));
        reports.put("x", first.clone());
        assert_eq!(reports.take_up().len(), 1);
        assert!(reports.take_up().is_empty(), "it is under way");
        reports.end("x", &first.id, false);
        assert_eq!(reports.take_up(), [("x", first.clone())], "sent again");
        reports.put("x", second.clone());
        reports.end("x", &first.id, true);
        assert_eq!(reports.take_up(), [("x", second.clone())], "the newer one is still to be sent");
        reports.end("x", &second.id, true);
        assert!(reports.take_up().is_empty());
    }
}
