//! The handle to everything on the broker.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use domain::{id::Position, trace::TraceContext, wire::Input};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Asked, Claims, ConfigStore, Ear, Error, InboxReader, InboxWriter, Keys, Lease, Ledger, Members,
    MicroService, ServeError, Served, Server, Sizing, Snapshots, StreamState, Subjects,
    Subscription, TokenStore, Work,
    answers::{self, Answers},
    core::Core,
    ensure::{self, WorkMade},
    inbox_reader, inspect, lease, ledger, members, micro, publish, serve, state,
    topology::StreamId,
    vigil::Deposed,
};

/// The handle to everything on the broker. Cheap to clone; the last one ends its tasks.
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    writer: OnceLock<InboxWriter>,
    agent_writer: OnceLock<InboxWriter>,
    answers: tokio::sync::OnceCell<Answers>,
    members: members::Shared,
    append: ledger::InFlight,
    deposed: Deposed,
    work_made: WorkMade,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Bus {
    pub(crate) fn new(core: Core) -> Self {
        Self {
            inner: Arc::new(Inner {
                core,
                writer: OnceLock::new(),
                agent_writer: OnceLock::new(),
                answers: tokio::sync::OnceCell::new(),
                members: members::Shared::default(),
                append: ledger::InFlight::default(),
                deposed: Deposed::default(),
                work_made: WorkMade::default(),
                keeper: Mutex::new(None),
            }),
        }
    }

    fn core(&self) -> &Core {
        &self.inner.core
    }

    /// Returns the names of everything.
    #[must_use]
    pub fn subjects(&self) -> &Subjects {
        &self.core().subjects
    }

    /// Returns the keys to sign with and to check signatures by.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.core().keys.clone()
    }

    /// Says what an operator chose of the streams; to be called before they are made. The
    /// first call counts.
    pub fn size_streams(&self, sizing: Sizing) {
        // A second choice has no effect, as it says.
        let _the_first_counts = self.core().sizing.set(sizing);
    }

    /// Makes or upgrades all streams and buckets, and keeps them from then on: what the
    /// broker forgets when it restarts is made again after the reconnection.
    ///
    /// # Errors
    ///
    /// [`Error::Topology`] with a hint, or [`Error::Incompatible`].
    pub async fn ensure_topology(&self) -> Result<(), Error> {
        let whole = ensure::all(self.core(), &self.inner.work_made).await?;
        let mut keeper = self.inner.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            let keep = ensure::keep(self.core().clone(), self.inner.work_made.clone(), whole);
            *keeper = Some(AbortOnDropHandle::new(tokio::spawn(keep)));
        }
        Ok(())
    }

    /// Waits until a supervisor has made all streams and buckets.
    ///
    /// # Errors
    ///
    /// None now: it waits as long as it takes.
    pub async fn wait_for_topology(&self) -> Result<(), Error> {
        ensure::wait(self.core()).await;
        Ok(())
    }

    /// Changes whenever the work queues were found to be new, as after a restart of the
    /// broker: what is pending must be published again then. Follows
    /// [`Self::ensure_topology`], so it is of use to supervisors alone.
    #[must_use]
    pub fn work_made(&self) -> watch::Receiver<u64> {
        self.inner.work_made.subscribe()
    }

    /// Returns the writer of the inbox; all share one, so that their inputs share frames.
    #[must_use]
    pub fn inbox_writer(&self) -> InboxWriter {
        self.inner.writer.get_or_init(|| InboxWriter::new(self.core())).clone()
    }

    /// Returns the writer of the inbox for one of our own agents, whose events are believed to be
    /// its own; all share one.
    #[must_use]
    pub fn agent_writer(&self) -> InboxWriter {
        self.inner.agent_writer.get_or_init(|| InboxWriter::of_agent(self.core())).clone()
    }

    /// Reads the inbox as a log, from behind `after`, in order, without gap or duplicate.
    ///
    /// # Errors
    ///
    /// None at once; what goes wrong is told by [`InboxReader::next_batch`].
    pub async fn read_inbox(&self, after: u64) -> Result<InboxReader, Error> {
        Ok(inbox_reader::open(self.core(), after))
    }

    /// Forgets inbox messages up to and with `seq`, which the ledger and a snapshot cover.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not do it.
    pub async fn forget_inbox(&self, seq: u64) -> Result<(), Error> {
        ensure::forget(self.core(), StreamId::Inbox, seq).await
    }

    /// Returns where a stream begins and ends, and how full it is.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when there is none, or the broker does not tell in time.
    pub async fn stream_state(&self, id: StreamId) -> Result<StreamState, Error> {
        state::of(self.core(), id).await
    }

    /// Returns the snapshots of the desk.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.core())
    }

    /// Returns the ledger.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.core(), &self.inner.append)
    }

    /// Returns the claims.
    #[must_use]
    pub fn claims(&self) -> Claims {
        Claims::new(self.core())
    }

    /// Waits until the lease of the leader is ours.
    ///
    /// `node` names the data directory, whose lock the caller holds: a lease that the
    /// same node still has belongs to a dead process, and is taken over at once. That of
    /// another node is taken over when it is silent for a second while the broker answers.
    ///
    /// # Errors
    ///
    /// What [`Self::ensure_topology`] refuses.
    pub async fn lead(&self, node: &str) -> Result<Lease, Error> {
        lease::lead(self, self.core().clone(), node, &self.inner.deposed).await
    }

    /// Returns the work queues.
    #[must_use]
    pub fn work(&self) -> Work {
        Work::new(self.core())
    }

    /// Returns the living agents.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::new(self.core(), &self.inner.members)
    }

    /// Returns the active configuration.
    #[must_use]
    pub fn config_store(&self) -> ConfigStore {
        ConfigStore::new(self.core())
    }

    /// Returns what is kept of the tokens of the gateway's callers.
    #[must_use]
    pub fn token_store(&self) -> TokenStore {
        TokenStore::new(self.core())
    }

    /// Tells whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.core().link.is_connected()
    }

    /// Follows the connection.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.core().link.connection()
    }

    /// Returns what the broker last did not permit, in its own words.
    #[must_use]
    pub fn last_violation(&self) -> Option<String> {
        self.core().link.last_violation()
    }

    /// Returns the server's name and version, for people.
    #[must_use]
    pub fn server(&self) -> (String, String) {
        let info = self.core().client.server_info();
        (info.server_name, info.version)
    }

    /// Looks at what stands on the broker; each answer may take `within`, all of them `altogether`.
    #[must_use]
    pub fn inspect(&self, within: Duration, altogether: Duration) -> inspect::Inspect {
        inspect::Inspect::new(self.core(), within, altogether)
    }

    /// Publishes without storing: progress, answers.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the connection is closed or the payload too large.
    pub async fn publish_core(&self, subject: String, payload: Bytes) -> Result<(), Error> {
        let sent = self.core().client.publish(subject, payload).await;
        sent.map_err(|error| Error::client("publish", error))
    }

    /// Opens what tells and hears whether anybody listens.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the connection is closed.
    pub async fn ear(&self) -> Result<Ear, Error> {
        Ear::open(self.core()).await
    }

    /// Subscribes to what is not stored; of a `queue`, one member gets each message.
    /// The broker has the subscription when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the subject is no subject.
    pub async fn subscribe(
        &self,
        subject: String,
        queue: Option<String>,
    ) -> Result<Subscription, Error> {
        Subscription::open(self.core(), subject, queue).await
    }

    /// Asks, and waits for one answer.
    ///
    /// # Errors
    ///
    /// [`Error::NoResponder`], [`Error::NoAnswer`], [`Error::Refused`].
    pub async fn request(
        &self,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        serve::request(self.core(), subject, payload, timeout).await
    }

    /// Stores an input and waits for the answer to it.
    ///
    /// # Errors
    ///
    /// [`Error::NotAccepted`] when it was not stored; once it is, there is no error:
    /// without an answer in time it is [`Asked::Accepted`].
    pub async fn ask<A: DeserializeOwned>(
        &self,
        writer: &InboxWriter,
        input: Input,
        id: String,
        timeout: Duration,
    ) -> Result<Asked<A>, Error> {
        self.ask_traced(writer, input, (id, None), timeout).await
    }

    /// As [`Self::ask`], with the span that the input comes from beside its id.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub async fn ask_traced<A: DeserializeOwned>(
        &self,
        writer: &InboxWriter,
        input: Input,
        named: (String, Option<TraceContext>),
        timeout: Duration,
    ) -> Result<Asked<A>, Error> {
        let answers = self.inner.answers.get_or_try_init(|| Answers::listen(self.core())).await?;
        answers.ask(writer, input, named, timeout).await
    }

    /// Answers inputs, each at the subject that it named: what goes to one process goes
    /// together where it permits it.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when an answer cannot be written or the connection is closed; some
    /// may have gone out.
    pub async fn answer<A: Serialize>(&self, answers: &[(String, A)]) -> Result<(), Error> {
        let messages = answers::messages(answers);
        let messages = messages.map_err(|error| Error::client("write an answer", error))?;
        for (to, payload) in messages {
            self.publish_core(to, payload).await?;
        }
        Ok(())
    }

    /// Keeps input that could not be understood, whole, with the reason.
    ///
    /// `reason` is one word for the subject, `why` a sentence for people. Doing it again for
    /// the same position stores nothing new.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] when the broker does not take it in time.
    pub async fn reject(
        &self,
        reason: &str,
        position: Position,
        raw: Bytes,
        why: &str,
    ) -> Result<(), Error> {
        publish::reject(self.core(), reason, position, raw, why).await
    }

    /// Shows this process in `nats micro ls`, as `<prefix>-<kind>`.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the version is not of three numbers.
    pub async fn micro_service(
        &self,
        kind: &str,
        version: &str,
        id: &str,
    ) -> Result<MicroService, Error> {
        micro::start(self.core(), kind, version, id).await
    }

    /// Answers requests on `subject`, each in its own task, a bounded number at one time.
    /// Of all with the same `queue`, one answers. Ends when the [`Server`] is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the subject is no subject.
    pub async fn serve<H, F>(
        &self,
        subject: String,
        queue: &str,
        handler: H,
    ) -> Result<Server, Error>
    where
        H: Fn(Served) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, ServeError>> + Send + 'static,
    {
        serve::serve(self.core(), subject, queue, handler).await
    }
}
