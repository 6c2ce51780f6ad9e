//! Prints one of the files of `docs/schemas/`: the form that its argument names.
#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let named = std::env::args().nth(1).unwrap_or_default();
    match domain::schema::FILES.iter().find(|(file, _)| *file == named) {
        Some((_, form)) => {
            println!("{:#}", form());
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}
