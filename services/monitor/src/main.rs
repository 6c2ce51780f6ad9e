//! Entry point of `selfheal-monitor`.
use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("monitor", monitor::start)
}
