//! What a desk promises, from single rules to random histories.
//!
//! Every test drives a [`world::World`], which checks the [`laws`] after each input,
//! so that a rule holds on all paths and not only where a test names it.

pub(super) mod laws;
pub(super) mod world;

mod alerts;
mod approvals;
mod bring_up;
mod budgets;
mod configuration;
mod correlation;
mod crowds;
mod diagnosis;
mod floods;
pub(super) mod forged;
mod guards;
mod histories;
mod limits;
mod measures;
mod news;
mod notice_floods;
mod observable;
mod order;
mod origins;
mod portions;
mod quiet;
mod recall;
mod removal;
mod reopening;
mod round_trips;
mod rules;
mod shared;
mod telling;
mod verification;
