//! What happened: a hash of all of it always, the text when it is wanted.

use std::cell::{Cell, RefCell};

use crate::clock::Micros;

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    is_kept: bool,
    hash: Cell<u64>,
    lines: RefCell<Vec<(Micros, String)>>,
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { is_kept, hash: Cell::new(0xcbf2_9ce4_8422_2325), lines: RefCell::default() }
    }

    /// Adds to the hash.
    pub(crate) fn mark(&self, what: u64, value: u64) {
        let mut hash = self.hash.get();
        for part in [what, value] {
            hash = (hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        self.hash.set(hash);
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let hash = bytes.iter().fold(self.hash.get(), |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.hash.set(hash);
    }

    /// Keeps a line, when lines are kept.
    pub(crate) fn say(&self, at: Micros, line: impl FnOnce() -> String) {
        if self.is_kept {
            self.lines.borrow_mut().push((at, line()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn lines(&self) -> Vec<(Micros, String)> {
        self.lines.borrow().clone()
    }
}
