//! All that knows NATS: names, streams, limits, and how each is used safely.
//!
//! What stands on the broker is written once, in [`topology`]: streams are created
//! and upgraded from that table, subjects are built from it, and `docs/wire.md` is
//! printed from it ([`wire_markdown`]).
//!
//! What the parts promise, whoever is killed when:
//!
//! | part | promise |
//! |---|---|
//! | [`InboxWriter`] | resolves when the broker has stored the input, not before |
//! | [`InboxReader`] | every stored input, once, in order, across restarts of the broker |
//! | [`Ledger`] | of two writers that start from the same end, one is refused |
//! | [`Claims`] | of all who claim an attempt, one wins |
//! | [`Lease`] | speed, never safety: a leader that lost it unknowingly is refused by the ledger |
//! | [`Work`] | at least once, again when a worker vanishes; forgotten with the broker's memory |
//! | [`Snapshots`] | whole or not there; checked when it is read |
//! | [`Members`] | who lives, within three seconds |
//!
//! The connection repairs itself. Nothing here has to be built anew after the broker
//! was away.

pub mod accounts;
mod answers;
mod asking;
mod asyncapi;

mod bus;
mod claims;
mod clock;
mod config_parts;
mod config_store;
mod connect;
mod core;
mod core_subjects;
mod ear;
#[doc(hidden)]
pub mod edges;
mod ensure;
mod error;
mod inbox;
mod inbox_reader;
pub mod inspect;
mod lane;
mod lease;
mod ledger;
mod link;
mod log;
pub mod log_chain;
mod members;
mod micro;
mod nats_context;
mod options;
mod publish;
pub mod roles;
mod serve;
mod signing;
mod sizing;
mod snapshots;
mod state;
mod subjects;
pub mod testing;
mod token_store;
pub mod topology;
mod vigil;
mod wanted;
mod wire_doc;
mod work;
mod work_queue;

pub use crate::{
    answers::Asked,
    asyncapi::asyncapi,
    bus::Bus,
    claims::{ClaimRecord, Claimed, Claims, Held, Holding, Lost},
    clock::BrokerClock,
    config_store::ConfigStore,
    connect::connect,
    core_subjects::{CoreMessage, Subscription},
    ear::Ear,
    error::Error,
    inbox::{Accepted, InboxWriter, NotAccepted},
    inbox_reader::{InboxMessage, InboxReader},
    lease::Lease,
    ledger::{AppendError, ForeignMessage, Ledger, LedgerItem, LedgerMessage, LedgerReader},
    members::Members,
    micro::MicroService,
    options::BrokerOptions,
    serve::{ServeError, Served, Server},
    signing::{Keys, Unbelieved, new_key, public_key},
    sizing::Sizing,
    snapshots::{SnapshotReader, SnapshotWriter, Snapshots},
    state::StreamState,
    subjects::{InboxSubject, Subjects},
    token_store::{PutToken, TokenStore, Tokens},
    wire_doc::wire_markdown,
    work::{Job, KeepAlive, Work, WorkConsumer},
};
