//! Processes and containers of this host, as monitor and fixer see them.
//!
//! Both ask the same functions, so that what one calls the target's process the other does
//! not call a stranger. `process` says which process is a target ([`process::find`]), reads
//! and writes the files beside it, starts it and stops it. `container` connects to the
//! container engine and says which containers a name means.

pub mod container;
pub mod process;
