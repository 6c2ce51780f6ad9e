//! Who may do what on the broker: the least that each kind of agent needs.

use domain::wire::{InputKind, WorkKind};

use crate::{
    Subjects,
    topology::{BucketId, MEMBER_KEY_PREFIX, STREAMS, StreamId, TOKEN_KEY_PREFIX},
};

/// A kind of user of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Decides, and makes what stands on the broker.
    Supervisor,
    /// Observes and verifies.
    Monitor,
    /// Diagnoses.
    Analyzer,
    /// Fixes.
    Fixer,
    /// Takes events and commands by HTTP, sends notices.
    Gateway,
    /// The `selfheal` command.
    Cli,
    /// Anything that publishes events of its own.
    Publisher,
}

/// What a user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects that it may publish to.
    pub publish: Vec<String>,
    /// Subjects that it may subscribe to.
    pub subscribe: Vec<String>,
    /// Whether it answers requests, on whatever subject the asker names.
    pub allow_responses: bool,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] = [
        Self::Supervisor,
        Self::Monitor,
        Self::Analyzer,
        Self::Fixer,
        Self::Gateway,
        Self::Cli,
        Self::Publisher,
    ];

    /// Returns the user's name, and the last part of its prefix for answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Monitor => "monitor",
            Self::Analyzer => "analyzer",
            Self::Fixer => "fixer",
            Self::Gateway => "gateway",
            Self::Cli => "cli",
            Self::Publisher => "publisher",
        }
    }

    /// Returns whether it is no part of an installation, and has an account of its own on the
    /// broker.
    #[must_use]
    pub const fn is_outside(self) -> bool {
        matches!(self, Self::Publisher)
    }

    /// Returns where this role listens for answers.
    #[must_use]
    pub fn inbox(self) -> String {
        format!("_INBOX_{}.>", self.as_str())
    }

    /// Returns the least that this role needs in an installation, serving these zones.
    #[must_use]
    pub fn permissions(self, names: &Subjects, zones: &[String]) -> Permissions {
        let mut may = Permissions { subscribe: vec![self.inbox()], ..Permissions::default() };
        if self != Self::Publisher {
            // Who we are to the broker, and what we may do: for those who look for what is wrong.
            may.publish.push("$SYS.REQ.USER.INFO".to_owned());
        }
        match self {
            Self::Supervisor => supervisor(names, &mut may),
            Self::Monitor => {
                agent(names, &mut may);
                frames(names, &mut may, &[InputKind::Verification]);
                may.publish.push(names.agent_events());
                work(names, &mut may, WorkKind::Verify, zones);
                may.subscribe.extend(zones.iter().map(|zone| names.probe(zone)));
                // To learn which of its incidents are open, and when one ends.
                may.publish.push(names.query_all());
                may.subscribe.push(names.over());
            }
            Self::Analyzer => {
                agent(names, &mut may);
                frames(names, &mut may, &[InputKind::Analysis]);
                work(names, &mut may, WorkKind::Diagnose, zones);
                may.publish.push(names.full("live.*"));
                may.publish.extend(zones.iter().map(|zone| names.probe(zone)));
            }
            Self::Fixer => {
                agent(names, &mut may);
                frames(names, &mut may, &[InputKind::Fix]);
                work(names, &mut may, WorkKind::Fix, zones);
                may.publish.push(names.full("live.*"));
                may.publish.push(names.full("claim.*.*"));
                let claims = names.stream(StreamId::Claims);
                may.publish.push(format!("$JS.API.STREAM.MSG.GET.{claims}"));
            }
            Self::Gateway => {
                agent(names, &mut may);
                let kinds = [InputKind::Event, InputKind::Command, InputKind::Notice];
                frames(names, &mut may, &kinds);
                work(names, &mut may, WorkKind::Notify, zones);
                may.publish.push(names.query_all());
                // Notices that are sent once, and buttons that are pressed once: never attempts.
                may.publish.push(names.full("once.*"));
                let once = names.stream(StreamId::Once);
                may.publish.push(format!("$JS.API.STREAM.MSG.GET.{once}"));
                may.subscribe.push(names.live_all());
                // It only reads them: who breaks into a gateway makes no tokens that outlive it.
                read_bucket(names, &mut may, BucketId::Tokens);
            }
            Self::Cli => {
                follow(names, &mut may);
                frames(names, &mut may, &[InputKind::Event, InputKind::Command]);
                may.publish.push(names.query_all());
                may.publish.push("$SRV.>".to_owned());
                read_bucket(names, &mut may, BucketId::Tokens);
                may.publish.push(names.key(BucketId::Tokens, &format!("{TOKEN_KEY_PREFIX}.*")));
                // How streams and queues stand.
                for spec in &STREAMS {
                    may.publish.push(format!("$JS.API.STREAM.INFO.{}", names.stream(spec.id)));
                }
                for id in [BucketId::Config, BucketId::Snapshots, BucketId::Tokens, BucketId::Lease]
                {
                    may.publish.push(format!("$JS.API.STREAM.INFO.{}", names.bucket_stream(id)));
                }
                // Who has the lease.
                let lease = names.bucket_stream(BucketId::Lease);
                may.publish.push(format!("$JS.API.STREAM.MSG.GET.{lease}"));
                for kind in WorkKind::ALL {
                    let work = names.stream(StreamId::Work(kind));
                    may.publish.push(format!("$JS.API.CONSUMER.LIST.{work}"));
                }
                may.subscribe.push(names.live_all());
            }
            Self::Publisher => may.publish.push(names.full("event.>")),
        }
        may
    }
}

