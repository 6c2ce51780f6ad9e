//! Faults at random on real processes, and soaks.
//!
//! A [`world`] is the whole system as real processes: a broker or a cluster of three, two of
//! each agent, and targets that keep their own record. Under [`load`], [`faults`] are drawn
//! from a seed. When they end and all is quiet, the [`judge`] compares what was promised with
//! what the ledger, the logs of the supervisors and the records of the targets say.

pub mod agents;
pub mod broker;
pub mod chance;
pub mod clients;
pub mod disk;
pub mod docker;
pub mod faults;
pub mod figures;
pub mod gather;
pub mod ground;
pub mod history;
pub mod judge;
pub mod ledger;
pub mod load;
pub mod person;
pub mod process;
pub mod proxy;
pub mod record;
pub mod run;
pub mod settle;
pub mod soak;
pub mod target;
pub mod world;
