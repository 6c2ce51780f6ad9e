//! The ledger as the broker keeps it: up to a limit in bytes, from some message on.

use std::collections::VecDeque;

use bus::{LedgerMessage, topology::LEDGER_BYTES_MAX};
use bytes::Bytes;
use supervisor::core::Fill;

use super::Reply;
use crate::clock::{Micros, utc};

/// What the broker keeps of a message besides its payload, about.
const MESSAGE_EXTRA: u64 = 100;
/// Messages in one answer.
const PAGE: usize = 64;

#[derive(Debug)]
struct Entry {
    message: LedgerMessage,
    id: u64,
}

impl Entry {
    fn bytes(&self) -> u64 {
        bytes_of(&self.message.payload)
    }
}

fn bytes_of(payload: &Bytes) -> u64 {
    u64::try_from(payload.len()).unwrap_or(u64::MAX) + MESSAGE_EXTRA
}

/// The stream of decisions.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    /// The last message that was purged.
    purged: u64,
    bytes: u64,
    bytes_max: Option<u64>,
}

impl Ledger {
    pub(super) fn new(bytes_max: Option<u64>) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn last(&self) -> u64 {
        self.purged + u64::try_from(self.entries.len()).unwrap_or(0)
    }

    pub(super) fn fill(&self) -> Fill {
        Fill {
            first_seq: self.purged + 1,
            last_seq: self.last(),
            bytes: self.bytes,
            bytes_max: self.bytes_max,
        }
    }

    /// Returns the id of a message; `None` when it is not there.
    pub(super) fn id_at(&self, seq: u64) -> Option<u64> {
        let idx = seq.checked_sub(self.purged + 1)?;
        self.entries.get(usize::try_from(idx).ok()?).map(|it| it.id)
    }

    /// Returns what follows a message; `None` when nothing does.
    pub(super) fn read(&self, after: u64) -> Option<Reply> {
        let Some(skipped) = after.checked_sub(self.purged) else { return Some(Reply::Purged) };
        let rest = self.entries.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        let page: Vec<_> = rest.take(PAGE).map(|it| it.message.clone()).collect();
        (!page.is_empty()).then_some(Reply::Ledger(page))
    }

    pub(super) fn append(
        &mut self,
        now: Micros,
        id: u64,
        expected: Option<u64>,
        payload: Bytes,
    ) -> Reply {
        if LEDGER_BYTES_MAX < payload.len() {
            return Reply::TooLarge;
        }
        if expected.is_some_and(|expected| expected != self.last()) {
            return Reply::WrongSequence;
        }
        let bytes = bytes_of(&payload);
        if self.bytes_max.is_some_and(|max| max < self.bytes + bytes) {
            return Reply::Full;
        }
        let seq = self.last() + 1;
        self.bytes += bytes;
        let message = LedgerMessage { seq, at: utc(now), payload, is_cut_off: false };
        self.entries.push_back(Entry { message, id });
        Reply::Stored(seq)
    }

    /// Forgets messages up to this one.
    pub(super) fn purge(&mut self, up_to: u64) {
        while self.purged < up_to
            && let Some(gone) = self.entries.pop_front()
        {
            self.purged += 1;
            self.bytes -= gone.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ledger_takes_nothing_until_it_is_shortened() {
        let mut ledger = Ledger::new(Some(1000));
        let text = Bytes::from(vec![b'x'; 300]);
        let append = |ledger: &mut Ledger| {
            let last = ledger.last();
            ledger.append(0, 7, Some(last), text.clone())
        };
        assert!(matches!(append(&mut ledger), Reply::Stored(1)));
        assert!(matches!(append(&mut ledger), Reply::Stored(2)));
        assert!(matches!(append(&mut ledger), Reply::Full));
        ledger.purge(1);
        assert_eq!(
            ledger.fill(),
            Fill { first_seq: 2, last_seq: 2, bytes: 400, bytes_max: Some(1000) }
        );
        assert!(matches!(append(&mut ledger), Reply::Stored(3)));
        assert!(matches!(ledger.read(0), Some(Reply::Purged)));
        assert!(matches!(ledger.read(1), Some(Reply::Ledger(page)) if page.len() == 2));
        assert!(ledger.read(3).is_none());
        assert_eq!((ledger.id_at(1), ledger.id_at(3)), (None, Some(7)));
    }
}
