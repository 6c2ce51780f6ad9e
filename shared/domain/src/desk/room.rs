//! How much one input may decide. An input whose decisions are larger than a message of the
//! ledger would stop everything; so what cascades is counted, and the rest waits for a timer
//! that comes at once.

use super::Turn;
use crate::event::json_len;

/// Size of the decisions about one input, as JSON, after which the rest waits. With what a
/// batch holds before and one more large decision it is still less than the ledger takes.
pub(super) const BYTES_MAX: usize = 512 * 1024;

/// What was counted of a turn.
#[derive(Debug, Default)]
pub(super) struct Room {
    n_counted: usize,
    bytes: usize,
}

impl Turn {
    /// Returns whether the turn may decide so many bytes more.
    pub(super) fn has_room_for(&mut self, bytes: usize) -> bool {
        let Room { n_counted, bytes: counted } = &mut self.room;
        for recorded in self.handled.recorded.iter().skip(*n_counted) {
            *counted = counted.saturating_add(json_len(&recorded.decision));
        }
        *n_counted = self.handled.recorded.len();
        counted.saturating_add(bytes) <= BYTES_MAX
    }

    /// Returns whether the turn may decide more.
    pub(super) fn has_room(&mut self) -> bool {
        self.has_room_for(0)
    }
}
