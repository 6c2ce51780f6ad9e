//! Prints `docs/schemas/asyncapi.json`.
#![expect(clippy::print_stdout, reason = "it is there to print")]

fn main() {
    print!("{}", bus::asyncapi());
}
