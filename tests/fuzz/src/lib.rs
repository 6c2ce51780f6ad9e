//! Fuzz targets for every decoder, and the small engine that runs them.
//!
//! A [`Target`] is a decoder with what must hold for any bytes. The [`engine`] feeds it inputs
//! that are made by chance out of a corpus of real messages ([`mutate`]): bytes, lines, and JSON
//! that keeps its form, so that many of them pass the first check. It needs no special compiler and
//! runs in CI, a given time for each target; see `tests/fuzz/README.md`.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold must end the run, as in any test"
)]

pub mod chance;
pub mod engine;
pub mod mutate;
pub mod seeds;
pub mod targets;

pub use engine::{Failure, Figures, Options, fuzz};
pub use mutate::Form;
pub use targets::TARGETS;

/// A decoder, and what must hold for anything that it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; that of its folder in the corpus, too.
    pub name: &'static str,
    /// What is decoded.
    pub about: &'static str,
    /// What inputs look like.
    pub form: Form,
    /// Inputs to begin with, besides those of the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes one input; panics when something does not hold.
    pub run: fn(&[u8]) -> Verdict,
}

/// What a decoder says to an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has understood it.
    Taken,
    /// It has refused it, in these words.
    Refused(String),
}

impl Verdict {
    /// Turns a result into a verdict.
    pub fn of<T, E: std::fmt::Display>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Taken,
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}
