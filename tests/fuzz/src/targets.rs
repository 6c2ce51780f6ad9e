//! All targets.

mod cli;
mod config;
mod desk;
mod event;
mod files;
mod input;
mod log;
mod mapping;
mod names;
mod wire;

use crate::{Form, Target, Verdict};

/// All targets. Each has a test of its name in `tests/targets.rs`.
pub const TARGETS: [Target; 31] = [
    event::PLAIN,
    event::CLOUDEVENT,
    event::BINARY,
    input::FRAME,
    input::REPORT,
    input::COMMAND,
    wire::ENVELOPE,
    wire::WORK,
    wire::LEDGER,
    wire::LOG_LINE,
    wire::CLAIM,
    wire::MEMBER,
    wire::QUERY,
    wire::VIEWS,
    wire::PROBE,
    desk::HISTORY,
    desk::FOLD,
    desk::SNAPSHOT,
    config::YAML,
    config::MESSAGE,
    config::RUNBOOK,
    config::ALLOW,
    log::JOURNAL,
    log::RESTORE,
    names::SPAN,
    names::SUBJECT,
    names::BROKER,
    cli::URL,
    cli::WORDS,
    files::PROC,
    mapping::MESSAGE,
];

/// Cuts an input in two at its first line break: what stands outside, and the body.
fn head_and_body(input: &[u8]) -> (String, &[u8]) {
    let at = input.iter().position(|it| *it == b'\n').unwrap_or(input.len());
    let head = String::from_utf8_lossy(&input[..at]).into_owned();
    (head, input.get(at + 1..).unwrap_or_default())
}
