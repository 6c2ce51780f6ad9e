//! A collector: takes what the agents send over OTLP/HTTP, and decodes it as others would.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
};
use prost::Message as _;

/// A span that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// `service.name` of who sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its trace, in hexadecimal digits.
    pub trace_id: String,
    /// Its id, in hexadecimal digits.
    pub span_id: String,
    /// The span above it; empty for a root.
    pub parent: String,
    /// The traces of the spans that it links to.
    pub links: Vec<String>,
    /// Nanoseconds since 1970.
    pub from: u64,
    /// Nanoseconds since 1970.
    pub to: u64,
    /// What else it says, as text.
    pub attributes: BTreeMap<String, String>,
}

/// A collector that keeps everything.
#[derive(Clone, Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Arrived>>>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[expect(clippy::unwrap_used, reason = "without a collector there is no test")]
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), spans: Arc::default() };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        collector
    }

    /// Returns the variables that make an agent send its spans here, without waiting long.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "200")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Returns all spans that have arrived.
    #[must_use]
    pub fn spans(&self) -> Vec<Arrived> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut spans = collector.spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in request.resource_spans {
        let named = texts(resource.resource.map(|it| it.attributes).unwrap_or_default());
        let service = named.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|it| it.spans) {
            spans.push(Arrived {
                service: service.clone(),
                name: span.name,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|it| hex(&it.trace_id)).collect(),
                from: span.start_time_unix_nano,
                to: span.end_time_unix_nano,
                attributes: texts(span.attributes),
            });
        }
    }
    StatusCode::OK
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|it| it.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::BoolValue(it)) => it.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|it| (it.key, text(it.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}
