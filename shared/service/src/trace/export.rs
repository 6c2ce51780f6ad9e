//! The way of spans to a collector: OTLP over HTTP, from a thread of its own.
//!
//! The names and meanings of the variables are those of the
//! [specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/);
//! endpoint, headers, timeout and the sizes of batches are read by the exporter itself.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use domain::trace::TraceContext;
use opentelemetry::{
    InstrumentationScope, Key, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor as _,
    },
};
use tracing::{info, warn};

use super::{Role, Span};
use crate::{BoxError, Chain};

/// How long a process that ends waits for a collector.
const FINISH_TIME: Duration = Duration::from_secs(2);

/// Takes spans and sends them.
#[derive(Debug)]
pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    share: f64,
}

/// Begins to send spans, if the environment names a collector.
pub(super) fn from_env(
    kind: &'static str,
    version: &'static str,
    instance: String,
) -> Result<Option<Exporter>, BoxError> {
    let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
    let Some(endpoint) = endpoint.filter(|_| !is_off) else { return Ok(None) };
    let share = share(variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG"))?;
    let otlp = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    let telling = Telling { otlp, is_failing: AtomicBool::new(false) };
    let mut processor = BatchSpanProcessor::builder(telling).build();
    processor.set_resource(&resource(kind, version, instance));
    let endpoint = crate::run::without_secrets(&endpoint);
    info!(endpoint, share, "traces are sent");
    let scope = InstrumentationScope::builder("selfheal").with_version(version).build();
    Ok(Some(Exporter { processor, scope, share }))
}

/// Reads a variable; an empty one counts as absent.
#[expect(clippy::disallowed_methods, reason = "the variables of OpenTelemetry are no flags")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// Returns which share of the traces is recorded.
fn share(sampler: Option<String>, argument: Option<String>) -> Result<f64, BoxError> {
    let sampler = sampler.unwrap_or_else(|| "always_on".to_owned());
    match sampler.strip_prefix("parentbased_").unwrap_or(&sampler) {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => {
            let Some(text) = argument else { return Ok(1.0) };
            let share = text.parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
            share.ok_or_else(|| {
                format!("OTEL_TRACES_SAMPLER_ARG is `{text}`, wanted is a number from 0 to 1").into()
            })
        }
        _ => Err(format!(
            "OTEL_TRACES_SAMPLER is `{sampler}`; known are always_on, always_off, traceidratio, and each after parentbased_"
        )
        .into()),
    }
}

/// Says who we are. What the environment says counts more.
fn resource(kind: &str, version: &'static str, instance: String) -> Resource {
    let named = Resource::builder().build();
    let name = named.get(&Key::from_static_str("service.name"));
    let name = name.map(|it| it.to_string()).filter(|it| !it.starts_with("unknown_service"));
    Resource::builder()
        .with_service_name(name.unwrap_or_else(|| format!("selfheal-{kind}")))
        .with_attribute(KeyValue::new("service.namespace", "selfheal"))
        .with_attribute(KeyValue::new("service.version", version))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .build()
}

impl Exporter {
    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    /// Takes a span. Never waits: with too many that wait, it is dropped.
    pub(super) fn take(&self, span: Span) {
        let mut links = SpanLinks::default();
        let linked = span.links.into_iter().map(|it| Link::with_context(foreign(it, true)));
        links.links.extend(linked);
        let status = span.failure.map_or(Status::Unset, Status::error);
        self.processor.on_end(SpanData {
            span_context: foreign(span.context, false),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |it| span_id(it.span_id)),
            parent_span_is_remote: span.role != Role::Internal,
            span_kind: match span.role {
                Role::Internal => SpanKind::Internal,
                Role::Server => SpanKind::Server,
                Role::Consumer => SpanKind::Consumer,
            },
            name: span.name,
            start_time: SystemTime::from(span.from),
            end_time: SystemTime::from(span.to.max(span.from)),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    pub(super) fn finish(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(FINISH_TIME) {
            warn!(error = %Chain(&error), "the last spans may not have been sent");
        }
    }
}

fn foreign(context: TraceContext, is_remote: bool) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace_id = TraceId::from_bytes(context.trace_id.to_be_bytes());
    SpanContext::new(trace_id, span_id(context.span_id), flags, is_remote, TraceState::NONE)
}

fn span_id(id: u64) -> SpanId {
    SpanId::from_bytes(id.to_be_bytes())
}

/// Tells when a collector no longer takes spans, and when it does again; not each time.
#[derive(Debug)]
struct Telling {
    otlp: opentelemetry_otlp::SpanExporter,
    is_failing: AtomicBool,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n_spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.otlp.export(batch).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        let outcome = if result.is_ok() { "sent" } else { "failed" };
        metrics::counter!("selfheal_spans_total", "outcome" => outcome).increment(n_spans);
        match &result {
            Err(error) if !was_failing => {
                warn!(error = %Chain(error), hint = "is there a collector for OTLP over HTTP at OTEL_EXPORTER_OTLP_ENDPOINT? Healing goes on without", "spans could not be sent, they are dropped");
            }
            Ok(()) if was_failing => info!("spans are sent again"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampler_is_that_of_the_specification_or_refused() {
        let share = |sampler: &str, argument: &str| {
            let of = |it: &str| Some(it.to_owned()).filter(|it| !it.is_empty());
            share(of(sampler), of(argument)).map_err(|it| it.to_string())
        };
        assert_eq!(share("", ""), Ok(1.0));
        assert_eq!(share("parentbased_always_on", ""), Ok(1.0));
        assert_eq!(share("always_off", ""), Ok(0.0));
        assert_eq!(share("parentbased_traceidratio", "0.25"), Ok(0.25));
        assert_eq!(share("traceidratio", ""), Ok(1.0));
        assert!(share("traceidratio", "7").unwrap_err().contains("from 0 to 1"));
        assert!(share("jaeger_remote", "").unwrap_err().contains("parentbased_"));
    }
}
