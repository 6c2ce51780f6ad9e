//! Leading: inputs become decisions, in order, one batch at a time.

mod batch;
mod config;
mod deliver;

use std::time::Duration;

use bus::{AppendError, Bus, InboxMessage, InboxWriter, Lease};
use chrono::Utc;
use domain::{
    config::Config,
    event::{Event, EventType},
    id::Position,
    wire::{Envelope, Input},
};
use service::{BoxError, Chain, Context};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    Args,
    config_file::ConfigFile,
    data_dir::DataDir,
    following::write,
    queries,
    state::{Shared, State, Written},
    timers::Wheel,
};
use batch::Batch;
use deliver::Deliver;

/// Messages of the inbox that are decided in one batch at most.
const MESSAGES_MAX: usize = 512;
/// How long to wait for inputs before looking at other things.
const IDLE: Duration = Duration::from_secs(1);
/// How often what is pending is published again, in case a queue has lost it.
const REPUBLISH: Duration = Duration::from_secs(30);
/// How often the configuration file is looked at.
const LOOK_AT_FILE: Duration = Duration::from_secs(1);
/// Inbox messages that are kept behind the last decided one, for people who look.
const INBOX_KEPT: u64 = 1000;
/// Inputs without a decision after which their position is stored all the same.
const UNCOVERED_MAX: u64 = 1000;
/// Wait before an append that found no room is tried again.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// Why leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Told to.
    Stopped,
    /// Another one leads, or nobody knows: follow again.
    Deposed,
}

/// What a supervisor needs to lead.
#[derive(Debug)]
pub(crate) struct Reign {
    bus: Bus,
    member_id: String,
    tasks: TaskTracker,
    writer: InboxWriter,
    dir: DataDir,
    state: Shared,
    file: ConfigFile,
    given: Option<(Config, String)>,
    inbox_last: watch::Sender<u64>,
    /// Inputs that could not be stored; they are rejected when they are met again.
    poison: Vec<Position>,
}

impl Reign {
    /// Prepares to lead.
    pub(crate) fn new(
        cx: &Context<Args>,
        dir: DataDir,
        state: Shared,
        file: ConfigFile,
        given: Option<(Config, String)>,
        inbox_last: watch::Sender<u64>,
    ) -> Self {
        Self {
            bus: cx.bus.clone(),
            member_id: cx.member_id.clone(),
            tasks: cx.tasks.clone(),
            writer: cx.bus.inbox_writer(),
            dir,
            state,
            file,
            given,
            inbox_last,
            poison: Vec::new(),
        }
    }

    /// Returns the name under which the lease is held.
    #[must_use]
    pub(crate) fn node(&self) -> &str {
        self.dir.node()
    }

    /// Leads until told to stop or deposed.
    ///
    /// # Errors
    ///
    /// When the inbox cannot be read, or the broker refuses what a leader must do.
    pub(crate) async fn run(
        &mut self,
        lease: Lease,
        stop: &CancellationToken,
    ) -> Result<End, BoxError> {
        let epoch = lease.epoch();
        info!(epoch, member = self.member_id, "leading");
        metrics::gauge!("selfheal_supervisor_leading").set(1.0);
        let end = self.lead(&lease, stop).await;
        metrics::gauge!("selfheal_supervisor_leading").set(0.0);
        self.state.write().await.leading = false;
        match &end {
            Ok(End::Stopped) => lease.release().await,
            Ok(End::Deposed) => warn!(epoch, "not leading any more"),
            Err(_) => lease.release().await,
        }
        end
    }

