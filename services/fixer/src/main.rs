//! Entry point of `selfheal-fixer`.
use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("fixer", fixer::start)
}
