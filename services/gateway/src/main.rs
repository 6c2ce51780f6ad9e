//! Entry point of `selfheal-gateway`.
use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("gateway", gateway::start)
}
