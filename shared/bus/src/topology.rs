//! The one table of what stands on the broker: streams, buckets, queues, limits.
//!
//! Nothing else in the workspace names a stream or a limit of the broker. A change
//! here is applied by the next supervisor that starts, and shows in `docs/wire.md`.

use std::time::Duration;

use domain::wire::WorkKind;

/// The oldest server that is taken: below it, keys without an end and batches are missing.
pub const SERVER_MIN: (u32, u32, u32) = (2, 12, 0);

/// The prefix of all names, unless another is configured.
pub const PREFIX_DEFAULT: &str = "selfheal";

/// Largest frame, and largest single input, in bytes. Twice as large costs twice the
/// time under `sync_interval: always` and gains nothing (measured).
pub const FRAME_BYTES_MAX: usize = 256 * KIB_USIZE;

/// Most inputs in one frame, so that one bad frame cannot hold up the desk for long.
pub const FRAME_INPUTS_MAX: usize = 1000;

/// Largest batch of decisions, in bytes: below the broker's own default of 1 MiB.
pub const LEDGER_BYTES_MAX: usize = 960 * KIB_USIZE;

/// Largest value of the configuration's bucket, in bytes: a larger configuration is stored in
/// parts.
pub const CONFIG_BYTES_MAX: usize = 512 * KIB_USIZE;

/// How long a member is believed to live without a sign of life.
pub const MEMBER_TTL: Duration = Duration::from_secs(3);

/// How often a member gives one.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often a leader renews its lease.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(300);

/// Silence of a leader after which another takes its place, while the broker answers.
pub const LEASE_SILENCE: Duration = Duration::from_millis(1000);

/// How long the broker keeps a lease that nobody renews: longer than an election of the
/// brokers, so that a leader is not forgotten by it.
pub const LEASE_TTL: Duration = Duration::from_secs(15);

/// How often the holder of an attempt's claim renews it.
pub const CLAIM_RENEWAL: Duration = Duration::from_secs(1);

/// How long a renewal counts, on top of the step that it announced. Before each step its holder
/// must have one that is younger; whoever takes over waits at least so long, and until the step
/// must have ended. Longer than a broker takes to start again, or to elect a leader.
pub const CLAIM_TTL: Duration = Duration::from_secs(5);

/// How long a claim stays when its incident is over: twice as long as an order of its attempt may
/// still lie in a queue.
pub const CLAIM_KEPT_OVER: Duration = Duration::from_secs(2 * WORK_KEPT.as_secs());

/// How long a worker may be silent before its work goes to another.
pub const ACK_WAIT: Duration = Duration::from_secs(5);

/// How often a leader looks whether the queues still hold the work that is pending, and publishes
/// again what they do not.
pub const REPUBLISH: Duration = Duration::from_secs(30);

/// How long a queue remembers ids of work: a leader that took over does not know what the former
/// one has published, and publishes all of it within two intervals.
const WORK_REMEMBERED: Duration = Duration::from_secs(2 * REPUBLISH.as_secs());

/// Key of the leader's lease in the bucket `lease`; older versions had it in the bucket `members`.
pub const LEADER_KEY: &str = "leader";

/// Keys of living members start with this, so that permissions can tell them from the lease.
pub const MEMBER_KEY_PREFIX: &str = "member";

/// Key of the active configuration in the bucket `config`.
pub const CONFIG_KEY: &str = "active";

/// Key of what names the parts of a configuration that is larger than one value.
pub const CONFIG_MANIFEST_KEY: &str = "manifest";

/// Keys of the parts start with this.
pub const CONFIG_PART_PREFIX: &str = "part";

/// Keys of tokens start with this.
pub const TOKEN_KEY_PREFIX: &str = "token";

/// Keys of objects' records start with this, by the convention that all clients share.
pub const OBJECT_RECORDS: &str = "M";

/// Keys of objects' parts start with this.
pub const OBJECT_CHUNKS: &str = "C";

const KIB_USIZE: usize = 1024;
const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// How long work stays that nobody acknowledges: longer than any attempt may last.
const WORK_KEPT: Duration = Duration::from_secs(60 * MINUTE);

/// Room for the headers of a message that is as large as may be.
const HEADER_BYTES: i64 = 4 * KIB;

/// The streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// Everything that can change an incident, in one order.
    Inbox,
    /// The decisions.
    Ledger,
    /// Wanted work of one kind.
    Work(WorkKind),
    /// Who may run which attempt.
    Claims,
    /// Who does what a gateway does once.
    Once,
    /// Input that could not be understood.
    Rejected,
}

