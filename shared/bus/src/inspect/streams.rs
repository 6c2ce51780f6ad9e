//! How streams and work queues stand, and how they should.

use std::{collections::BTreeMap, fmt::Debug};

use async_nats::jetstream::stream::{Config, Info};
use chrono::{DateTime, Utc};
use domain::wire::WorkKind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Inspect;
use crate::{
    Error, StreamState,
    topology::{BUCKETS, BucketId, STREAMS, StreamId},
    wanted,
};

/// Which part of the table a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// A stream.
    Stream(StreamId),
    /// The stream behind a bucket.
    Bucket(BucketId),
}

/// A stream as it stands.
#[derive(Clone, Debug)]
pub struct StreamLook {
    /// The server's clock when it answered.
    pub at: Option<DateTime<Utc>>,
    /// How full it is.
    pub state: StreamState,
    /// When its newest message was stored.
    pub last_at: Option<DateTime<Utc>>,
    /// Messages by subject; of work alone.
    pub subjects: BTreeMap<String, u64>,
    /// Copies of it.
    pub n_copies: usize,
    /// Servers that should have a copy and are away or behind.
    pub missing_copies: Vec<String>,
    /// What is not as the table wants it.
    pub differences: Vec<Difference>,
}

/// A setting that is not as the table wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as `nats stream info` calls it.
    pub setting: &'static str,
    /// What stands.
    pub found: String,
    /// What should.
    pub wanted: String,
    /// Whether it can be changed only by making the stream anew.
    pub is_fixed: bool,
}

/// A work queue as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// Name of its consumer, such as `fix-default`.
    pub name: String,
    /// What is done there, and in which zone; `None` for a consumer that is none of ours.
    pub work: Option<(WorkKind, String)>,
    /// Pieces that wait for a worker.
    pub n_waiting: u64,
    /// Pieces that workers have and have not acknowledged.
    pub n_under_way: u64,
    /// Pieces among them that were given out more than once.
    pub n_again: u64,
    /// Workers that ask for more right now.
    pub n_asking: u64,
    /// When a piece was given out last.
    pub given_at: Option<DateTime<Utc>>,
    /// When one was acknowledged last.
    pub done_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct QueueList {
    #[serde(default)]
    consumers: Vec<QueuePart>,
}

#[derive(Deserialize)]
struct QueuePart {
    name: String,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    #[serde(default)]
    num_waiting: u64,
    #[serde(default)]
    delivered: Moment,
    #[serde(default)]
    ack_floor: Moment,
}

#[derive(Default, Deserialize)]
struct Moment {
    last_active: Option<DateTime<Utc>>,
}

impl Inspect {
    /// Asks how everything of the table stands, each with its name.
    pub async fn streams(&self) -> Vec<(Which, String, Result<StreamLook, Error>)> {
        let names = &self.core.subjects;
        let streams = STREAMS.iter().map(|spec| {
            (
                Which::Stream(spec.id),
                wanted::of_stream(&self.core, spec).config,
                names.stream(spec.id),
            )
        });
        let buckets = BUCKETS.iter().map(|spec| {
            let config = wanted::of_bucket(&self.core, spec).config;
            (Which::Bucket(spec.id), config, names.bucket_stream(spec.id))
        });
        let mut looks = Vec::new();
        for (which, wanted, name) in streams.chain(buckets) {
            let look = self.stream(which, &wanted).await;
            looks.push((which, name, look));
        }
        looks
    }

    async fn stream(&self, which: Which, wanted: &Config) -> Result<StreamLook, Error> {
        let is_work = matches!(which, Which::Stream(StreamId::Work(_)));
        let question = if is_work { json!({"subjects_filter": ">"}) } else { Value::Null };
        let told: Value = self.ask(&format!("STREAM.INFO.{}", wanted.name), &question).await?;
        let at = told.get("ts").and_then(moment);
        let last_at = told.pointer("/state/last_ts").and_then(moment);
        let subjects = told.pointer("/state/subjects").cloned().unwrap_or_default();
        let subjects = serde_json::from_value(subjects).unwrap_or_default();
        let info: Info = serde_json::from_value(told).map_err(|error| Error::Unreadable {
            what: "how the stream stands",
            source: error.into(),
        })?;
        let missing = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
        let missing = missing.filter(|peer| peer.offline || !peer.current);
        Ok(StreamLook {
            at,
            state: StreamState {
                first_seq: info.state.first_sequence,
                last_seq: info.state.last_sequence,
                messages: info.state.messages,
                bytes: info.state.bytes,
                bytes_max: u64::try_from(info.config.max_bytes).ok(),
            },
            last_at,
            subjects,
            n_copies: info.config.num_replicas,
            missing_copies: missing.map(|peer| peer.name.clone()).collect(),
            differences: differences(&info.config, wanted),
        })
    }

