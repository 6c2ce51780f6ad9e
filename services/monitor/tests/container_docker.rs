//! Real containers that die, fall ill and come back, told by the engine's events.

#[cfg(test)]
#[path = "real/containers.rs"]
mod containers;
#[cfg(test)]
#[path = "kit/mod.rs"]
mod kit;
