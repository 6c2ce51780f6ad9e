//! Entry point of `selfheal-fixer`.
use std::process::ExitCode;

fn main() -> ExitCode {
    host::process::start::starter().unwrap_or_else(|| service::run("fixer", fixer::start))
}
