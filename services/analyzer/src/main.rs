//! Entry point of `selfheal-analyzer`.
use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("analyzer", analyzer::start)
}
