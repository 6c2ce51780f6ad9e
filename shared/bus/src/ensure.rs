//! Making, upgrading and keeping what the table says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{GetStreamErrorKind, RequestErrorKind},
    response::Response,
    stream::{Config, Info, RetentionPolicy},
};
use domain::wire::WorkKind;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::{
    Error,
    asking::{Unanswered, until_answered},
    core::Core,
    link::Backoff,
    sizing::Size,
    state,
    topology::{BUCKETS, BucketId, STREAMS, StreamId},
    wanted::{self, Wanted},
};

/// First and last wait while somebody else makes the streams.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LAST: Duration = Duration::from_secs(1);

/// How long to try while there is a connection: longer than the servers of a cluster take
/// to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the queue of older versions takes from now on: nothing that anybody publishes.
const RETIRED: &str = "retired.work";

/// Looks after which a hand says that it waits.
const QUIET_LOOKS: u32 = 5;

/// How often to try for the missing copies when a cluster had too few servers.
const COPIES_EVERY: Duration = Duration::from_secs(30);

/// Tells when the work queues, which are forgotten with the broker's memory, are new ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkMade {
    /// Counts how often they were found to be new.
    n_made: watch::Sender<u64>,
    /// When each was made, and its last message, as last seen.
    seen: Arc<Mutex<BTreeMap<WorkKind, (i128, u64)>>>,
}

impl WorkMade {
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.n_made.subscribe()
    }

    /// A single broker makes the queues anew; a cluster whose servers were all killed keeps
    /// them by name, empty, and counts from 1 again.
    fn look(&self, kind: WorkKind, info: &Info) {
        let now = (info.created.unix_timestamp_nanos(), info.state.last_sequence);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(kind, now).unwrap_or_default();
        drop(seen);
        if before.0 != now.0 || now.1 < before.1 {
            self.n_made.send_modify(|n| *n += 1);
        }
    }
}

/// Makes or upgrades everything. Tells whether all have the copies that they should have, and
/// nothing of a former table is left.
pub(crate) async fn all(core: &Core, work: &WorkMade) -> Result<bool, Error> {
    let mut whole = retire_former_work(core).await?;
    for spec in &STREAMS {
        let wanted = wanted::of_stream(core, spec);
        let copies = wanted.replicas.wanted();
        let info = one(core, wanted).await?;
        whole &= copies <= info.config.num_replicas;
        if let StreamId::Work(kind) = spec.id {
            work.look(kind, &info);
        }
    }
    for spec in &BUCKETS {
        let wanted = wanted::of_bucket(core, spec);
        let copies = wanted.replicas.wanted();
        whole &= copies <= one(core, wanted).await?.config.num_replicas;
    }
    Ok(whole)
}

/// Takes the place of the one queue of all kinds that older versions had: new work is published
/// into the new queues. What workers have taken from the old one they can still acknowledge; the
/// rest, which the leader has published again, ends by its age. Tells whether the queue is gone.
async fn retire_former_work(core: &Core) -> Result<bool, Error> {
    let name = core.subjects.former_work();
    let subjects = vec![core.subjects.full(RETIRED)];
    until_answered(core, "retire the former work queue", || async {
        let mut stream = match core.js.get_stream(&name).await {
            Ok(stream) => stream,
            // There is none; or the broker refuses, which the first stream of the table tells.
            Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(_)) => {
                return Ok(true);
            }
            Err(error) => return Err(Unanswered::Passing(error.into())),
        };
        let info = stream.info().await.map_err(|error| Unanswered::Passing(error.into()))?;
        if info.config.retention != RetentionPolicy::WorkQueue {
            // None of ours.
            return Ok(true);
        }
        if info.state.messages == 0 {
            let deleted = core.js.delete_stream(&name).await;
            deleted.map_err(|error| Unanswered::Passing(error.into()))?;
            info!(stream = name, "the former work queue was empty and is removed");
            return Ok(true);
        }
        if info.config.subjects != subjects {
            // It takes no more, so it needs no more room either.
            let bytes = i64::try_from(info.state.bytes).unwrap_or(i64::MAX).max(1);
            let next =
                Config { subjects: subjects.clone(), max_bytes: bytes, ..info.config.clone() };
            let updated = core.js.update_stream(next).await;
            updated.map_err(|error| Unanswered::Passing(error.into()))?;
            info!(
                stream = name,
                n_left = info.state.messages,
                "the former work queue takes no more work"
            );
        }
        Ok(false)
    })
    .await
}

