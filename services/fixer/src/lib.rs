//! The fixer: does what was decided, once, and says what it did.
//!
//! It takes orders from `work.fix.<zone>`. An order has passed all guards of the
//! supervisor; here it is looked at again, at the moment of execution:
//!
//! 1. It must not be too old, its plan must have the hash that was authorized, and
//!    everything in it must be on the **local list** ([`AllowList`]), which no message
//!    can widen.
//! 2. The attempt is **claimed**. Of all fixers one wins: an attempt is never run twice,
//!    whoever dies when. The claim is a lease: it is renewed, and asked for before each
//!    step. A fixer that finds the claim of another one leaves it alone until that one
//!    cannot act any more: it is proven gone, or its claim and its step have run out. Then
//!    it replaces the claim, so that its former holder can never go on, and reports the
//!    outcome as unknown; the verification finds out what is true.
//! 3. The steps are carried out, each after its pre-check and within its timeout. When
//!    one fails or does not end in time, it and those before it are taken back, the last
//!    first.
//! 4. The report is stored, and only then the order is acknowledged.
//!
//! # Flags
//!
//! | flag | environment | default |
//! |---|---|---|
//! | `--state-dir` | `SELFHEAL_STATE_DIR` | `./data/run` |
//! | `--parallel` | `SELFHEAL_FIXER_PARALLEL` | 4 |
//! | `--allow` | `SELFHEAL_FIXER_ALLOW` | `process.restart`, `docker.restart`, `docker.start` |
//! | `--allow-file` | `SELFHEAL_FIXER_ALLOW_FILE` | none |
//!
//! By default only what the active configuration says of its targets is done: processes are
//! started by their own handles, and the containers of targets are started and restarted. All else
//! must be allowed by name and be listed in the file, or be allowed with `all`:
//!
//! ```yaml
//! actions: [process.restart, command.run, disk.clean, http.request]
//! programs: ["docker restart *", "/opt/shop/bin/*"] # command.run; then process.restart, too
//! env: [SHOP_MODE]                           # variables of command.run
//! directories: [/var/log/shop]               # disk.clean
//! hosts: ["127.0.0.1:8081", "*.internal"]    # http.request
//! containers: ["shop/*"]                     # docker.*
//! writes: [/var/log/shop, /run]              # logs and pid files of process.restart
//! ```
//!
//! A mistake in it ends the process with 78, with line and column.
//!
//! # Processes
//!
//! A process that is started outlives its fixer: it has a session of its own, and prints
//! into a file. (A service manager that kills whole control groups must be told not to:
//! `KillMode=process` for systemd. In a container, all ends with the container.) It is
//! known again by its id and start time, which are noted before it begins, or by the pid
//! file that it writes; a number in a file alone is not trusted, as process ids are used
//! again. See `host::process`. In the state directory lie, for a target `shop`, the files
//! that others read as evidence:
//!
//! | file | content |
//! |---|---|
//! | `shop.run.json` | which run: `{"pid":1,"start_ticks":2,"boot_id":"…",…}` |
//! | `shop.pid` | the process id, as a decimal line, for people |
//! | `shop.log` | what it prints |
//! | `shop.exit.json` | `{"pid":1,"exit_code":null,"signal":9,"at":"RFC 3339"}` |
//! | `shop.starts.jsonl` | the last 200 starts: `{"pid":1,"at":"RFC 3339","incident":"…","attempt":1}` |
//!
//! # Metrics
//!
//! `selfheal_fixer_orders_total{outcome}`, `selfheal_fixer_attempts_total{action,outcome}`
//! (one for each step), `selfheal_fixer_step_seconds{action}`.

mod actions;
mod alive;
mod allow;
mod args;
pub mod attempt;
mod containers;
#[doc(hidden)]
pub mod edges;
mod environment;
mod known;
mod lease;
pub mod memory;
mod orders;
mod output;
mod precheck;
mod process;
mod program;
mod progress;
mod runner;
mod secrets;
mod start;
mod turns;

#[cfg(test)]
mod testing;

pub use crate::{
    actions::{Tools, is_start},
    allow::AllowList,
    args::Args,
    known::KnownTargets,
    lease::{Lease, Lost},
    progress::Progress,
    runner::{Ended, carry_out},
    start::METRICS,
    start::{Hand, serve, start},
};
