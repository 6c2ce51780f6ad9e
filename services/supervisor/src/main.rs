//! Entry point of `selfheal-supervisor`.
use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("supervisor", supervisor::start)
}
