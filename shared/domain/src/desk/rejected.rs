//! Inputs that are not decided: each is a fact, so that it is never met again.

use chrono::{DateTime, Utc};

use super::{Desk, Handled, Turn};
use crate::{fact::Fact, id::Position};

/// Why an input is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// In one word.
    pub reason: &'a str,
    /// In a sentence.
    pub why: &'a str,
    /// Size of the input.
    pub bytes: usize,
}

impl Desk {
    /// Takes note of an input that cannot be decided, so that it is not read again: it could
    /// not be understood, or its decisions are larger than the ledger takes.
    pub fn reject_input(
        &mut self,
        position: Position,
        at: DateTime<Utc>,
        rejected: Rejected<'_>,
    ) -> Handled {
        let mut turn = Turn::new(position, at);
        if position <= self.position {
            return turn.handled;
        }
        self.position = position;
        let Rejected { reason, why, bytes } = rejected;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let fact = Fact::InputRejected { position, reason: reason.to_owned(), bytes };
        self.record(&mut turn, None, fact, why);
        turn.handled
    }
}
