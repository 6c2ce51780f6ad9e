//! What is decided about some inputs before it is stored.

use std::collections::BTreeSet;

use bytes::Bytes;
use domain::{
    desk::Recorded,
    fact::Fact,
    id::{IncidentId, Position},
    incident::Corrupt,
    wire::{Answer, LedgerEntry, SCHEMA},
};

use crate::{
    decode::{Part, Rejection},
    state::State,
};

/// Size of decisions after which a batch is stored. A single input may give more.
const BYTES_MAX: usize = 256 * 1024;

/// Decisions and what follows from them, until they are stored.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) recorded: Vec<Recorded>,
    pub(crate) answers: Vec<(String, Answer)>,
    pub(crate) rejections: Vec<(Position, Rejection)>,
    pub(crate) faults: Vec<Corrupt>,
    bytes: usize,
    first: Option<Position>,
}

impl Batch {
    /// Decides one input.
    pub(crate) fn decide(&mut self, state: &mut State, part: Part, poison: &[Position]) {
        let position = part.position;
        self.first.get_or_insert(position);
        match part.content {
            Ok((_, _)) if poison.contains(&position) => {
                state.desk.skip(position);
                let why = "its decisions are larger than the ledger takes".to_owned();
                self.reject(
                    state,
                    position,
                    Rejection { reason: "too_large", why, raw: Bytes::new() },
                );
            }
            Ok((input, reply_to)) => {
                let handled = state.desk.receive(&input, position, part.at);
                for recorded in &handled.recorded {
                    self.bytes += weight(recorded);
                }
                self.recorded.extend(handled.recorded);
                self.faults.extend(handled.faults);
                if let (Some(to), Some(answer)) = (reply_to, handled.answer) {
                    self.answers.push((to, answer));
                }
                metrics::counter!("selfheal_supervisor_inputs_total", "kind" => input.kind().as_str())
                    .increment(1);
            }
            Err(rejection) => {
                state.desk.skip(position);
                self.reject(state, position, rejection);
            }
        }
    }

    fn reject(&mut self, state: &mut State, position: Position, rejection: Rejection) {
        state.n_rejected += 1;
        metrics::counter!("selfheal_supervisor_rejected_total", "reason" => rejection.reason)
            .increment(1);
        tracing::warn!(%position, reason = rejection.reason, why = rejection.why, "an input was rejected");
        self.rejections.push((position, rejection));
    }

    /// Returns whether nothing was decided.
    pub(crate) fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }

    /// Returns whether it should be stored before more is decided.
    pub(crate) fn is_full(&self) -> bool {
        BYTES_MAX <= self.bytes
    }

    /// Returns the place of its first input.
    pub(crate) const fn first(&self) -> Option<Position> {
        self.first
    }

    /// Returns the message of the ledger.
    ///
    /// # Errors
    ///
    /// When a payload holds what JSON cannot.
    pub(crate) fn entry(&self, epoch: u64, covers: Position) -> Result<Bytes, serde_json::Error> {
        let decisions = self.recorded.iter().map(|it| it.decision.clone()).collect();
        let entry = LedgerEntry { v: SCHEMA, epoch, covers, decisions };
        serde_json::to_vec(&entry).map(Bytes::from)
    }

    /// Returns the incidents that something was decided about, each once.
    pub(crate) fn touched(&self) -> BTreeSet<IncidentId> {
        self.recorded.iter().filter_map(|it| it.decision.incident).collect()
    }

    /// Returns whether a configuration came into force.
    pub(crate) fn has_configuration(&self) -> bool {
        self.recorded.iter().any(|it| matches!(it.decision.fact, Fact::Configured { .. }))
    }
}

/// Returns about how large a decision is in the ledger.
fn weight(recorded: &Recorded) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written is found when the entry is made.
    let _same_error_later = serde_json::to_writer(&mut count, &recorded.decision);
    count.0
}