/// The buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BucketId {
    /// The active configuration, by revision.
    Config,
    /// Snapshots of the desk, each an object of many parts.
    Snapshots,
    /// What is kept of the tokens of the gateway's callers.
    Tokens,
    /// The leader's lease.
    Lease,
    /// The living agents.
    Members,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A value for each key.
    Values,
    /// Objects of any size.
    Objects,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In the broker's memory: gone when it restarts, and made again by a supervisor.
    Memory,
}

/// When messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// By age and size.
    Limits,
    /// When acknowledged.
    WorkQueue,
}

/// What happens when a stream is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// New messages are refused: an honest answer to the sender.
    Refuse,
    /// The oldest message goes.
    DropOldest,
}

/// A stream of the table.
#[derive(Clone, Copy, Debug)]
pub struct StreamSpec {
    /// Which one.
    pub id: StreamId,
    /// Its name behind the prefix.
    pub suffix: &'static str,
    /// What it takes, behind the prefix.
    pub subjects: &'static [&'static str],
    /// Where.
    pub storage: Storage,
    /// Until when.
    pub retention: Retention,
    /// What then.
    pub when_full: WhenFull,
    /// Size at which it is full.
    pub bytes_max: i64,
    /// Largest message, with its headers.
    pub message_bytes_max: i64,
    /// Messages of one subject at which more of it are refused; `None` for no such limit.
    pub of_subject_max: Option<i64>,
    /// Newest messages of one subject that are kept, where older ones are superseded; `None` for
    /// all. Only where `of_subject_max` is not set.
    pub of_subject_kept: Option<i64>,
    /// Age at which messages leave.
    pub age_max: Option<Duration>,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// Whether single messages can never be deleted.
    pub deny_delete: bool,
    /// Whether it can never be emptied.
    pub deny_purge: bool,
    /// Whether a message may say when it leaves.
    pub message_ttl: bool,
    /// What for, in one sentence.
    pub about: &'static str,
}

