//! Who lives.
//!
//! Who gives no sign for [`MEMBER_TTL`] is dead, while others are heard. When nobody is heard,
//! it may be the broker that hears nobody, as a cluster does while it elects a leader, or we may
//! not hear the broker, when the server that kept our consumer is gone: then nobody dies until
//! the bucket has a leader, and our consumer has told that it has nothing for us, for longer than
//! a sign takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{consumer::PullConsumer, message::PublishMessage},
};
use bytes::Bytes;
use chrono::Utc;
use domain::wire::{Member, Pulse};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{
    Error,
    core::Core,
    error::Cause,
    lease::is_mark,
    log::{LogItem, LogMessage, LogReader, Start},
    publish,
    topology::{BucketId, HEARTBEAT, MEMBER_KEY_PREFIX, MEMBER_TTL},
};

/// How long to wait before the next sign of life when one was not taken, for instance
/// because a supervisor has not yet made the bucket anew.
const HEARTBEAT_RETRY: Duration = Duration::from_millis(200);

/// Silence of all members that says more about the broker than about them.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the broker must have answered before a silence of all members is believed: a sign
/// that was not taken is given up after [`HEARTBEAT`] and tried again.
const PROVEN: Duration = Duration::from_millis(2500);

/// How often it is asked, and how promptly it must answer.
const ASK_EVERY: Duration = Duration::from_millis(250);
const PROMPT: Duration = Duration::from_millis(400);

/// The living, by their ids.
type Living = BTreeMap<String, Member>;

/// Tasks that all handles share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    inner: Arc<Mutex<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    heartbeat: Option<(String, AbortOnDropHandle<()>)>,
    watch: Option<(watch::Receiver<Living>, AbortOnDropHandle<()>)>,
}

/// The living agents.
#[derive(Clone, Debug)]
pub struct Members {
    core: Core,
    shared: Shared,
}

impl Members {
    pub(crate) fn new(core: &Core, shared: &Shared) -> Self {
        Self { core: core.clone(), shared: shared.clone() }
    }

    /// Enters the list, and stays in it until [`Self::leave`] or the end of the process.
    ///
    /// Signs of life come from a task of their own: a busy agent is not a dead one.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] when the broker does not take the first sign of life.
    pub async fn join(&self, member: Member) -> Result<(), Error> {
        let key = self.core.subjects.member_key(&member.id);
        let sign = || sign(&self.core, &member);
        let first = publish::until_acked(&self.core, &key, sign, publish::GIVE_UP).await;
        first.map_err(|fault| Error::NotStored { what: "the member", source: fault.into() })?;
        let task = tokio::spawn(live(self.core.clone(), key.clone(), member));
        let mut tasks = self.tasks();
        tasks.heartbeat = Some((key, AbortOnDropHandle::new(task)));
        Ok(())
    }

    /// Leaves the list at once, so that others take over without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] when the broker cannot be told; the entry ends by itself then.
    pub async fn leave(&self) -> Result<(), Error> {
        let Some((key, heartbeat)) = self.tasks().heartbeat.take() else {
            return Ok(());
        };
        heartbeat.abort();
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let message = PublishMessage::build().headers(headers).ttl(MEMBER_TTL);
        let deadline = Instant::now() + HEARTBEAT;
        let left = publish::once(&self.core, &key, message, deadline).await;
        left.map(drop).map_err(|fault| Error::NotStored { what: "our leave", source: fault.into() })
    }

    /// Follows the living. While the broker is away the list stays as it was.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, Member>> {
        let mut tasks = self.tasks();
        let (living, _task) = tasks.watch.get_or_insert_with(|| {
            let (tx, living) = watch::channel(Living::new());
            let task = tokio::spawn(follow(self.core.clone(), tx));
            (living, AbortOnDropHandle::new(task))
        });
        living.clone()
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a sign of life, with the time of our clock.
fn sign(core: &Core, member: &Member) -> PublishMessage {
    let pulse = Pulse { clock: Utc::now(), violation: core.link.last_violation() };
    let member = Member { pulse: Some(pulse), ..member.clone() };
    // A member is texts and numbers, which can always be written.
    let entry = serde_json::to_vec(&member).unwrap_or_default();
    PublishMessage::build().payload(Bytes::from(entry)).ttl(MEMBER_TTL)
}

/// Gives a sign of life each second, and at once on a new connection.
async fn live(core: Core, key: String, member: Member) {
    let mut wait = HEARTBEAT;
    loop {
        let generation = core.link.generation();
        tokio::select! {
            () = sleep(wait) => {}
            () = core.link.newer_than(generation) => {}
        }
        let deadline = Instant::now() + HEARTBEAT;
        wait = match publish::once(&core, &key, sign(&core, &member), deadline).await {
            Ok(_) => HEARTBEAT,
            Err(fault) => {
                debug!(%fault, "a sign of life was not taken");
                HEARTBEAT_RETRY
            }
        };
    }
}

/// The list as it is built from the log of the bucket.
struct Roll {
    key_prefix: String,
    entries: BTreeMap<String, (Member, Instant)>,
    /// When anybody was heard last.
    heard: Instant,
    /// How many messages were read through the consumer that stands.
    n_read: u64,
    /// Since when the broker has answered while nobody was heard.
    proven: Option<Instant>,
    /// Not to be asked before this time.
    ask_at: Instant,
}

impl Roll {
    fn take(&mut self, message: &LogMessage) -> Result<(), Cause> {
        self.n_read += 1;
        let Some(key) = message.subject.strip_prefix(&self.key_prefix) else {
            return Err("a key outside of the members".into());
        };
        if is_mark(message.headers.as_ref()) {
            // Also entries of the living end while the broker takes no signs of life: whether
            // somebody is dead is for us to say, but who leaves says so himself.
            if message.headers.as_ref().is_some_and(|it| it.get("KV-Operation").is_some()) {
                self.entries.remove(key);
            }
            return Ok(());
        }
        if SILENCE < self.heard.elapsed() {
            self.forgive();
        }
        (self.heard, self.proven) = (Instant::now(), None);
        let mut member: Member = serde_json::from_slice(&message.payload)?;
        // It changes with each sign of life, and who follows the list asks who lives.
        member.pulse = None;
        self.entries.insert(key.to_owned(), (member, Instant::now()));
        Ok(())
    }

