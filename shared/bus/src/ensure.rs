//! Making, upgrading and keeping what the table says.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{GetStreamErrorKind, RequestErrorKind},
    response::Response,
    stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    Error,
    asking::{Unanswered, until_answered},
    core::Core,
    link::Backoff,
    state,
    topology::{
        BUCKETS, BucketId, BucketSpec, Holds, OBJECT_CHUNKS, OBJECT_RECORDS, Retention, STREAMS,
        Storage, StreamId, StreamSpec, WhenFull,
    },
};

/// First and last wait while somebody else makes the streams.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LAST: Duration = Duration::from_secs(1);

/// Copies of everything in a cluster: the loss of one server loses nothing.
const REPLICAS_IN_CLUSTER: usize = 3;

/// Tries of one request while the connection comes back.
const TRIES_MAX: u32 = 5;

/// Makes or upgrades everything. Changes `work_made` when the work queues are other ones than before.
pub(crate) async fn all(core: &Core, work_made: &watch::Sender<u64>) -> Result<(), Error> {
    for spec in &STREAMS {
        let info = one(core, stream_config(core, spec)).await?;
        if spec.id == StreamId::Work {
            let made = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0);
            work_made.send_if_modified(|seen| std::mem::replace(seen, made) != made);
        }
    }
    for spec in &BUCKETS {
        one(core, bucket_config(core, spec)).await?;
    }
    Ok(())
}