    async fn lead(&mut self, lease: &Lease, stop: &CancellationToken) -> Result<End, BoxError> {
        let position = {
            let mut state = self.state.write().await;
            state.leading = true;
            state.desk.position()
        };
        // The last message may be a frame that is decided in part: it is read again, and
        // what was decided of it is skipped.
        let mut inbox = self.bus.read_inbox(position.seq.saturating_sub(1)).await?;
        let _says_so = queries::serve_leader(&self.bus, &self.member_id).await?;
        let mut deliver = Deliver::new(&self.bus, &self.tasks);
        let mut wheel = Wheel::default();
        let mut work_made = self.bus.work_made();
        work_made.mark_unchanged();
        let mut republish = tokio::time::interval(REPUBLISH);
        let mut look = tokio::time::interval(LOOK_AT_FILE);
        for ticker in [&mut republish, &mut look] {
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        self.begin(&mut deliver, &mut wheel).await;
        loop {
            let wait = wheel.wait(Utc::now(), IDLE);
            let messages = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                () = lease.lost() => return Ok(End::Deposed),
                changed = work_made.changed() => {
                    if changed.is_err() {
                        return Ok(End::Deposed);
                    }
                    info!("the work queues are new, what is pending is published again");
                    self.republish(&mut deliver).await;
                    continue;
                }
                _ = republish.tick() => {
                    self.republish(&mut deliver).await;
                    self.housekeep().await;
                    continue;
                }
                _ = look.tick() => {
                    self.look_at_file();
                    if let Some(end) = self.retry_log().await {
                        return Ok(end);
                    }
                    continue;
                }
                messages = inbox.next_batch(MESSAGES_MAX, wait) => messages?,
            };
            if !messages.is_empty() {
                match self.decide(lease, stop, &messages, &mut deliver).await? {
                    None => {}
                    Some(end) => return Ok(end),
                }
                wheel.set(self.state.read().await.desk.deadlines());
            }
            self.tell(wheel.fire(Utc::now(), Instant::now()));
        }
    }

    /// Takes up what the former leader left.
    async fn begin(&mut self, deliver: &mut Deliver, wheel: &mut Wheel) {
        let state = self.state.read().await;
        wheel.set(state.desk.deadlines());
        if 0 < state.desk.n_decisions() {
            deliver.configuration(state.desk.config());
        }
        deliver.all(state.desk.pending()).await;
        drop(state);
        self.submit_given().await;
    }

    async fn republish(&self, deliver: &mut Deliver) {
        let wishes = self.state.read().await.desk.pending();
        deliver.all(wishes).await;
    }

    /// Decides a batch of messages, in portions that fit into the ledger.
    async fn decide(
        &mut self,
        lease: &Lease,
        stop: &CancellationToken,
        messages: &[InboxMessage],
        deliver: &mut Deliver,
    ) -> Result<Option<End>, BoxError> {
        if let Some(last) = messages.last() {
            self.inbox_last.send_replace(last.seq);
        }
        let started = Instant::now();
        let shared = self.state.clone();
        let mut state = shared.write().await;
        let mut batch = Batch::default();
        for message in messages {
            for part in crate::decode::parts(self.bus.subjects(), message) {
                if part.position <= state.desk.position() {
                    continue;
                }
                batch.decide(&mut state, part, &self.poison);
                if batch.is_full() {
                    let full = std::mem::take(&mut batch);
                    if let Some(end) = self.store(lease, stop, &mut state, full, deliver).await? {
                        return Ok(Some(end));
                    }
                }
            }
        }
        let end = self.store(lease, stop, &mut state, batch, deliver).await?;
        metrics::histogram!("selfheal_supervisor_batch_seconds").record(started.elapsed());
        Ok(end)
    }

    /// Stores a batch in the ledger; then its consequences may be seen.
    async fn store(
        &mut self,
        lease: &Lease,
        stop: &CancellationToken,
        state: &mut State,
        batch: Batch,
        deliver: &mut Deliver,
    ) -> Result<Option<End>, BoxError> {
        for fault in &batch.faults {
            error!(error = %Chain(fault), "a decision did not fit the state; it is not recorded");
        }
        let covers = state.desk.position();
        if batch.is_empty() && covers.seq < state.covered.seq + UNCOVERED_MAX {
            return Ok(self.after(state, batch, &[], deliver).await);
        }
        let payload = batch.entry(lease.epoch(), covers)?;
        let entry = loop {
            let appended = self.bus.ledger().append(state.ledger_seq, payload.clone(), &[]).await;
            match appended {
                Ok(seq) => break seq,
                Err(failure @ (AppendError::Fenced { .. } | AppendError::Unknown { .. })) => {
                    warn!(error = %Chain(&failure), "the batch was not stored by us");
                    return Ok(Some(End::Deposed));
                }
                Err(failure @ AppendError::TooLarge { .. }) => {
                    error!(error = %Chain(&failure), position = %covers, "an input gives more decisions than the ledger takes; it is rejected");
                    self.poison.push(batch.first().unwrap_or(covers));
                    return Ok(Some(End::Deposed));
                }
                Err(failure @ AppendError::Full { .. }) => {
                    error!(error = %Chain(&failure), hint = "give JetStream more room (max_file_store, or the limits of the account)", "nothing can be decided");
                    tokio::select! {
                        () = tokio::time::sleep(FULL_WAIT) => {}
                        () = stop.cancelled() => return Ok(Some(End::Stopped)),
                        () = lease.lost() => return Ok(Some(End::Deposed)),
                    }
                }
                Err(failure @ AppendError::Refused { .. }) => return Err(failure.into()),
            }
        };
        state.ledger_seq = entry;
        state.covered = covers;
        let lines = State::lines(&batch.recorded, entry, covers);
        Ok(self.after(state, batch, &lines, deliver).await)
    }