fn supervisor(names: &Subjects, may: &mut Permissions) {
    may.allow_responses = true;
    may.publish.extend([
        names.full("frame.*"),
        names.ledger(),
        names.full("work.*.*"),
        names.full("rejected.*"),
        // An order is withdrawn by claiming its attempt before a fixer does.
        names.full("claim.*.*"),
        names.full("live.*"),
        names.over(),
        names.key(BucketId::Config, ">"),
        names.key(BucketId::Snapshots, ">"),
        names.leader_key(),
        // Of supervisors of an older version, while they are upgraded one after the other.
        names.former_leader_key(),
        names.key(BucketId::Members, &format!("{MEMBER_KEY_PREFIX}.*")),
        "$JS.API.>".to_owned(),
        // One asks the others who leads.
        names.query_all(),
        // Answers to inputs, whose senders name the subject.
        Role::Gateway.inbox(),
        Role::Cli.inbox(),
        // To itself: it hears so whether anybody listens.
        Role::Supervisor.inbox(),
    ]);
    may.subscribe.extend([names.query_all(), names.live_all(), "$SRV.>".to_owned()]);
}

/// What every hand needs: to be seen, and to follow the configuration and the living.
fn agent(names: &Subjects, may: &mut Permissions) {
    follow(names, may);
    may.allow_responses = true;
    may.publish.push(names.key(BucketId::Members, &format!("{MEMBER_KEY_PREFIX}.*")));
    may.subscribe.push("$SRV.>".to_owned());
}

fn follow(names: &Subjects, may: &mut Permissions) {
    may.publish.push("$JS.API.INFO".to_owned());
    may.publish.push(format!("$JS.API.STREAM.INFO.{}", names.bucket_stream(BucketId::Members)));
    for bucket in [BucketId::Config, BucketId::Members] {
        read_bucket(names, may, bucket);
    }
}

fn read_bucket(names: &Subjects, may: &mut Permissions, bucket: BucketId) {
    let stream = names.bucket_stream(bucket);
    may.publish.extend([
        format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
        format!("$JS.API.CONSUMER.INFO.{stream}.*"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.*"),
    ]);
}

fn frames(names: &Subjects, may: &mut Permissions, kinds: &[InputKind]) {
    may.publish.extend(kinds.iter().map(|kind| names.frame(*kind)));
}

fn work(names: &Subjects, may: &mut Permissions, kind: WorkKind, zones: &[String]) {
    let stream = names.stream(StreamId::Work(kind));
    for zone in zones {
        let consumer = names.work_consumer(kind, zone);
        let subject = names.work(kind, zone);
        may.publish.extend([
            format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{subject}"),
            format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            format!("$JS.ACK.{stream}.{consumer}.>"),
            // The newer form of the same, with domain and account before the stream.
            format!("$JS.ACK.*.*.{stream}.{consumer}.>"),
        ]);
    }
}
