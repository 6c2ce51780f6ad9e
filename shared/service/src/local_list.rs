//! The local list of a host: what its agents may run, reach, write and read, whatever comes over
//! the wire. Monitor and fixer read files of the same form, so that one file can serve both.
//!
//! ```yaml
//! programs: ["docker restart *", /opt/shop/bin/flush]
//! ```

mod file;
mod hosts;
mod names;
mod programs;

pub use file::{ListFile, Placed, read, refused};
pub use hosts::Hosts;
pub use names::EnvNames;
pub use programs::Programs;

use glob::MatchOptions;

/// Patterns match parts of paths: `*` stops at `/`, `**` does not.
pub const BY_PARTS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};
