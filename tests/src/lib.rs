//! What several test files share.

pub mod broker_conf;
pub mod containers;
pub mod stack;
pub mod supervisor;
pub mod target;
mod waiting;

pub use waiting::eventually;
