//! The chain of a log on disk: what shows that a line was changed, removed or inserted.
//!
//! Beside each part of the log (`incident_logs.jsonl`, and each part that was closed) is a file of
//! the same name that ends with `.chain`. It holds one record for each line, with the SHA-256 of
//! the line, and after each batch a seal: the head of the chain, signed by the supervisor. A head
//! is the SHA-256 of the head before and of the record, so each seal covers all that was written
//! before it, in this part and in the parts before. Who can write files and has no key can change
//! both files, but cannot make the seal.
//!
//! A batch is written to the chain before it is written to the log. After a crash the chain may
//! know lines that the log does not have: they come from the ledger again, and the chain says so
//! (`rewound`). After a power failure the log may have lines that the chain does not know: they are
//! taken into it, and the chain says so, too (`found`).

mod compare;
mod parts;
mod reading;
mod record;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use self::{
    parts::{chain_of, closed_at, closed_files},
    verify::{Problem, Proof, Remark, Report, verify},
    writer::{LogChain, Mark, fetched},
};

/// What a seal is bound to, in place of a subject: no subject of the broker has a blank.
const SEAL: &str = "log chain";
