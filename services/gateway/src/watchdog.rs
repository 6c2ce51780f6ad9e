//! The dead-man's switch: an outside system is called as long as the healer lives, and raises
//! the alarm when the calls end.
//!
//! A gateway calls only with proof: the broker has carried a question to a supervisor and its
//! answer back, one leads, and what waits in the inbox is being decided.

use std::time::Duration;

use bus::Bus;
use domain::{
    config::{Config, Watchdog},
    id::Position,
    view::{Query, SystemView},
};
use service::{BoxError, Chain, outgoing::Client};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::app::App;

/// Longest time for one call. The outside system waits for the next one, not for this.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Calls while there is proof, by the configuration that is in force.
#[derive(Debug)]
pub(crate) struct Switch {
    app: App,
    http: Client,
    /// Where the last proof found the supervisor: with inputs waiting it must have moved.
    seen: Position,
}

impl Switch {
    /// Prepares to call.
    pub(crate) fn new(app: App) -> Result<Self, BoxError> {
        let builder = reqwest::Client::builder()
            .timeout(CALL_TIME_MAX)
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")));
        let http = app.outgoing().client(builder)?;
        Ok(Self { app, http, seen: Position::default() })
    }

    /// Works until told to stop.
    pub(crate) async fn run(mut self, bus: Bus, stop: CancellationToken) -> Result<(), BoxError> {
        let mut configs = bus.config_store().watch();
        let mut asked = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = configs.changed() => {
                    if changed.is_err() {
                        // The client has ended, and so does this process.
                        stop.cancelled().await;
                        return Ok(());
                    }
                    let now = in_force(&mut configs, asked.as_ref());
                    if now != asked {
                        info!(on = now.is_some(), "the dead-man's switch is as configured");
                        asked = now;
                    }
                }
                () = self.keep_calling(asked.as_ref()) => {}
            }
        }
    }

    /// Calls for ever; nobody when nobody is to be called.
    async fn keep_calling(&mut self, asked: Option<&Watchdog>) {
        let Some(asked) = asked else { return std::future::pending().await };
        let mut due = tokio::time::interval(asked.every.to_std());
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let outcome = self.call(asked).await;
            metrics::counter!("selfheal_gateway_watchdog_total", "outcome" => outcome).increment(1);
        }
    }

    async fn call(&mut self, asked: &Watchdog) -> &'static str {
        if let Err(missing) = self.prove().await {
            warn!(missing, "the heartbeat URL is not called");
            return "unproven";
        }
        let answer = self.http.get(&asked.url).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => {
                debug!(status = answer.status().as_u16(), "heartbeat sent");
                "told"
            }
            Err(error) => {
                // The URL is all that one needs to call in our place.
                let error = error.without_url();
                warn!(error = %Chain(&error), "the heartbeat URL cannot be called");
                "failed"
            }
        }
    }

    /// Finds out whether incidents are decided, or says what is missing.
    async fn prove(&mut self) -> Result<(), &'static str> {
        let view = self.app.query::<SystemView>(&Query::Status).await;
        let view = view.map_err(|_told_before| "no supervisor answers")?;
        if view.leader.is_none() {
            return Err("no supervisor leads");
        }
        let before = std::mem::replace(&mut self.seen, view.position);
        if 0 < view.inbox_lag && view.position <= before {
            return Err("inputs wait, and none is decided");
        }
        Ok(())
    }
}

fn in_force(
    configs: &mut watch::Receiver<Option<(u64, bytes::Bytes)>>,
    former: Option<&Watchdog>,
) -> Option<Watchdog> {
    let known = configs.borrow_and_update();
    let (_, text) = known.as_ref()?;
    match serde_json::from_slice::<Config>(text) {
        Ok(config) => config.watchdog,
        Err(error) => {
            warn!(error = %Chain(&error), "the configuration cannot be read, the former one stays");
            former.cloned()
        }
    }
}