    /// Lets the consequences of what is stored be seen: work first, since somebody is sick;
    /// the log beside it; answers and news once the lines are on disk.
    async fn after(
        &self,
        state: &State,
        batch: Batch,
        lines: &[domain::view::LogLine],
        deliver: &mut Deliver,
    ) -> Option<End> {
        let mut end = None;
        for id in batch.touched() {
            deliver.now(state.desk.wishes_of(id)).await;
        }
        if !lines.is_empty() {
            end = self.about_the_log(write(&state.log, lines.to_vec()));
        }
        if batch.has_configuration() {
            deliver.configuration(state.desk.config());
        }
        if batch.rejections.iter().any(|(_, it)| it.is_of_ours()) {
            // One of our own processes speaks what we do not understand: another version?
            self.about_us("input_not_understood", domain::event::Status::Firing);
        }
        deliver.rejections(batch.rejections);
        deliver.answers(batch.answers).await;
        deliver.news(lines).await;
        end
    }

    /// Raises or clears the event about our own log. A log that lacks lines which only the
    /// ledger has is made whole by following again.
    fn about_the_log(&self, written: Written) -> Option<End> {
        match written {
            Written::Synced | Written::Waiting => None,
            Written::Failing => {
                self.about_us("log_unwritable", domain::event::Status::Firing);
                None
            }
            Written::Recovered => {
                self.about_us("log_unwritable", domain::event::Status::Resolved);
                None
            }
            Written::Incomplete => {
                self.about_us("log_unwritable", domain::event::Status::Resolved);
                Some(End::Deposed)
            }
        }
    }

    /// Sends an event about ourselves.
    fn about_us(&self, what: &str, status: domain::event::Status) {
        let Ok(kind) = format!("selfheal.{what}").parse::<EventType>() else { return };
        let mut event = Event::new(
            uuid::Uuid::now_v7().to_string(),
            kind,
            format!("selfheal/{}", self.member_id),
        );
        // The same trouble whichever supervisor meets it, so that the next one can clear it.
        "selfheal/supervisor".clone_into(&mut event.source);
        event.fingerprint = Some(what.to_owned());
        event.status = status;
        event.labels.insert("member".to_owned(), self.member_id.clone());
        let id = event.id.clone();
        self.tell(vec![Envelope::new(id, Input::Event(event))]);
    }

    /// Submits inputs of our own without waiting for the broker.
    fn tell(&self, envelopes: Vec<Envelope>) {
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

    /// Tries to write what the disk did not take, also when nothing else happens.
    async fn retry_log(&self) -> Option<End> {
        let state = self.state.read().await;
        if state.log.n_waiting() == 0 {
            return None;
        }
        self.about_the_log(write(&state.log, Vec::new()))
    }

    /// Lets the broker forget inputs that are decided.
    async fn housekeep(&self) {
        // Not the last decided one: only what the ledger covers is never read again.
        let covered = self.state.read().await.covered;
        let Some(up_to) = covered.seq.checked_sub(INBOX_KEPT) else { return };
        if let Err(failure) = self.bus.forget_inbox(up_to).await {
            debug!(error = %Chain(&failure), "decided inputs could not be forgotten, tried again later");
        }
    }
}
