//! Prints `deploy/nats.conf`.
#![expect(clippy::print_stdout, reason = "it is there to print")]

fn main() {
    print!("{}", tests::broker_conf::nats_conf());
}
