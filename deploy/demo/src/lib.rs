//! Two small real services to break and heal: a Redis-like store, and a shop that depends on it.
//!
//! They do what they claim (data survives `kill -9`, health tells the truth), and count their own
//! starts, so that a test asks the target how often it was restarted, not the one who restarts it.

pub mod process;
pub mod resp;
pub mod server;
pub mod shop;
pub mod store;
