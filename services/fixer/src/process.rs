//! Processes of this host: what a fixer does besides what `host` does for all.

mod logs;
mod pid_file;
pub(crate) mod reap;

pub(crate) use logs::keep_bounded;
pub(crate) use pid_file::settle;