    /// After an interruption everybody has the time of one life to give a sign again.
    fn forgive(&mut self) {
        let now = Instant::now();
        for (_, seen) in self.entries.values_mut() {
            *seen = now;
        }
    }

    /// Buries whoever was silent for too long, if it can be believed.
    async fn judge(&mut self, core: &Core, consumer: Option<&str>) {
        let now = Instant::now();
        if self.heard + SILENCE <= now {
            self.ask_at = now + ASK_EVERY;
            if !self.is_silence(core, consumer).await {
                self.proven = None;
                self.forgive();
                return;
            }
            if now < *self.proven.get_or_insert(now) + PROVEN {
                return;
            }
        }
        self.entries.retain(|_, (_, seen)| now < *seen + MEMBER_TTL);
    }

    /// Returns whether the broker itself says, promptly, that nobody is to be heard: the bucket
    /// has a leader that could take signs, and our consumer has nothing that we have not read.
    async fn is_silence(&self, core: &Core, consumer: Option<&str>) -> bool {
        let Some(consumer) = consumer else { return false };
        let stream = core.subjects.bucket_stream(BucketId::Members);
        let asked = timeout(PROMPT, async {
            core.js.get_stream(&stream).await.map_err(Cause::from)?;
            let found: PullConsumer =
                core.js.get_consumer_from_stream(consumer, &stream).await.map_err(Cause::from)?;
            let info = found.cached_info();
            Ok::<_, Cause>(info.num_pending == 0 && info.delivered.consumer_sequence <= self.n_read)
        });
        match asked.await {
            Ok(Ok(silence)) => silence,
            Ok(Err(error)) => {
                debug!(%error, "the broker does not say whether anybody is to be heard");
                false
            }
            Err(_elapsed) => false,
        }
    }

    /// Returns when to judge next: at the next death, or when it must be asked whether the
    /// broker hears anybody.
    fn next_look(&self) -> Option<Instant> {
        let death = self.entries.values().map(|(_, seen)| *seen + MEMBER_TTL).min()?;
        Some(death.min(self.heard + SILENCE).max(self.ask_at))
    }

    fn living(&self) -> Living {
        self.entries.values().map(|(member, _)| (member.id.clone(), member.clone())).collect()
    }
}

async fn follow(core: Core, tx: watch::Sender<Living>) {
    let stream = core.subjects.bucket_stream(BucketId::Members);
    let key_prefix = core.subjects.key(BucketId::Members, &format!("{MEMBER_KEY_PREFIX}."));
    let filter = format!("{key_prefix}>");
    let mut log = LogReader::open(core.clone(), stream, filter, Start::LastPerSubject);
    let now = Instant::now();
    let mut roll = Roll {
        key_prefix,
        entries: BTreeMap::new(),
        heard: now,
        n_read: 0,
        proven: None,
        ask_at: now,
    };
    let mut connected = core.link.connection();
    // Until the first list is whole, a part of it must not be taken for all.
    let mut whole = false;
    loop {
        let look = roll.next_look().filter(|_| *connected.borrow());
        tokio::select! {
            item = log.next() => match item {
                Ok(LogItem::Opened) => {
                    roll.n_read = 0;
                    roll.forgive();
                }
                Ok(LogItem::CaughtUp) => whole = true,
                Ok(LogItem::Message(message)) => if let Err(error) = roll.take(&message) {
                    debug!(%error, subject = message.subject, "an entry of the members cannot be read");
                },
                Err(error) => {
                    debug!(%error, "the list of members has ended");
                    return;
                }
            },
            () = sleep_until(look) => {
                let consumer = log.consumer();
                roll.judge(&core, consumer.as_deref()).await;
            }
            changed = connected.changed() => match changed {
                Ok(()) => roll.forgive(),
                Err(_closed) => return,
            },
        }
        if whole {
            tx.send_if_modified(|known| {
                let living = roll.living();
                let changed = *known != living;
                *known = living;
                changed
            });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