/// Does it again after every reconnection: a broker that was started anew has forgotten
/// what is in memory. Also when servers were missing for as many copies as there should be.
pub(crate) async fn keep(core: Core, work: WorkMade, mut whole: bool) {
    let mut seen = core.link.generation();
    loop {
        tokio::select! {
            () = core.link.newer_than(seen) => {}
            () = tokio::time::sleep(COPIES_EVERY), if !whole => {}
        }
        seen = core.link.generation();
        let mut backoff = Backoff::new(WAIT_FIRST, WAIT_LAST);
        loop {
            match all(&core, &work).await {
                Ok(all_copies) => {
                    whole = all_copies;
                    break;
                }
                Err(_) if core.link.generation() != seen => break,
                Err(error) => {
                    warn!(%error, hint = error.hint(), "cannot set up the broker after the reconnection, trying again");
                    backoff.wait().await;
                }
            }
        }
    }
}

/// Waits until the last bucket stands.
pub(crate) async fn wait(core: &Core) {
    let last = core.subjects.bucket_stream(BucketId::Members);
    let mut backoff = Backoff::new(WAIT_FIRST, WAIT_LAST);
    let mut n_tries = 0_u32;
    while !matches!(core.link.while_it_lasts(core.js.get_stream(&last)).await, Some(Ok(_))) {
        n_tries += 1;
        if n_tries == QUIET_LOOKS {
            info!("waiting for a supervisor to set up the broker");
        }
        backoff.wait().await;
    }
}

/// Purges a stream up to and with `seq`.
pub(crate) async fn forget(core: &Core, id: StreamId, seq: u64) -> Result<(), Error> {
    let name = core.subjects.stream(id);
    until_answered(core, "forget old messages", || async {
        let stream = core.js.get_stream_no_info(&name).await.map_err(state::judge)?;
        let purged = stream.purge().sequence(seq.saturating_add(1)).await;
        purged.map(drop).map_err(|error| Unanswered::Passing(error.into()))
    })
    .await
}

async fn one(core: &Core, wanted: Wanted) -> Result<Info, Error> {
    let mut backoff = Backoff::new(WAIT_FIRST, WAIT_LAST);
    let mut tried = Duration::ZERO;
    loop {
        core.link.connected().await;
        let start = Instant::now();
        // A connection that broke meanwhile says nothing about the broker.
        match core.link.while_it_lasts(Box::pin(try_one(core, &wanted))).await {
            Some(Ok(info)) => return Ok(info),
            Some(Err(Failure::Final(error))) => return Err(error),
            Some(Err(Failure::Passing(error))) if PATIENCE <= tried => return Err(error),
            Some(Err(Failure::Passing(_))) | None => {}
        }
        backoff.wait().await;
        if core.link.is_connected() {
            tried += start.elapsed();
        }
    }
}

enum Failure {
    /// No answer: worth another try.
    Passing(Error),
    /// The broker said no.
    Final(Error),
}

async fn try_one(core: &Core, wanted: &Wanted) -> Result<Info, Failure> {
    let name = &wanted.config.name;
    match core.js.get_stream(name).await {
        Ok(stream) => upgrade(core, stream.cached_info(), wanted).await,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(told)
                if told.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                create(core, wanted).await
            }
            GetStreamErrorKind::JetStream(told) => Err(refused(name, told)),
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName => Err(silent(name, error)),
        },
    }
}

async fn create(core: &Core, wanted: &Wanted) -> Result<Info, Failure> {
    let config = &wanted.config;
    match (call(core, "CREATE", config).await, wanted.replicas) {
        (Err(failure), Size::AtLeast(2..)) if has_too_few_servers(&failure) => {
            warn!(stream = config.name, "too few servers for three copies, one is made");
            call(core, "CREATE", &Config { num_replicas: 1, ..config.clone() }).await
        }
        (made, Size::AtLeast(_) | Size::Chosen(_)) => made,
    }
    .inspect(|info| info!(stream = info.config.name, "made on the broker"))
}

fn has_too_few_servers(failure: &Failure) -> bool {
    let Failure::Final(Error::Topology { source, .. }) = failure else { return false };
    source.downcast_ref::<jetstream::Error>().is_some_and(|told| {
        [
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
            ErrorCode::CLUSTER_NO_PEERS,
            ErrorCode::INSUFFICIENT_RESOURCES,
        ]
        .contains(&told.error_code())
    })
}