/// Does it again after every reconnection: a broker that was started anew has forgotten
/// what is in memory.
pub(crate) async fn keep(core: Core, work_made: watch::Sender<u64>) {
    let mut seen = core.link.generation();
    loop {
        core.link.newer_than(seen).await;
        seen = core.link.generation();
        let mut backoff = Backoff::new(WAIT_FIRST, WAIT_LAST);
        while let Err(error) = all(&core, &work_made).await {
            if core.link.generation() != seen {
                break;
            }
            warn!(%error, hint = error.hint(), "cannot set up the broker after the reconnection, trying again");
            backoff.wait().await;
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
        if n_tries == TRIES_MAX {
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

async fn one(core: &Core, wanted: Config) -> Result<Info, Error> {
    let mut backoff = Backoff::new(WAIT_FIRST, WAIT_LAST);
    let mut n_tries = 0;
    loop {
        core.link.connected().await;
        // A connection that broke meanwhile says nothing about the broker.
        match core.link.while_it_lasts(Box::pin(try_one(core, wanted.clone()))).await {
            Some(Ok(info)) => return Ok(info),
            Some(Err(Failure::Final(error))) => return Err(error),
            Some(Err(Failure::Passing(error))) => {
                n_tries += u32::from(core.link.is_connected());
                if TRIES_MAX <= n_tries {
                    return Err(error);
                }
            }
            None => {}
        }
        backoff.wait().await;
    }
}

enum Failure {
    /// No answer: worth another try.
    Passing(Error),
    /// The broker said no.
    Final(Error),
}

async fn try_one(core: &Core, wanted: Config) -> Result<Info, Failure> {
    match core.js.get_stream(&wanted.name).await {
        Ok(stream) => upgrade(core, stream.cached_info(), wanted).await,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(told)
                if told.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                create(core, wanted).await
            }
            GetStreamErrorKind::JetStream(told) => Err(refused(&wanted.name, told)),
            GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName => Err(silent(&wanted.name, error)),
        },
    }
}

async fn create(core: &Core, wanted: Config) -> Result<Info, Failure> {
    match call(core, "CREATE", &wanted).await {
        Err(Failure::Final(Error::Topology { source, .. }))
            if wanted.num_replicas > 1 && too_few_servers(&*source) =>
        {
            warn!(stream = wanted.name, "too few servers for three copies, one is made");
            call(core, "CREATE", &Config { num_replicas: 1, ..wanted }).await
        }
        made => made,
    }
    .inspect(|info| info!(stream = info.config.name, "made on the broker"))
}

fn too_few_servers(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<jetstream::Error>().is_some_and(|told| {
        [
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
            ErrorCode::CLUSTER_NO_PEERS,
            ErrorCode::INSUFFICIENT_RESOURCES,
        ]
        .contains(&told.error_code())
    })
}

/// Changes what the table says and leaves alone what is an operator's to choose: copies,
/// placement, and a larger size.
async fn upgrade(core: &Core, stands: &Info, wanted: Config) -> Result<Info, Failure> {
    let now = &stands.config;
    let fixed = |what: &str, config: &Config| {
        format!("{what} {:?}, {:?}", config.storage, config.retention)
    };
    if now.storage != wanted.storage || now.retention != wanted.retention {
        return Err(Failure::Final(Error::Incompatible {
            name: wanted.name.clone(),
            found: fixed("storage and retention", now),
            wanted: fixed("storage and retention", &wanted),
        }));
    }
    let bytes_max =
        if now.max_bytes < 0 { now.max_bytes } else { now.max_bytes.max(wanted.max_bytes) };
    let next = Config {
        subjects: wanted.subjects,
        max_bytes: bytes_max,
        max_message_size: wanted.max_message_size,
        max_messages_per_subject: wanted.max_messages_per_subject,
        max_age: wanted.max_age,
        discard: wanted.discard,
        duplicate_window: wanted.duplicate_window,
        description: wanted.description,
        allow_rollup: wanted.allow_rollup,
        allow_direct: wanted.allow_direct,
        // These can be set, never unset.
        deny_delete: now.deny_delete || wanted.deny_delete,
        deny_purge: now.deny_purge || wanted.deny_purge,
        allow_message_ttl: now.allow_message_ttl || wanted.allow_message_ttl,
        subject_delete_marker_ttl: wanted.subject_delete_marker_ttl,
        ..now.clone()
    };
    if next == *now {
        return Ok(stands.clone());
    }
    info!(stream = next.name, "upgraded on the broker");
    call(core, "UPDATE", &next).await
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
    let hint = if [
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
    ]
    .contains(&code)
    {
        "the broker or the account has too little room: about 3.3 GiB of disk and 72 MiB of memory are reserved; raise max_file_store and max_memory_store, or the account's limits"
    } else if code == ErrorCode::MAXIMUM_STREAMS_LIMIT {
        "the account may have too few streams: eight are needed"
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

fn replicas(core: &Core) -> usize {
    if core.client.server_info().cluster.is_some() { REPLICAS_IN_CLUSTER } else { 1 }
}

fn size(bytes: i64) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

const fn storage(storage: Storage) -> StorageType {
    match storage {
        Storage::File => StorageType::File,
        Storage::Memory => StorageType::Memory,
    }
}

/// Returns what the broker is asked for. All that it would fill in itself is written
/// out, so that what stands can be compared with what is wanted.
fn stream_config(core: &Core, spec: &StreamSpec) -> Config {
    Config {
        name: core.subjects.stream(spec.id),
        description: Some(spec.about.to_owned()),
        subjects: spec.subjects.iter().map(|subject| core.subjects.full(subject)).collect(),
        storage: storage(spec.storage),
        retention: match spec.retention {
            Retention::Limits => RetentionPolicy::Limits,
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
        },
        discard: match spec.when_full {
            WhenFull::Refuse => DiscardPolicy::New,
            WhenFull::DropOldest => DiscardPolicy::Old,
        },
        max_bytes: spec.bytes_max,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: size(spec.message_bytes_max),
        max_age: spec.age_max.unwrap_or_default(),
        duplicate_window: spec.duplicate_window,
        deny_delete: spec.deny_delete,
        deny_purge: spec.deny_purge,
        allow_direct: true,
        num_replicas: replicas(core),
        ..Config::default()
    }
}

/// A bucket is a stream with these settings, by the convention that all clients share.
fn bucket_config(core: &Core, spec: &BucketSpec) -> Config {
    Config {
        name: core.subjects.bucket_stream(spec.id),
        description: Some(spec.about.to_owned()),
        subjects: match spec.holds {
            Holds::Values => vec![core.subjects.key(spec.id, ">")],
            Holds::Objects => [OBJECT_CHUNKS, OBJECT_RECORDS]
                .map(|part| core.subjects.key(spec.id, &format!("{part}.>")))
                .into(),
        },
        storage: storage(spec.storage),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: spec.bytes_max,
        max_messages: -1,
        max_messages_per_subject: spec.history,
        max_consumers: -1,
        max_message_size: size(spec.value_bytes_max),
        duplicate_window: Duration::from_secs(120),
        allow_rollup: true,
        deny_delete: spec.holds == Holds::Values,
        allow_direct: true,
        allow_message_ttl: spec.markers.is_some(),
        subject_delete_marker_ttl: spec.markers,
        num_replicas: replicas(core),
        ..Config::default()
    }
}
