//! Prints `docs/wire.md`.
#![expect(clippy::print_stdout, reason = "it is there to print")]

fn main() {
    print!("{}", bus::wire_markdown());
}
