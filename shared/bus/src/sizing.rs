//! How many copies and how much room: what an operator may choose.

use crate::topology::{BucketSpec, StreamId, StreamSpec};

/// Copies of everything in a cluster: the loss of one server loses nothing.
const REPLICAS_IN_CLUSTER: usize = 3;

/// What an operator chose of the streams; what is `None` follows from the table and the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// Copies of each stream and bucket, 1, 3 or 5. Unless chosen: 3 in a cluster that has as
    /// many servers, else 1; more are left as they are.
    pub replicas: Option<usize>,
    /// Bytes at which the inbox is full. Unless chosen: those of the table, or more where
    /// they were made so.
    pub inbox_bytes_max: Option<i64>,
    /// Bytes at which the ledger is full, likewise.
    pub ledger_bytes_max: Option<i64>,
}

/// A number that was chosen, or a least one that follows from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size<T> {
    Chosen(T),
    AtLeast(T),
}

impl<T: Copy> Size<T> {
    pub(crate) const fn wanted(self) -> T {
        match self {
            Self::Chosen(n) | Self::AtLeast(n) => n,
        }
    }
}

impl Sizing {
    pub(crate) fn replicas(&self, in_cluster: bool) -> Size<usize> {
        let usual = if in_cluster { REPLICAS_IN_CLUSTER } else { 1 };
        self.replicas.map_or(Size::AtLeast(usual), Size::Chosen)
    }

    pub(crate) fn stream_bytes(&self, spec: &StreamSpec) -> Size<i64> {
        let chosen = match spec.id {
            StreamId::Inbox => self.inbox_bytes_max,
            StreamId::Ledger => self.ledger_bytes_max,
            StreamId::Work(_) | StreamId::Claims | StreamId::Once | StreamId::Rejected => None,
        };
        chosen.map_or(Size::AtLeast(spec.bytes_max), Size::Chosen)
    }

    pub(crate) const fn bucket_bytes(spec: &BucketSpec) -> Size<i64> {
        Size::AtLeast(spec.bytes_max)
    }
}
