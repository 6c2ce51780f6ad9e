//! The table of metrics: what each is called, what it counts, and what tells its series apart.
//!
//! Every service has a table of its own, and so has this crate. What stands there is described
//! to Prometheus, is the table of `docs/operations.md`, and is what dashboards and rules may
//! ask for.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of a process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

impl MetricKind {
    /// Returns its name in the text format of Prometheus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit at its end.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What tells its series apart. Each takes few values: none is made by whoever sends.
    pub labels: &'static [&'static str],
    /// What it counts, in one line.
    pub help: &'static str,
}

impl Metric {
    /// Makes the row of a counter.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: MetricKind::Counter, labels, help }
    }

    /// Makes the row of a gauge.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: MetricKind::Gauge, labels, help }
    }

    /// Makes the row of a histogram.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: MetricKind::Histogram, labels, help }
    }
}

/// Bounds of every histogram of seconds: from a publish to a long fix.
pub(crate) const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// What the histograms of incidents begin with.
pub(crate) const OF_INCIDENTS: &str = "selfheal_incident_";

/// Bounds of histograms of incidents, in seconds: from a restart to a night that people slept.
pub(crate) const LIFE_SECONDS: [f64; 16] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
    14_400.0, 43_200.0,
];

/// The metrics of every process; see [`crate::process`] for those of the platform.
pub const METRICS: [Metric; 6] = [
    Metric::gauge(
        "selfheal_build_info",
        &["version", "kind"],
        "Always 1; the labels say what runs.",
    ),
    Metric::gauge("selfheal_ready", &[], "1 when the process may be given work."),
    Metric::gauge("selfheal_broker_connected", &[], "1 when the broker is connected."),
    Metric::counter(
        "selfheal_panics_total",
        &[],
        "Tasks that ended by a panic: a defect, please report it.",
    ),
    Metric::counter(
        "selfheal_work_unreadable_total",
        &[],
        "Work that could not be read, left to others: of another version?",
    ),
    Metric::counter(
        "selfheal_spans_total",
        &["outcome"],
        "Spans of traces: sent, or failed when the collector did not take them.",
    ),
];

/// Tells Prometheus what each metric is.
pub(crate) fn describe(metrics: &[Metric]) {
    for metric in metrics {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}