/// All streams.
pub static STREAMS: [StreamSpec; 9] = [
    StreamSpec {
        id: StreamId::Inbox,
        suffix: "INBOX",
        subjects: &["event.>", "frame.*", "report.>", "command.*", "timer.*"],
        storage: Storage::File,
        retention: Retention::Limits,
        when_full: WhenFull::Refuse,
        bytes_max: 1024 * MIB,
        message_bytes_max: 256 * KIB + HEADER_BYTES,
        of_subject_max: None,
        of_subject_kept: None,
        age_max: None,
        duplicate_window: Duration::from_secs(10 * MINUTE),
        deny_delete: false,
        deny_purge: false,
        message_ttl: false,
        about: "Everything that can change an incident, in one order. Read as a log, never by acknowledgements.",
    },
    StreamSpec {
        id: StreamId::Ledger,
        suffix: "LEDGER",
        subjects: &["ledger"],
        storage: Storage::File,
        retention: Retention::Limits,
        when_full: WhenFull::Refuse,
        bytes_max: 1024 * MIB,
        message_bytes_max: 960 * KIB + HEADER_BYTES,
        of_subject_max: None,
        of_subject_kept: None,
        age_max: None,
        duplicate_window: Duration::from_secs(2 * MINUTE),
        deny_delete: true,
        deny_purge: false,
        message_ttl: false,
        about: "The decisions. One append in flight, with the expected last sequence: of two leaders, one is refused.",
    },
    // Together 64 MiB: a broker that had room for one queue of all kinds has room for them.
    work(
        WorkKind::Diagnose,
        "WORK_DIAGNOSE",
        &["work.diagnose.*"],
        (32 * MIB, 10_000),
        "Wanted diagnoses. In memory, as all work: what is pending is published again under the same id when the broker forgot it.",
    ),
    // Guards allow few fixes at one time.
    work(WorkKind::Fix, "WORK_FIX", &["work.fix.*"], (8 * MIB, 5000), "Fixes that were ordered."),
    work(
        WorkKind::Verify,
        "WORK_VERIFY",
        &["work.verify.*"],
        (16 * MIB, 10_000),
        "Wanted verifications.",
    ),
    // Those of a zone without a gateway stay, and leave room for the other zones.
    work(
        WorkKind::Notify,
        "WORK_NOTIFY",
        &["work.notify.*"],
        (8 * MIB, 1000),
        "Notices that people are owed.",
    ),
    StreamSpec {
        id: StreamId::Claims,
        suffix: "CLAIMS",
        subjects: &["claim.*.*"],
        storage: Storage::File,
        retention: Retention::Limits,
        when_full: WhenFull::Refuse,
        bytes_max: 128 * MIB,
        message_bytes_max: 64 * KIB,
        of_subject_max: None,
        // Each renewal takes the place of the record before.
        of_subject_kept: Some(1),
        // Far longer than any attempt may be begun or last: a claim that is forgotten could be won
        // again. Those of incidents that are over leave sooner.
        age_max: Some(Duration::from_secs(2 * DAY)),
        duplicate_window: Duration::from_secs(2 * MINUTE),
        deny_delete: true,
        deny_purge: true,
        message_ttl: true,
        about: "One record for each attempt, written with expected sequence 0 before anything is touched: the first wins. Its holder renews it, with the sequence of its last record expected, and asks before each step. It leaves two hours after its incident is over.",
    },
    StreamSpec {
        id: StreamId::Once,
        suffix: "ONCE",
        subjects: &["once.*"],
        storage: Storage::File,
        retention: Retention::Limits,
        // In a storm there are far more notices than attempts. The oldest was reported long ago.
        when_full: WhenFull::DropOldest,
        bytes_max: 128 * MIB,
        message_bytes_max: 64 * KIB,
        of_subject_max: None,
        of_subject_kept: None,
        age_max: Some(Duration::from_secs(30 * DAY)),
        duplicate_window: Duration::from_secs(2 * MINUTE),
        deny_delete: true,
        deny_purge: true,
        message_ttl: false,
        about: "One record for each notice, button and link, written with expected sequence 0 before it is sent or counts. The first wins. Apart from the attempts, whose room no number of notices may take.",
    },
    StreamSpec {
        id: StreamId::Rejected,
        suffix: "REJECTED",
        subjects: &["rejected.>"],
        storage: Storage::File,
        retention: Retention::Limits,
        when_full: WhenFull::DropOldest,
        bytes_max: 64 * MIB,
        message_bytes_max: 512 * KIB,
        of_subject_max: None,
        of_subject_kept: None,
        age_max: None,
        duplicate_window: Duration::from_secs(10 * MINUTE),
        deny_delete: false,
        deny_purge: false,
        message_ttl: false,
        about: "Input that could not be understood, whole, with the reason. It drops the oldest: the newest matter most.",
    },
];

/// The name of the one queue of all kinds that older versions had, behind the prefix.
pub const FORMER_WORK: &str = "WORK";

/// A queue of one kind of work: what fills one takes no room of the others. `most` are its bytes
/// and the messages of one zone at which it refuses more.
const fn work(
    kind: WorkKind,
    suffix: &'static str,
    subjects: &'static [&'static str],
    most: (i64, i64),
    about: &'static str,
) -> StreamSpec {
    StreamSpec {
        id: StreamId::Work(kind),
        suffix,
        subjects,
        storage: Storage::Memory,
        retention: Retention::WorkQueue,
        when_full: WhenFull::Refuse,
        bytes_max: most.0,
        message_bytes_max: 960 * KIB + HEADER_BYTES,
        of_subject_max: Some(most.1),
        of_subject_kept: None,
        age_max: Some(WORK_KEPT),
        duplicate_window: WORK_REMEMBERED,
        deny_delete: false,
        deny_purge: false,
        message_ttl: false,
        about,
    }
}

/// A bucket of the table.
#[derive(Clone, Copy, Debug)]
pub struct BucketSpec {
    /// Which one.
    pub id: BucketId,
    /// Its name behind the prefix.
    pub suffix: &'static str,
    /// Values or objects.
    pub holds: Holds,
    /// Where.
    pub storage: Storage,
    /// Values kept of each key; -1 for all, as an object's parts are of one key.
    pub history: i64,
    /// Size at which it is full.
    pub bytes_max: i64,
    /// Largest value.
    pub value_bytes_max: i64,
    /// Whether keys may have an end.
    pub may_end: bool,
    /// What for, in one sentence.
    pub about: &'static str,
}

