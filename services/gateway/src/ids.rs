//! Ids for requests and events, without a system call for each.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::{Builder, Uuid};

/// Makes UUIDs of version 7. Their random part is drawn once for each process and counted
/// on from there: they never repeat, but who knows one can guess the next.
#[derive(Debug)]
pub(crate) struct Ids {
    head: [u8; 2],
    random: u64,
    next: AtomicU64,
}

impl Ids {
    /// Draws the random part.
    pub(crate) fn new() -> Self {
        let (high, random) = Uuid::new_v4().as_u64_pair();
        // Of the upper half only bits that no version stands in.
        let [a, b, ..] = high.to_be_bytes();
        Self { head: [a, b], random: random ^ (high << 32), next: AtomicU64::new(0) }
    }

    /// Returns the next one.
    pub(crate) fn next(&self) -> Uuid {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        let (head, tail) = random.split_at_mut(2);
        head.copy_from_slice(&self.head);
        tail.copy_from_slice(&(self.random ^ n).to_be_bytes());
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_of_version_7_and_never_repeat() {
        let (ids, others) = (Ids::new(), Ids::new());
        let all: BTreeSet<Uuid> = (0..1000).flat_map(|_| [ids.next(), others.next()]).collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|id| id.get_version_num() == 7));
    }
}