    /// Asks how the work queues stand.
    ///
    /// # Errors
    ///
    /// When the broker does not tell, or does not permit to ask.
    pub async fn queues(&self) -> Result<Vec<QueueLook>, Error> {
        let mut consumers = Vec::new();
        for kind in WorkKind::ALL {
            let stream = self.core.subjects.stream(StreamId::Work(kind));
            let list: QueueList =
                self.ask(&format!("CONSUMER.LIST.{stream}"), &json!({"offset": 0})).await?;
            consumers.extend(list.consumers);
        }
        let look = |part: QueuePart| QueueLook {
            work: work_of(&part.name),
            name: part.name,
            n_waiting: part.num_pending,
            n_under_way: part.num_ack_pending,
            n_again: part.num_redelivered,
            n_asking: part.num_waiting,
            given_at: part.delivered.last_active,
            done_at: part.ack_floor.last_active,
        };
        Ok(consumers.into_iter().map(look).collect())
    }
}

/// Reads a time of the broker; its year 1 is none.
fn moment(value: &Value) -> Option<DateTime<Utc>> {
    let at: DateTime<Utc> = value.as_str()?.parse().ok()?;
    (DateTime::UNIX_EPOCH < at).then_some(at)
}

fn work_of(consumer: &str) -> Option<(WorkKind, String)> {
    let (kind, zone) = consumer.split_once('-')?;
    let kind = WorkKind::ALL.into_iter().find(|it| it.as_str() == kind)?;
    Some((kind, zone.to_owned()))
}

/// Compares what matters. More room than the table wants is an operator's to give.
fn differences(found: &Config, wanted: &Config) -> Vec<Difference> {
    let mut list = Vec::new();
    let mut unless = |is_well: bool, setting, found: &dyn Debug, wanted: &dyn Debug, is_fixed| {
        if !is_well {
            let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
            list.push(Difference { setting, found, wanted, is_fixed });
        }
    };
    let (f, w) = (found, wanted);
    unless(f.storage == w.storage, "storage", &f.storage, &w.storage, true);
    unless(f.retention == w.retention, "retention", &f.retention, &w.retention, true);
    unless(same(&f.subjects, &w.subjects), "subjects", &f.subjects, &w.subjects, false);
    unless(f.discard == w.discard, "discard", &f.discard, &w.discard, false);
    let copies = (f.num_replicas, w.num_replicas);
    unless(copies.1 <= copies.0, "replicas", &copies.0, &copies.1, false);
    let roomy = f.max_bytes <= 0 || w.max_bytes <= f.max_bytes;
    unless(roomy, "max_bytes", &f.max_bytes, &w.max_bytes, false);
    let large = f.max_message_size <= 0 || w.max_message_size <= f.max_message_size;
    unless(large, "max_msg_size", &f.max_message_size, &w.max_message_size, false);
    let many = f.max_messages <= 0;
    unless(many, "max_msgs", &f.max_messages, &w.max_messages, false);
    unless(f.max_age == w.max_age, "max_age", &f.max_age, &w.max_age, false);
    let window = (f.duplicate_window, w.duplicate_window);
    unless(window.0 == window.1, "duplicate_window", &window.0, &window.1, false);
    unless(!f.sealed, "sealed", &f.sealed, &w.sealed, true);
    unless(!f.no_ack, "no_ack", &f.no_ack, &w.no_ack, false);
    list
}

fn same(found: &[String], wanted: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(found) == sorted(wanted)
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::DiscardPolicy;

    use super::*;

    #[test]
    fn more_room_is_no_difference_and_less_is_one() {
        let wanted = Config { max_bytes: 100, num_replicas: 3, ..Config::default() };
        assert_eq!(differences(&wanted, &wanted), []);
        let roomy = Config { max_bytes: -1, num_replicas: 5, ..wanted.clone() };
        assert_eq!(differences(&roomy, &wanted), []);
        let poor = Config {
            max_bytes: 99,
            num_replicas: 1,
            discard: DiscardPolicy::New,
            max_messages: 7,
            ..wanted.clone()
        };
        let found: Vec<_> = differences(&poor, &wanted).iter().map(|it| it.setting).collect();
        assert_eq!(found, ["discard", "replicas", "max_bytes", "max_msgs"]);
    }

    #[test]
    fn a_queue_is_known_by_the_name_of_its_consumer() {
        assert_eq!(work_of("fix-default"), Some((WorkKind::Fix, "default".to_owned())));
        assert_eq!(work_of("verify-west-1"), Some((WorkKind::Verify, "west-1".to_owned())));
        assert_eq!(work_of("bake-default"), None);
    }
}