/// All buckets. The last one is made last: who sees it knows that all stand.
pub static BUCKETS: [BucketSpec; 5] = [
    BucketSpec {
        id: BucketId::Config,
        suffix: "config",
        holds: Holds::Values,
        storage: Storage::File,
        history: 16,
        bytes_max: 128 * MIB,
        value_bytes_max: 512 * KIB + HEADER_BYTES,
        may_end: false,
        about: "The active configuration, by revision: in one value (key `active`), or in parts (keys `part.<hash>`) that the key `manifest` names; the newest of the two counts. Every agent follows it.",
    },
    BucketSpec {
        id: BucketId::Snapshots,
        suffix: "snapshots",
        holds: Holds::Objects,
        storage: Storage::File,
        history: -1,
        bytes_max: 1024 * MIB,
        value_bytes_max: 256 * KIB,
        may_end: false,
        about: "Snapshots of the desk, each an object named by the place in the ledger that it covers. Behind the newest of them the ledger and the inbox are forgotten.",
    },
    BucketSpec {
        id: BucketId::Tokens,
        suffix: "tokens",
        holds: Holds::Values,
        storage: Storage::File,
        // The present record of a name and the former ones, so that it can be seen who had it.
        history: 8,
        bytes_max: 16 * MIB,
        value_bytes_max: 16 * KIB,
        may_end: false,
        about: "Hashes of the tokens of the gateway's callers (keys `token.<name>`), with role and end. Every gateway follows it.",
    },
    BucketSpec {
        id: BucketId::Lease,
        suffix: "lease",
        holds: Holds::Values,
        storage: Storage::Memory,
        history: 1,
        bytes_max: MIB,
        value_bytes_max: 16 * KIB,
        may_end: true,
        about: "The leader's lease (key `leader`), which another takes when it is silent for 1 s. Apart from the living agents, whose bucket all agents write.",
    },
    BucketSpec {
        id: BucketId::Members,
        suffix: "members",
        holds: Holds::Values,
        storage: Storage::Memory,
        history: 1,
        bytes_max: 8 * MIB,
        value_bytes_max: 16 * KIB,
        may_end: true,
        about: "The living agents (keys `member.<id>`), whose entries end after 3 s without renewal.",
    },
];

/// Settings of a work queue's consumer: one for each kind and zone, shared by all workers of it.
#[derive(Clone, Copy, Debug)]
pub struct QueueSpec {
    /// Which work.
    pub kind: WorkKind,
    /// Pieces that may be under way at one time, over all workers.
    pub in_flight_max: i64,
    /// Who takes it.
    pub worker: &'static str,
}

/// All work queues.
pub static QUEUES: [QueueSpec; 4] = [
    QueueSpec { kind: WorkKind::Diagnose, in_flight_max: 1000, worker: "analyzers" },
    QueueSpec { kind: WorkKind::Fix, in_flight_max: 1000, worker: "fixers" },
    QueueSpec { kind: WorkKind::Verify, in_flight_max: 1000, worker: "monitors" },
    QueueSpec { kind: WorkKind::Notify, in_flight_max: 1000, worker: "gateways" },
];

impl StreamId {
    /// Returns the stream's line of the table.
    #[must_use]
    pub fn spec(self) -> &'static StreamSpec {
        let [inbox, ledger, diagnose, fix, verify, notify, claims, once, rejected] = &STREAMS;
        match self {
            Self::Inbox => inbox,
            Self::Ledger => ledger,
            Self::Work(WorkKind::Diagnose) => diagnose,
            Self::Work(WorkKind::Fix) => fix,
            Self::Work(WorkKind::Verify) => verify,
            Self::Work(WorkKind::Notify) => notify,
            Self::Claims => claims,
            Self::Once => once,
            Self::Rejected => rejected,
        }
    }
}

impl BucketId {
    /// Returns the bucket's line of the table.
    #[must_use]
    pub fn spec(self) -> &'static BucketSpec {
        let [config, snapshots, tokens, lease, members] = &BUCKETS;
        match self {
            Self::Config => config,
            Self::Snapshots => snapshots,
            Self::Tokens => tokens,
            Self::Lease => lease,
            Self::Members => members,
        }
    }
}

/// Returns the queue's line of the table.
#[must_use]
pub fn queue(kind: WorkKind) -> &'static QueueSpec {
    let [diagnose, fix, verify, notify] = &QUEUES;
    match kind {
        WorkKind::Diagnose => diagnose,
        WorkKind::Fix => fix,
        WorkKind::Verify => verify,
        WorkKind::Notify => notify,
    }
}

#[cfg(test)]
mod tests;
