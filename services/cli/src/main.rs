//! Entry point of `selfheal`.
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
