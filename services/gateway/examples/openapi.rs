//! Prints `docs/schemas/openapi.json`.
#![expect(clippy::print_stdout, reason = "it is there to print")]

fn main() {
    print!("{}", gateway::openapi());
}
