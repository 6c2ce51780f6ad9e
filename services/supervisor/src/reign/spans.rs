//! The spans of what was decided: each incident, its phases, and the decisions about reports.
//!
//! They are made of what is stored, by who stored it. Their ids follow from the incident, so
//! that hands know the phase that they work for long before its span is sent: that is when the
//! phase ends, by whoever leads then.

use std::borrow::Cow;

use chrono::Utc;
use domain::{
    desk::{Before, Recorded},
    fact::Fact,
    id::IncidentId,
    redact,
    trace::TraceContext,
    view::Status,
    wire::InputKind,
};
use service::trace::{self, KeyValue, Role, Span};

use crate::core::{Consequences, Traced};

/// Sends the spans of what is stored.
pub(super) fn send(stored: &Consequences) {
    if !trace::is_on() {
        return;
    }
    for recorded in &stored.recorded {
        of_decision(recorded, &stored.traced);
    }
    for traced in &stored.traced {
        of_input(traced);
    }
}

fn of_decision(recorded: &Recorded, traced: &[Traced]) {
    let Some(id) = recorded.decision.incident else { return };
    let Some(root) = trace::begin(TraceContext::of_incident(id)).filter(|it| it.sampled) else {
        return;
    };
    if matches!(recorded.decision.fact, Fact::Opened { .. }) {
        let cause = recorded.decision.cause;
        let from = traced.iter().find(|it| it.position == cause).map(|it| it.context);
        trace::record(opened(recorded, root, from));
    }
    let Some(before) = recorded.before.filter(|it| it.has_left) else { return };
    if !before.status.is_over() {
        trace::record(phase(recorded, id, root, before));
    }
    if recorded.status.is_some_and(Status::is_over) {
        trace::record(incident(recorded, root, before));
    }
}

/// The opening, with a link to the span that the event came with.
fn opened(recorded: &Recorded, root: TraceContext, from: Option<TraceContext>) -> Span {
    let mut attributes = about(recorded);
    if let Fact::Opened { event, .. } = &recorded.decision.fact {
        attributes.push(KeyValue::new("selfheal.event.id", event.id.clone()));
        attributes.push(KeyValue::new("selfheal.event.source", event.source.clone()));
    }
    Span {
        name: Cow::Borrowed("opened"),
        role: Role::Internal,
        context: root.child("opened"),
        parent: Some(root),
        from: recorded.decision.at,
        to: Utc::now(),
        attributes,
        links: from.into_iter().collect(),
        failure: None,
    }
}

fn phase(recorded: &Recorded, id: IncidentId, root: TraceContext, before: Before) -> Span {
    let own = TraceContext::of_phase(id, before.revision);
    let mut attributes = about(recorded);
    attributes.push(KeyValue::new("selfheal.attempt", i64::from(before.attempt)));
    Span {
        name: Cow::Borrowed(before.status.as_str()),
        role: Role::Internal,
        context: TraceContext { sampled: root.sampled, ..own },
        parent: Some(root),
        from: before.entered_at,
        to: recorded.decision.at,
        attributes,
        links: Vec::new(),
        failure: failure(&recorded.decision.fact, &recorded.decision.reason),
    }
}

fn incident(recorded: &Recorded, root: TraceContext, before: Before) -> Span {
    let mut attributes = about(recorded);
    let told =
        [("selfheal.analysis", &recorded.analysis), ("selfheal.resolution", &recorded.resolution)];
    for (key, text) in told {
        attributes.extend(text.as_ref().map(|it| KeyValue::new(key, shown(it))));
    }
    Span {
        name: Cow::Owned(format!("incident {}", recorded.kind)),
        role: Role::Internal,
        context: root,
        parent: None,
        from: before.opened_at,
        to: recorded.decision.at,
        attributes,
        links: Vec::new(),
        failure: None,
    }
}

/// From the inbox to the ledger: the decision about a report, below the span of the hand; or
/// about an event, in the trace of who sent it, with a link to the incident.
fn of_input(traced: &Traced) {
    let name = match traced.kind {
        InputKind::Event => "decide event",
        InputKind::Analysis => "decide analysis",
        InputKind::Fix => "decide fix",
        InputKind::Verification => "decide verification",
        InputKind::Notice => "decide notice",
        InputKind::Command => "decide command",
        InputKind::Timer => "decide timer",
    };
    let root = traced.incident.map(TraceContext::of_incident);
    let links = root.filter(|it| it.trace_id != traced.context.trace_id);
    let id = traced.incident.map(|it| KeyValue::new("selfheal.incident.id", it.to_string()));
    trace::record(Span {
        name: Cow::Borrowed(name),
        role: Role::Consumer,
        context: traced.context.child(&format!("decide/{}", traced.position)),
        parent: Some(traced.context),
        from: traced.at,
        to: Utc::now(),
        attributes: id.into_iter().collect(),
        links: links.into_iter().collect(),
        failure: None,
    });
}

fn about(recorded: &Recorded) -> Vec<KeyValue> {
    let decision = &recorded.decision;
    let mut attributes = vec![
        KeyValue::new("selfheal.incident.type", recorded.kind.clone()),
        KeyValue::new("selfheal.decision", decision.fact.name()),
        KeyValue::new("selfheal.decision.seq", i64::try_from(decision.seq).unwrap_or(i64::MAX)),
        KeyValue::new("selfheal.reason", shown(&decision.reason)),
    ];
    attributes
        .extend(decision.incident.map(|it| KeyValue::new("selfheal.incident.id", it.to_string())));
    attributes
        .extend(recorded.target.as_ref().map(|it| KeyValue::new("selfheal.target", it.clone())));
    attributes.extend(recorded.status.map(|it| KeyValue::new("selfheal.status", it.as_str())));
    attributes
}

/// Returns a text without credentials: traces are read by many.
fn shown(text: &str) -> String {
    redact::text(text).into_owned()
}

/// Returns why a phase did not lead where it should.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other facts are no failure")]
fn failure(fact: &Fact, reason: &str) -> Option<String> {
    match fact {
        Fact::AttemptFailed | Fact::Escalated { .. } | Fact::UndoStarted { .. } => {
            Some(shown(reason))
        }
        _ => None,
    }
}
