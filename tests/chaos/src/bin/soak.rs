//! `cargo xtask soak`: a steady load for long.
fn main() {}