/// Changes what the table says and what an operator chose by a flag; leaves alone what he
/// chose on the broker: placement, more copies, a larger size.
async fn upgrade(core: &Core, stands: &Info, wanted: &Wanted) -> Result<Info, Failure> {
    let (now, table) = (&stands.config, &wanted.config);
    let fixed = |what: &str, config: &Config| {
        format!("{what} {:?}, {:?}", config.storage, config.retention)
    };
    if now.storage != table.storage || now.retention != table.retention {
        return Err(Failure::Final(Error::Incompatible {
            name: table.name.clone(),
            found: fixed("storage and retention", now),
            wanted: fixed("storage and retention", table),
        }));
    }
    let next = Config {
        max_bytes: match wanted.bytes_max {
            Size::Chosen(bytes) => bytes,
            // No limit is more than any.
            Size::AtLeast(_) if now.max_bytes < 0 => now.max_bytes,
            Size::AtLeast(bytes) => now.max_bytes.max(bytes),
        },
        num_replicas: match wanted.replicas {
            Size::Chosen(n) => n,
            Size::AtLeast(n) => now.num_replicas.max(n),
        },
        ..next_config(now, table)
    };
    if next == *now {
        return Ok(stands.clone());
    }
    let changed = call(core, "UPDATE", &next).await;
    if let (Err(failure), Size::AtLeast(_)) = (&changed, wanted.replicas)
        && now.num_replicas < next.num_replicas
        && has_too_few_servers(failure)
    {
        let next = Config { num_replicas: now.num_replicas, ..next };
        return if next == *now { Ok(stands.clone()) } else { call(core, "UPDATE", &next).await };
    }
    info!(stream = next.name, "upgraded on the broker");
    changed
}

fn next_config(now: &Config, table: &Config) -> Config {
    Config {
        subjects: table.subjects.clone(),
        max_message_size: table.max_message_size,
        max_messages_per_subject: table.max_messages_per_subject,
        max_age: table.max_age,
        discard: table.discard,
        discard_new_per_subject: table.discard_new_per_subject,
        duplicate_window: table.duplicate_window,
        description: table.description.clone(),
        allow_rollup: table.allow_rollup,
        allow_direct: table.allow_direct,
        // These can be set, never unset.
        deny_delete: now.deny_delete || table.deny_delete,
        deny_purge: now.deny_purge || table.deny_purge,
        allow_message_ttl: now.allow_message_ttl || table.allow_message_ttl,
        subject_delete_marker_ttl: table.subject_delete_marker_ttl,
        ..now.clone()
    }
}

async fn call(core: &Core, verb: &str, config: &Config) -> Result<Info, Failure> {
    let subject = format!("STREAM.{verb}.{}", config.name);
    let answer: Result<Response<Info>, _> = core.js.request(subject, config).await;
    match answer {
        Ok(Response::Ok(info)) => Ok(info),
        Ok(Response::Err { error }) => Err(refused(&config.name, error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            Err(Failure::Final(Error::JetStreamOff { detail: "nobody answers for it".to_owned() }))
        }
        Err(error) => Err(silent(&config.name, error)),
    }
}

fn refused(name: &str, told: jetstream::Error) -> Failure {
    let code = told.error_code();
    // While the servers of a cluster elect a leader.
    if [ErrorCode::CLUSTER_NOT_AVAILABLE, ErrorCode::CLUSTER_NOT_LEADER, ErrorCode::STREAM_OFFLINE]
        .contains(&code)
    {
        return silent(name, told);
    }
    let hint = if [
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
    ]
    .contains(&code)
    {
        "the broker or the account has too little room: about 3.4 GiB of disk and 73 MiB of memory are reserved; raise max_file_store and max_memory_store, or the account's limits"
    } else if code == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
        || code == ErrorCode::CLUSTER_NO_PEERS
    {
        "the broker has fewer servers than copies were chosen: choose less with --replicas, or add servers"
    } else if code == ErrorCode::MAXIMUM_STREAMS_LIMIT {
        "the account may have too few streams: fourteen are needed"
    } else if code == ErrorCode::STREAM_SUBJECT_OVERLAP {
        "another stream takes our subjects: remove it, or choose another --prefix"
    } else if code == ErrorCode::STREAM_NAME_EXIST {
        "another program made a stream of that name: choose another --prefix"
    } else {
        "see the broker's log"
    };
    Failure::Final(Error::Topology { name: name.to_owned(), hint, source: told.into() })
}

fn silent(name: &str, source: impl Into<crate::error::Cause>) -> Failure {
    Failure::Passing(Error::Topology {
        name: name.to_owned(),
        hint: "the broker did not answer; if it runs, see whether this user may use $JS.API.STREAM.>",
        source: source.into(),
    })
}
