//! The monitor against real processes, servers and a real broker.

#[cfg(test)]
#[path = "real/broker.rs"]
mod broker;
#[cfg(test)]
#[path = "kit/mod.rs"]
mod kit;
#[cfg(test)]
#[path = "real/probing.rs"]
mod probing;
#[cfg(test)]
#[path = "real/querying.rs"]
mod querying;
#[cfg(test)]
#[path = "real/verifying.rs"]
mod verifying;
#[cfg(test)]
#[path = "real/watching.rs"]
mod watching;
