//! The door for people and machines that speak HTTP.
//!
//! It decodes, it asks, it answers; it decides nothing. An event is answered with
//! 2xx only after the broker has it. It also sends the notices that the
//! supervisor wants sent (`outbox`, `notifiers`), and takes what people answer to them.

mod access;
mod admission;
mod alerts;
mod app;
mod approval_page;
mod approvals;
mod backend;
mod body;
mod callers;
mod commands;
mod configs;
mod connections;
mod descriptors;
mod doors;
mod events;
mod front;
mod group;
mod ids;
mod in_force;
mod incidents;
mod integrations;
mod layers;
mod letter;
mod links;
mod metrics;
mod network;
pub mod notifiers;
mod openapi;
mod outbox;
mod outgoing;
mod permits;
mod problem;
mod receivers;
mod routes;
mod seen;
mod server;
mod settings;
mod signing;
mod silences;
mod slack_actions;
mod slack_message;
mod sns;
mod status;
mod stream;
mod tls;
mod traces;
mod watchdog;
mod write_progress;

use service::{BoxError, Context};
use tracing::info;

use front::Front;

pub use crate::metrics::METRICS;
pub use app::{App, router};
pub use openapi::openapi;
pub use settings::{Args, Settings};

/// Runs until told to stop.
///
/// # Errors
///
/// When the flags are refused ([`service::ConfigError`]), the address cannot be
/// had, or a task ends that the gateway cannot do without.
pub async fn start(cx: Context<Args>) -> Result<(), BoxError> {
    cx.probe.describe(&METRICS);
    // First of all, so that bad flags end the process even while nothing else works.
    let settings = Settings::new(&cx.args)?;
    let tls = match settings.tls.clone() {
        Some(files) => {
            let (now, follow) = tls::follow(files, cx.stop.clone())?;
            cx.essential("certificates", follow);
            Some(now)
        }
        None => None,
    };
    let listener = server::bind(settings.listen).await?;
    let address = listener.local_addr()?;
    let total = descriptors::allow(settings.connections.total);
    let limits = connections::Limits { total, ..settings.connections };
    let limited = server::Limited {
        connections: connections::Connections::new(limits),
        write_timeout: settings.write_timeout,
    };
    let live = stream::Live::new();
    let app = App::new(&cx, settings, live.clone());
    cx.essential("live stream", live.clone().follow(cx.bus.clone(), cx.stop.clone()));
    let front = Front::new(app.clone(), router(app.clone()));
    let serving = server::serve(listener, front, tls.clone(), limited, cx.stop.clone());
    cx.essential("http server", serving);
    info!(address = %address, token = app.asks_for_token(), tls = tls.is_some(), "listening");

    // The HTTP server answers (503) while no supervisor has set up the broker; readiness waits.
    match cx.stop.run_until_cancelled(cx.bus.wait_for_topology()).await {
        Some(result) => result?,
        None => return Ok(()),
    }
    app.watch_members();
    let doors = app.doors().clone();
    cx.essential("integrations", doors.follow(cx.bus.clone(), cx.stop.clone()));
    let access = app.access().clone();
    cx.essential("access", access.clone().follow(cx.bus.clone(), cx.stop.clone()));
    if cx.stop.run_until_cancelled(access.settle(&cx.bus)).await.is_none() {
        return Ok(());
    }
    let Some(in_force) = cx.stop.run_until_cancelled(app.watch_config()).await else {
        return Ok(());
    };
    let outbox = outbox::Outbox::new(&cx, app.writer(), in_force)?;
    cx.essential("notifiers", outbox.run());
    let switch = watchdog::Switch::new(app.clone())?;
    cx.essential("dead-man's switch", switch.run(cx.bus.clone(), cx.stop.clone()));
    drop(cx.ready);
    cx.stop.cancelled().await;
    Ok(())
}
