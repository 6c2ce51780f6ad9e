//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    BoxError, Metric, Readiness,
    metrics::{LIFE_SECONDS, METRICS, OF_INCIDENTS, SECONDS, describe},
    process,
};

/// How often what histograms have collected is folded, so that it does not pile up unread.
const UPKEEP_EVERY: Duration = Duration::from_secs(15);

/// The answers that tell others how this process does.
///
/// Metrics are written out in full where they are counted (`selfheal_…`), so that
/// a name seen on a dashboard is found in the source.
#[derive(Clone, Debug)]
pub struct Probe {
    kind: &'static str,
    readiness: Readiness,
    metrics: Metrics,
}

#[derive(Clone)]
struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Probe {
    /// Installs the process's recorder of metrics and returns the answers.
    ///
    /// A process has one recorder; tests that run several services in one share it.
    ///
    /// # Errors
    ///
    /// When a recorder of another kind is installed already.
    pub fn install(
        kind: &'static str,
        version: &'static str,
        readiness: Readiness,
    ) -> Result<Self, BoxError> {
        static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
        let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match recorder.as_ref() {
            Some(handle) => handle.clone(),
            None => recorder.insert(install_recorder()?).clone(),
        };
        drop(recorder);
        metrics::gauge!("selfheal_build_info", "version" => version, "kind" => kind).set(1.0);
        describe(&METRICS);
        metrics::counter!("selfheal_panics_total").increment(0);
        Ok(Self { kind, readiness, metrics: Metrics(handle) })
    }

    /// Returns whether and why not the process may be given work.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Tells Prometheus what the metrics of a service are.
    pub fn describe(&self, metrics: &[Metric]) {
        describe(metrics);
    }

    /// Returns all metrics in the text format of Prometheus.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        metrics::gauge!("selfheal_ready").set(f64::from(u8::from(self.readiness.is_ready())));
        metrics::gauge!("selfheal_broker_connected")
            .set(f64::from(u8::from(self.readiness.is_connected())));
        let mut text = self.metrics.0.render();
        process::render(&mut text);
        text
    }

    /// Returns the three routes, for a service that has an HTTP server of its own.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_text))
            .with_state(self.clone())
    }

    /// Folds what the histograms have collected, now and then, until `stop`.
    pub(crate) async fn keep_up(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_EVERY)).await.is_some() {
            self.metrics.0.run_upkeep();
        }
    }
}

fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Prefix(OF_INCIDENTS.to_owned()), &LIFE_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()
}

async fn healthz(State(probe): State<Probe>) -> Json<serde_json::Value> {
    Json(json!({ "status": "alive", "service": probe.kind }))
}

async fn readyz(State(probe): State<Probe>) -> Response {
    match probe.readiness.check() {
        Ok(()) => Json(json!({ "status": "ready", "service": probe.kind })).into_response(),
        Err(why) => {
            let body =
                json!({ "status": "not ready", "service": probe.kind, "reason": why.as_str() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics_text(State(probe): State<Probe>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], probe.render_metrics())
        .into_response()
}

/// Takes the address, so that a port in use is told before anything else happens.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// The address to listen on cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(crate) struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Answers until `stop`. It outlives the work, so that a draining process says so.
pub(crate) async fn serve(
    listener: TcpListener,
    probe: Probe,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, probe.routes()).with_graceful_shutdown(stop.cancelled_owned()).await
}
