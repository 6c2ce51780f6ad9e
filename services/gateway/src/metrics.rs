//! The metrics of a gateway.

use service::Metric;

/// What a gateway counts.
pub const METRICS: [Metric; 11] = [
    Metric::counter(
        "selfheal_gateway_requests_total",
        &["route", "method", "status"],
        "Answered requests; the route is the pattern, not the path.",
    ),
    Metric::histogram(
        "selfheal_gateway_request_seconds",
        &["route", "method"],
        "From the head of a request to the head of its answer.",
    ),
    Metric::counter(
        "selfheal_gateway_events_total",
        &["outcome"],
        "Events that were taken: answered by a supervisor, or accepted by the broker alone.",
    ),
    Metric::counter(
        "selfheal_gateway_notices_total",
        &["ok"],
        "Notices to people: true when all of them have it.",
    ),
    Metric::counter(
        "selfheal_gateway_refused_total",
        &["reason"],
        "Callers who were not let in; `reason` is the `error.code` that they heard.",
    ),
    Metric::counter(
        "selfheal_gateway_limited_total",
        &[],
        "Requests of callers who came too often.",
    ),
    Metric::counter(
        "selfheal_gateway_handshakes_failed_total",
        &[],
        "Connections without an agreement on TLS.",
    ),
    Metric::gauge(
        "selfheal_gateway_connections",
        &["known"],
        "Open connections; `known` is true when a known principal has sent a request on it.",
    ),
    Metric::counter(
        "selfheal_gateway_connections_closed_total",
        &["reason"],
        "Connections that the gateway closed: full, address_limit, not_reading, or refused (all busy).",
    ),
    Metric::counter(
        "selfheal_gateway_overloaded_total",
        &["class"],
        "Requests answered 503 because too many of their class of callers are under way.",
    ),
    Metric::counter(
        "selfheal_gateway_watchdog_total",
        &["outcome"],
        "Heartbeat calls: told (sent), failed, or unproven (skipped, health not confirmed).",
    ),
];
