//! Leading: inputs become decisions, in order, one append at a time.
//!
//! While an append is under way, what arrives is decided into the next batch; while the
//! log is synced, the next batch is appended.

mod appending;
mod config;
mod courier;
mod deliver;
mod herald;
mod measures;
mod ourselves;
mod recall;
mod rights;
mod scribe;
mod snapshot;
mod spans;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use bus::{
    Bus, ForeignMessage, InboxMessage, InboxReader, InboxWriter, Lease, Tokens, topology::REPUBLISH,
};
use chrono::Utc;
use domain::id::IncidentId;
use service::{BoxError, Context};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::{
    appending::{Appending, Outcome},
    courier::Courier,
    deliver::Deliver,
    herald::Herald,
    measures::Measures,
    scribe::Scribe,
};
use crate::{
    Args,
    config_file::FoundNow,
    core::{Batch, Consequences, Presence, Wheel, decode},
    data_dir::DataDir,
    queries,
    state::{Shared, Stored},
    watching::SharedVigil,
};

/// Messages of the inbox that are read in one go.
const MESSAGES_MAX: usize = 32;
/// How long to wait for inputs before looking at other things.
const IDLE: Duration = Duration::from_secs(1);
/// Incidents whose wishes are published again in one go, so that nothing new waits for all.
const PORTION: usize = 64;
/// How often the configuration file and other things around us are looked at.
const LOOK_AROUND: Duration = Duration::from_secs(1);

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
    stop: CancellationToken,
    writer: InboxWriter,
    dir: DataDir,
    state: Shared,
    stored: watch::Sender<Stored>,
    vigil: SharedVigil,
    config_path: PathBuf,
    found: watch::Receiver<FoundNow>,
    submission: config::Submission,
    reports: ourselves::Reports,
    inbox_last: watch::Sender<u64>,
    measures: Measures,
    /// Held while the ledger is shortened.
    shortening: Arc<Mutex<()>>,
    /// Foreign messages of the ledger that were reported.
    n_foreign_told: u64,
    tokens: Option<watch::Receiver<Option<Arc<Tokens>>>>,
}

/// What lives as long as one reign.
struct Court {
    inbox: InboxReader,
    deliver: Deliver,
    courier: Courier,
    scribe: Scribe,
    wheel: Wheel,
    appending: Option<Appending>,
    /// When the batch that is being made got its first input.
    begun: Option<Instant>,
    /// Whether the disk took no lines when we heard of it last.
    log_failing: bool,
    /// What is pending is to be published again.
    republish: bool,
    /// Those whose wishes are to be published again, in portions.
    wanting: VecDeque<IncidentId>,
}

impl Court {
    /// Whether something is to be published again.
    fn wants_settled(&self) -> bool {
        self.republish || !self.wanting.is_empty()
    }
}

