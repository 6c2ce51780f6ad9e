//! Traces: what happened to an incident, across all processes, as spans of OpenTelemetry.
//!
//! Off, and of no cost, unless `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector. Spans are made
//! by hand, a few for each incident and none for each event: their ids follow from the incident
//! ([`domain::trace`]), and those of a supervisor are of facts that lie in the past, which is
//! what a tracer with a present span cannot express.

mod export;

use std::{borrow::Cow, sync::OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use domain::trace::TraceContext;
pub use opentelemetry::KeyValue;
use tokio::time::Instant;
use tracing::warn;

use self::export::Exporter;
use crate::Chain;

/// Where the spans of this process go; empty when they go nowhere.
static EXPORTER: OnceLock<Exporter> = OnceLock::new();

tokio::task_local! {
    /// The span that the present task works for.
    static CURRENT: Option<TraceContext>;
}

/// What part a process plays in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its own business.
    Internal,
    /// It answers somebody who waits.
    Server,
    /// It does work that somebody wanted before.
    Consumer,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// What was done; few different names.
    pub name: Cow<'static, str>,
    /// What part this process plays.
    pub role: Role,
    /// Its own ids.
    pub context: TraceContext,
    /// The span above it; `None` for the root of a trace.
    pub parent: Option<TraceContext>,
    /// When it began.
    pub from: DateTime<Utc>,
    /// When it ended.
    pub to: DateTime<Utc>,
    /// What else is known.
    pub attributes: Vec<KeyValue>,
    /// Spans of other traces that have to do with it.
    pub links: Vec<TraceContext>,
    /// Why it did not succeed.
    pub failure: Option<String>,
}

/// Begins to send spans if the environment asks for it. What cannot be used is told in the log
/// and is no reason not to heal.
pub(crate) fn install(kind: &'static str, version: &'static str, instance: String) {
    match export::from_env(kind, version, instance) {
        Ok(Some(exporter)) => {
            if EXPORTER.set(exporter).is_err() {
                warn!("traces are sent already");
            }
        }
        Ok(None) => {}
        Err(error) => warn!(error = %Chain(&*error), "no traces are sent"),
    }
}

/// Sends what waits, for a short time, before the process ends. Blocks.
pub(crate) fn finish() {
    if let Some(exporter) = EXPORTER.get() {
        exporter.finish();
    }
}

/// Returns whether spans go anywhere.
#[must_use]
pub fn is_on() -> bool {
    EXPORTER.get().is_some()
}

/// Decides about a trace that begins here: `None` when spans go nowhere, else the span marked
/// as recorded or not. Every process with the same settings decides alike.
#[must_use]
pub fn begin(context: TraceContext) -> Option<TraceContext> {
    let exporter = EXPORTER.get()?;
    Some(TraceContext { sampled: context.is_in_share(exporter.share()), ..context })
}

/// Sends a span, if it is recorded and spans go anywhere.
pub fn record(span: Span) {
    if let Some(exporter) = EXPORTER.get().filter(|_| span.context.sampled) {
        exporter.take(span);
    }
}

/// Runs work for a span: [`current`] tells it, also far below.
pub fn within<F: Future>(
    context: Option<TraceContext>,
    work: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope(context, work)
}

/// Returns the span that the present task works for.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|it| *it).ok().flatten()
}

/// A span under way. It is sent when it is dropped, however that comes; without a recorded
/// span above it, it is nothing.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Open {
    above: Option<TraceContext>,
    own: Option<Box<(Span, Instant)>>,
}

impl Open {
    /// Begins a span below that of the present task.
    pub fn here(name: impl Into<Cow<'static, str>>, role: Role) -> Self {
        Self::below(current(), name, role)
    }

    /// Begins a span below another one.
    pub fn below(
        above: Option<TraceContext>,
        name: impl Into<Cow<'static, str>>,
        role: Role,
    ) -> Self {
        let recorded = above.filter(|it| it.sampled && is_on());
        let own = recorded.map(|parent| {
            let now = Utc::now();
            let span = Span {
                name: name.into(),
                role,
                context: TraceContext { span_id: random(), ..parent },
                parent: Some(parent),
                from: now,
                to: now,
                attributes: Vec::new(),
                links: Vec::new(),
                failure: None,
            };
            Box::new((span, Instant::now()))
        });
        Self { above, own }
    }

    /// Returns what to pass on: itself, or what is above when it is nothing.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.own.as_ref().map(|it| it.0.context).or(self.above)
    }

    /// Says more about it. What costs is not made when it is nothing.
    pub fn say(&mut self, more: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(own) = &mut self.own {
            own.0.attributes.extend(more());
        }
    }

    /// Says why it did not succeed, without credentials.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(own) = &mut self.own {
            own.0.failure = Some(domain::redact::text(&why.into()).into_owned());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            let (mut span, begun) = *own;
            // By a clock that is never set back.
            span.to = span.from + TimeDelta::from_std(begun.elapsed()).unwrap_or_default();
            record(span);
        }
    }
}

/// Two processes may do the same work, so what they do cannot be named by it.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_collector_nothing_is_made_and_what_is_above_is_passed_on() {
        let above: TraceContext =
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        assert_eq!(begin(above), None);
        assert_eq!(current(), None);
        let seen = within(Some(above), async {
            let mut open = Open::here("work", Role::Internal);
            open.say(|| panic!("must not be asked for"));
            (current(), open.context())
        });
        assert_eq!(seen.await, (Some(above), Some(above)));
    }
}
