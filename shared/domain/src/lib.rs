//! The pure core: what is known, what is decided, and why.
//!
//! Nothing in here looks at a clock, draws a random number or does I/O: time and
//! positions are arguments. That is what makes every decision replayable.
//!
//! Read in this order: [`event`], [`target`], [`plan`], [`fact`], [`incident`],
//! [`guard`], [`desk`]. What crosses the wire is in [`wire`]; what a person
//! configures is in [`config`]; what a person reads is in [`view`].

pub mod access;
pub mod action;
pub mod autonomy;
pub mod catalogue;
pub mod check;
pub mod config;
pub mod desk;
pub mod event;
pub mod fact;
pub mod guard;
pub mod id;
pub mod incident;
pub mod mapping;
pub mod matcher;
pub mod measure;
pub mod notify;
pub mod plan;
pub mod policy;
pub mod redact;
pub mod runbook;
pub mod schema;
pub mod secret;
pub mod silence;
pub mod span;
pub mod target;
pub mod time_zone;
pub mod trace;
pub mod view;
pub mod visible;
pub mod wire;