impl Reign {
    /// Prepares to lead.
    pub(crate) fn new(
        cx: &Context<Args>,
        dir: DataDir,
        state: Shared,
        stored: watch::Sender<Stored>,
        vigil: SharedVigil,
        found: watch::Receiver<FoundNow>,
        inbox_last: watch::Sender<u64>,
    ) -> Self {
        Self {
            bus: cx.bus.clone(),
            member_id: cx.member_id.clone(),
            tasks: cx.tasks.clone(),
            stop: cx.stop.clone(),
            writer: cx.bus.agent_writer(),
            dir,
            state,
            stored,
            vigil,
            config_path: cx.args.config.clone(),
            found,
            submission: config::Submission::default(),
            reports: ourselves::Reports::default(),
            inbox_last,
            measures: Measures::new(),
            shortening: Arc::default(),
            n_foreign_told: 0,
            // From now on, and not when we lead: then they must be known at once.
            tokens: Some(cx.bus.token_store().watch()),
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
        measures::begin(self.state.read().await.core.desk().config());
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
        let (after, log) = {
            let mut state = self.state.write().await;
            state.leading = true;
            (state.core.read_after(), state.log.clone())
        };
        let deliver = Deliver::new(&self.bus, &self.tasks, lease.epoch());
        let herald = Herald::begin(&self.bus, &self.tasks);
        let mut court = Court {
            inbox: self.bus.read_inbox(after).await?,
            courier: Courier::begin(&deliver, &self.tasks),
            scribe: Scribe::begin(log, self.stored.clone(), (&deliver, &herald), &self.tasks),
            deliver,
            wheel: Wheel::default(),
            appending: None,
            begun: None,
            log_failing: false,
            republish: true,
            wanting: VecDeque::new(),
        };
        let _says_so = queries::serve_leader(&self.bus, &self.member_id).await?;
        let end = self.hold_court(&mut court, lease, stop).await;
        // What is acknowledged is written, and answered, before anything else happens.
        let Court { courier, scribe, appending, .. } = court;
        drop((courier, appending));
        scribe.end().await;
        end
    }

    async fn hold_court(
        &mut self,
        court: &mut Court,
        lease: &Lease,
        stop: &CancellationToken,
    ) -> Result<End, BoxError> {
        let mut work_made = self.bus.work_made();
        work_made.mark_unchanged();
        let (mut republish, mut look) = (ticker(REPUBLISH), ticker(LOOK_AROUND));
        self.learn_tokens().await;
        let mut told = self.say_that_we_lead(lease.epoch(), stop);
        self.begin(&court.deliver).await;
        self.about_foreign_messages().await;
        let mut presence = Presence::default();
        loop {
            if let Some(end) = self.go_on(court, lease.epoch()).await? {
                return Ok(end);
            }
            let (wait, may_read) = {
                let core = &self.state.read().await.core;
                let next = court.wheel.wait(core.desk().deadlines(), Utc::now(), IDLE);
                (if told.is_some() { IDLE } else { next }, !core.is_full())
            };
            presence.waits(Utc::now(), IDLE);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.finish(court).await?;
                    return Ok(End::Stopped);
                }
                () = lease.lost() => return Ok(End::Deposed),
                tokens = rights::changed(&mut self.tokens) => self.know_tokens(&tokens).await,
                outcome = appending::outcome(&mut court.appending) => {
                    if let Some(end) = self.appended(court, outcome).await? {
                        return Ok(end);
                    }
                }
                () = leadership_told(&mut told) => {
                    debug!("deadlines count from our taking over");
                }
                changed = work_made.changed() => {
                    if changed.is_err() {
                        return Ok(End::Deposed);
                    }
                    info!("the work queues are new, what is pending is published again");
                    court.republish = true;
                }
                written = court.scribe.changed() => {
                    if let Some(end) = self.about_the_log(&mut court.log_failing, written) {
                        return Ok(end);
                    }
                }
                _ = republish.tick() => {
                    court.republish = true;
                    self.housekeep().await;
                    self.shorten_ledger();
                }
                _ = look.tick() => self.look_around(court).await,
                messages = court.inbox.next_batch(MESSAGES_MAX, wait), if may_read => {
                    self.take(&messages?, &mut court.begun).await;
                }
                // What is published again in portions waits for everything else.
                () = std::future::ready(()), if court.wants_settled() && court.appending.is_none() => {}
            }
            if presence.was_away(Utc::now()) {
                warn!("this process was stopped for a while, it takes over anew");
                return Ok(End::Deposed);
            }
            if told.is_some() {
                // A deadline that came while nobody led must not be told before that.
                continue;
            }
            self.tell_deadlines(court).await;
        }
    }

    /// Looks at what may have changed around us without being told.
    async fn look_around(&mut self, court: &mut Court) {
        self.look_at_file().await;
        self.look_at_agents().await;
        court.deliver.guard_configuration();
        self.send_reports();
        court.scribe.retry();
    }

    async fn tell_deadlines(&mut self, court: &mut Court) {
        let due = {
            let state = self.state.read().await;
            court.wheel.due(state.core.desk().deadlines(), Utc::now())
        };
        self.tell(due);
    }

    /// Takes what was read from the inbox.
    async fn take(&self, messages: &[InboxMessage], begun: &mut Option<Instant>) {
        let Some(last) = messages.last() else { return };
        self.inbox_last.send_replace(last.seq);
        // Read before the state is locked: it takes most of the time.
        let subjects = self.bus.subjects();
        let parts: Vec<_> = messages.iter().map(|it| decode::parts(subjects, it)).collect();
        let mut state = self.state.write().await;
        parts.into_iter().for_each(|it| state.core.take(it));
        begun.get_or_insert_with(Instant::now);
    }

    /// Takes up what the former leader left.
    async fn begin(&mut self, deliver: &Deliver) {
        let state = self.state.read().await;
        if 0 < state.core.n_stored() {
            deliver.configuration(state.core.desk().config());
        }
        drop(state);
        self.find_snapshots().await;
        self.make_room().await;
        self.submission = config::Submission::default();
        self.look_at_file().await;
    }

    /// Decides what waits, and begins the next append when none is under way.
    async fn go_on(&mut self, court: &mut Court, epoch: u64) -> Result<Option<End>, BoxError> {
        loop {
            self.when_settled(court).await;
            let mut state = self.state.write().await;
            // What must find the state settled waits for the append, and not for ever.
            let wants_settled = court.wants_settled() || state.core.snapshots().is_due();
            if !(wants_settled && court.appending.is_some()) {
                state.core.decide()?;
            }
            if court.appending.is_some() {
                return Ok(None);
            }
            let Some(mut batch) = state.core.seal(epoch)? else { return Ok(None) };
            let room = state.core.snapshots().room();
            drop(state);
            court.courier.send(std::mem::take(&mut batch.looks)).await;
            if let Some(started) = court.begun.take() {
                metrics::histogram!("selfheal_supervisor_batch_seconds").record(started.elapsed());
            }
            if batch.append.is_none() {
                let outcome = Outcome::NothingToStore(batch);
                if let Some(end) = self.appended(court, outcome).await? {
                    return Ok(Some(end));
                }
                continue;
            }
            let ledger = self.bus.ledger();
            court.appending = Some(Appending::begin(&ledger, batch, room, &court.scribe));
        }
    }

    /// Does what can only be done while nothing is decided ahead of the ledger.
    async fn when_settled(&self, court: &mut Court) {
        if court.appending.is_some() {
            return;
        }
        let mut state = self.state.write().await;
        if !state.core.is_settled() {
            return;
        }
        if let Some((seq, snapshot)) = state.core.snapshot() {
            self.store_snapshot(seq, snapshot);
        }
        if std::mem::take(&mut court.republish) {
            court.deliver.republish();
            court.wanting = state.core.desk().wanting().collect();
            self.recall(state.core.desk().recalls().collect());
        }
        let n = court.wanting.len().min(PORTION);
        let wishes = state.core.wishes_of(court.wanting.drain(..n));
        drop(state);
        court.courier.send(wishes).await;
    }

    /// Lets the consequences of what is stored be seen.
    async fn appended(
        &mut self,
        court: &mut Court,
        outcome: Outcome,
    ) -> Result<Option<End>, BoxError> {
        let (batch, seq) = match outcome {
            Outcome::Stored(batch, seq) => (batch, Some(seq)),
            Outcome::NothingToStore(batch) => (batch, None),
            Outcome::Overtaken(batch, foreign) => {
                self.go_behind(court, batch, &foreign).await?;
                return Ok(None);
            }
            Outcome::Deposed => return Ok(Some(End::Deposed)),
            Outcome::Full(room) => {
                self.state.write().await.core.snapshots_mut().full(room);
                return Ok(Some(End::Deposed));
            }
            Outcome::TooLarge(batch) => {
                self.state.write().await.core.too_large(&batch);
                return Ok(Some(End::Deposed));
            }
            Outcome::Refused(failure) => return Err(failure.into()),
        };
        let consequences = {
            let mut state = self.state.write().await;
            state.core.stored(batch, seq)?
        };
        self.count(&consequences);
        self.recall_recorded(&consequences.recorded).await;
        self.end_claims(&consequences.recorded);
        let Consequences { lines, wishes, configuration, rejections, answers, .. } = consequences;
        // Work first, since somebody is sick.
        court.courier.send(wishes).await;
        court.scribe.write(lines, answers).await;
        if let Some(config) = configuration {
            court.deliver.configuration(&config);
        }
        if rejections.iter().any(|(_, it)| it.is_of_ours()) {
            // One of our own processes speaks what we do not understand: another version?
            self.about_us("input_not_understood", domain::event::Status::Firing);
        }
        court.deliver.rejections(rejections);
        Ok(None)
    }

    /// Appends a batch behind what somebody else has put in its place.
    async fn go_behind(
        &mut self,
        court: &mut Court,
        mut batch: Batch,
        foreign: &[ForeignMessage],
    ) -> Result<(), BoxError> {
        let room = {
            let mut state = self.state.write().await;
            for message in foreign {
                state.make_way(&mut batch, message)?;
            }
            state.core.snapshots().room()
        };
        self.about_foreign_messages().await;
        court.appending = Some(Appending::begin(&self.bus.ledger(), batch, room, &court.scribe));
        Ok(())
    }

    /// Waits for the append that is under way, so that nobody has to find out about it.
    async fn finish(&mut self, court: &mut Court) -> Result<(), BoxError> {
        if court.appending.is_none() {
            return Ok(());
        }
        let outcome = appending::outcome(&mut court.appending);
        if let Ok(outcome) = tokio::time::timeout(IDLE, outcome).await {
            self.appended(court, outcome).await?;
        }
        Ok(())
    }

    /// Lets the broker forget inputs that are decided.
    async fn housekeep(&self) {
        let Some(up_to) = self.state.read().await.core.inbox_forgettable() else { return };
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            if let Err(failure) = bus.forget_inbox(up_to).await {
                debug!(error = %service::Chain(&failure), "decided inputs could not be forgotten, tried again later");
            }
        });
    }
}

/// Waits until the broker has taken that we lead.
async fn leadership_told(told: &mut Option<tokio::task::JoinHandle<()>>) {
    match told {
        Some(task) => {
            // A task that failed has told nothing; deadlines must go on all the same.
            let _ended = task.await;
            *told = None;
        }
        None => std::future::pending().await,
    }
}

fn ticker(period: Duration) -> Interval {
    let mut ticker = tokio::time::interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
