//! The metrics of a monitor.

use service::Metric;

/// What a monitor counts.
pub const METRICS: [Metric; 5] = [
    Metric::counter(
        "selfheal_checks_total",
        &["probe", "result"],
        "Samples of checks, by the kind of check.",
    ),
    Metric::histogram("selfheal_check_seconds", &["probe"], "Duration of a sample."),
    Metric::counter("selfheal_changes_total", &["type", "status"], "Reported changes of a target."),
    Metric::gauge("selfheal_targets_watched", &[], "Targets that this monitor checks."),
    Metric::counter(
        "selfheal_verifications_total",
        &["result"],
        "Verifications after a fix: passed or failed.",
    ),
];
