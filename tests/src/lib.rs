//! What several test files share.

pub mod agents;
pub mod alerting;
pub mod broker_conf;
pub mod cluster;
pub mod containers;
pub mod fleet;
pub mod judge;
pub mod load;
pub mod otlp;
pub mod prometheus;
pub mod stack;
pub mod supervisor;
pub mod target;
mod waiting;

pub use waiting::eventually;
