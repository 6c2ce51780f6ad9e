//! What was seen, on which the checks are built. They look at nothing else.

use std::{collections::BTreeSet, path::PathBuf};

use bus::{
    Tokens,
    inspect::{AccountLook, Living, QueueLook, ServerLook, StreamLook, UserLook, Which},
    roles::{Permissions, Role},
    topology::{BucketId, StreamId},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    config::Config,
    view::{Page, SystemView},
};

use super::finding::NotSeen;

/// Something that was seen, or why not.
pub(crate) type Seen<T> = Result<T, NotSeen>;

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Facts {
    /// When, by the clock of this machine.
    pub(crate) now: DateTime<Utc>,
    /// The broker.
    pub(crate) broker: Reach,
    /// How far the broker's clock is ahead of ours.
    pub(crate) broker_ahead: Seen<TimeDelta>,
    /// As whom we looked, and what that user may do.
    pub(crate) user: Seen<UserLook>,
    /// The role whose needs that is compared with, and what it needs.
    pub(crate) role: (Role, Permissions),
    /// The account.
    pub(crate) account: Seen<AccountLook>,
    /// Streams and buckets with their names.
    pub(crate) streams: Vec<(Which, String, Seen<StreamLook>)>,
    /// Work queues.
    pub(crate) queues: Seen<Vec<QueueLook>>,
    /// Signs of life.
    pub(crate) living: Seen<Living>,
    /// Members that answer when asked.
    pub(crate) answering: Seen<BTreeSet<String>>,
    /// What each supervisor that answered says.
    pub(crate) views: Seen<Vec<SystemView>>,
    /// Who says that it leads.
    pub(crate) leaders: Seen<BTreeSet<String>>,
    /// The active configuration.
    pub(crate) config: Seen<Config>,
    /// The tokens of the gateway's callers.
    pub(crate) tokens: Seen<Tokens>,
    /// Incidents that are not over.
    pub(crate) open: Seen<Page>,
    /// Gateways that were asked, and what they answered.
    pub(crate) gateways: Vec<Gateway>,
    /// This machine.
    pub(crate) local: Local,
    /// Who could use it who should not; `None` unless asked for.
    pub(crate) security: Option<Security>,
}

/// Who could use an installation who should not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// The broker is on this host.
    pub(crate) is_broker_here: bool,
    /// It is reached over TLS.
    pub(crate) is_broker_tls: bool,
    /// Signatures of supervisors are asked for.
    pub(crate) is_signed: bool,
    /// Files of the data directory that others may read or write.
    pub(crate) open_files: Vec<OpenFile>,
}

/// A file or directory that others may read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its mode.
    pub(crate) mode: u32,
}

/// Whether the broker can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It can.
    There(ServerLook),
    /// Nobody answers there.
    Away {
        /// Where.
        address: String,
        /// What happened.
        why: String,
    },
    /// It is there and does not let us in.
    NotLetIn {
        /// The broker's words.
        why: String,
    },
    /// It is there and is of no use.
    Unusable {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
}

/// A gateway that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// Where.
    pub(crate) url: String,
    /// Whether it was named by whoever called us, or guessed.
    pub(crate) is_named: bool,
    /// Status of the answer, or why there is none.
    pub(crate) answer: Result<u16, String>,
}

/// What this machine knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    /// The data directory; `None` when there is none here.
    pub(crate) data: Option<DataDir>,
    /// The configuration file; `None` when there is none here.
    pub(crate) config: Option<ConfigFile>,
}

/// A data directory on this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Free bytes of its disk, and all of them.
    pub(crate) room: Option<(u64, u64)>,
    /// What `sync_interval` the broker of `selfheal up` was started with.
    pub(crate) sync_interval: Option<String>,
    /// Whether we may write there.
    pub(crate) is_writable: bool,
}

/// A configuration file on this machine.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says, or its first mistake.
    pub(crate) content: Result<Box<Config>, String>,
}

/// Says that something was not seen.
pub(crate) fn not_seen<T>(why: impl Into<String>) -> Seen<T> {
    Err(NotSeen(why.into()))
}

impl Facts {
    /// Returns the broker's time of now, as well as it is known.
    pub(crate) fn broker_now(&self) -> DateTime<Utc> {
        self.now + self.broker_ahead.as_ref().map_or(TimeDelta::zero(), |it| *it)
    }

    /// Returns a stream as it stands.
    pub(crate) fn stream(&self, id: StreamId) -> Seen<&StreamLook> {
        self.which(Which::Stream(id))
    }

    /// Returns the stream behind a bucket as it stands.
    pub(crate) fn bucket(&self, id: BucketId) -> Seen<&StreamLook> {
        self.which(Which::Bucket(id))
    }

    fn which(&self, which: Which) -> Seen<&StreamLook> {
        let found = self.streams.iter().find(|(it, _, _)| *it == which);
        match found {
            Some((_, _, look)) => look.as_ref().map_err(NotSeen::clone),
            None => not_seen("the broker was not asked"),
        }
    }

    /// Returns the newest view of the system, that of the leader if it answered.
    pub(crate) fn view(&self) -> Seen<&SystemView> {
        let views = self.views.as_ref().map_err(NotSeen::clone)?;
        let leads = |it: &&SystemView| it.leader.as_deref() == Some(it.answered_by.as_str());
        let found = views.iter().find(leads).or_else(|| views.first());
        found.ok_or_else(|| NotSeen("no supervisor answers".to_owned()))
    }

    /// Returns the kinds and zones of the living agents.
    pub(crate) fn living(&self) -> Seen<&Living> {
        self.living.as_ref().map_err(NotSeen::clone)
    }
}

#[cfg(test)]
pub(crate) mod well;
