//! What the broker is asked for, from the table and what an operator chose.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::{
    core::Core,
    sizing::{Size, Sizing},
    topology::{
        BucketSpec, Holds, OBJECT_CHUNKS, OBJECT_RECORDS, Retention, Storage, StreamSpec, WhenFull,
    },
};

/// What is wanted of one stream or bucket.
pub(crate) struct Wanted {
    pub(crate) config: Config,
    pub(crate) replicas: Size<usize>,
    pub(crate) bytes_max: Size<i64>,
}

fn replicas(core: &Core) -> Size<usize> {
    core.sizing().replicas(core.client.server_info().cluster.is_some())
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

pub(crate) fn of_stream(core: &Core, spec: &StreamSpec) -> Wanted {
    let (replicas, bytes_max) = (replicas(core), core.sizing().stream_bytes(spec));
    let config = Config {
        max_bytes: bytes_max.wanted(),
        num_replicas: replicas.wanted(),
        ..stream_config(core, spec)
    };
    Wanted { config, replicas, bytes_max }
}

pub(crate) fn of_bucket(core: &Core, spec: &BucketSpec) -> Wanted {
    let (replicas, bytes_max) = (replicas(core), Sizing::bucket_bytes(spec));
    let config = Config {
        max_bytes: bytes_max.wanted(),
        num_replicas: replicas.wanted(),
        ..bucket_config(core, spec)
    };
    Wanted { config, replicas, bytes_max }
}

/// Returns what the broker is asked for. All that it would fill in itself is written
/// out, so that what stands can be compared with what is wanted.
pub(crate) fn stream_config(core: &Core, spec: &StreamSpec) -> Config {
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
        max_messages: -1,
        max_messages_per_subject: spec.of_subject_max.or(spec.of_subject_kept).unwrap_or(-1),
        // Without it more of one subject would push out the oldest, although others are refused.
        discard_new_per_subject: spec.of_subject_max.is_some(),
        max_consumers: -1,
        max_message_size: size(spec.message_bytes_max),
        max_age: spec.age_max.unwrap_or_default(),
        duplicate_window: spec.duplicate_window,
        deny_delete: spec.deny_delete,
        deny_purge: spec.deny_purge,
        allow_message_ttl: spec.message_ttl,
        allow_direct: true,
        ..Config::default()
    }
}

/// A bucket is a stream with these settings, by the convention that all clients share.
pub(crate) fn bucket_config(core: &Core, spec: &BucketSpec) -> Config {
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
        max_messages: -1,
        max_messages_per_subject: spec.history,
        max_consumers: -1,
        max_message_size: size(spec.value_bytes_max),
        duplicate_window: Duration::from_secs(120),
        // One message with that header would empty the bucket, whoever wrote it. Marks of keys that
        // ended need it, so there are none.
        allow_rollup: spec.holds == Holds::Objects,
        deny_delete: spec.holds == Holds::Values,
        allow_direct: true,
        allow_message_ttl: spec.may_end,
        subject_delete_marker_ttl: None,
        ..Config::default()
    }
}
