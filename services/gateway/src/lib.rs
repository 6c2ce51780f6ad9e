//! The door for people and machines that speak HTTP.
//!
//! It decodes, it asks, it answers; it decides nothing. An event is answered with
//! 2xx only after the broker has it. It also sends the notices that the
//! supervisor wants sent ([`notifiers`]).

mod access;
mod app;
mod backend;
mod body;
mod commands;
mod events;
mod front;
mod ids;
mod incidents;
mod layers;
pub mod notifiers;
mod openapi;
mod problem;
mod routes;
mod server;
mod settings;
mod status;
mod stream;
mod watchdog;

use service::{BoxError, Context};
use tracing::info;

use front::Front;

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
    // First of all, so that bad flags end the process even while nothing else works.
    let settings = Settings::new(&cx.args)?;
    let listener = server::bind(settings.listen).await?;
    let address = listener.local_addr()?;
    let live = stream::Live::new();
    let app = App::new(&cx, settings, live.clone());
    cx.essential("live stream", live.clone().follow(cx.bus.clone(), cx.stop.clone()));
    let front = Front::new(app.clone(), router(app.clone()));
    cx.essential("http server", server::serve(listener, front, cx.stop.clone()));
    info!(address = %address, token = app.asks_for_token(), "listening");

    // The HTTP server answers (503) while no supervisor has set up the broker; readiness waits.
    match cx.stop.run_until_cancelled(cx.bus.wait_for_topology()).await {
        Some(result) => result?,
        None => return Ok(()),
    }
    app.watch_members();
    let outbox = notifiers::Outbox::new(&cx, app.writer())?;
    cx.essential("notifiers", outbox.run());
    let switch = watchdog::Switch::new(app.clone())?;
    cx.essential("dead-man's switch", switch.run(cx.bus.clone(), cx.stop.clone()));
    drop(cx.ready);
    cx.stop.cancelled().await;
    Ok(())
}
