//! What came together goes to the inbox together, and is answered once, when the broker has
//! all of it. Nobody waits for decisions here: senders of alerts have no use for them.

use axum::{Json, http::StatusCode, response::IntoResponse as _, response::Response};
use bus::{Error, topology::FRAME_BYTES_MAX};
use domain::{
    event::{Event, Origin},
    wire::{Envelope, Input, InputKind},
};
use serde::Serialize;
use serde_json::json;

use crate::{app::App, backend, events::envelope_id, problem::Problem};

/// Room in a frame for what stands around one event.
const AROUND_BYTES: usize = 1024;
/// Explaining texts that are kept of an event that is too large.
const ANNOTATION_BYTES_MAX: usize = 4096;

/// The answer to a group.
#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    /// Always `accepted`.
    status: &'static str,
    /// How many events the message meant.
    n_events: usize,
}

/// Stores events, in as few messages as hold them.
pub(crate) async fn store(app: &App, origin: &Origin, events: Vec<Event>) -> Result<(), Problem> {
    if events.is_empty() {
        return Ok(());
    }
    let n_events = u64::try_from(events.len()).unwrap_or(u64::MAX);
    let envelope = |event: Event| {
        let event = event.sent_by(origin.clone());
        Envelope::new(envelope_id(&event), Input::Event(event))
    };
    let envelopes: Vec<Envelope> = events.into_iter().map(envelope).collect();
    let stored = app.writer().submit_all(InputKind::Event, &envelopes).await;
    stored.map_err(|error| backend::not_accepted(&Error::NotAccepted(error)))?;
    app.meters().accepted(n_events);
    Ok(())
}

/// Stores events and answers 202.
pub(crate) async fn accept(
    app: &App,
    origin: &Origin,
    events: Vec<Event>,
) -> Result<Response, Problem> {
    let n_events = events.len();
    store(app, origin, events).await?;
    let told = Accepted { status: "accepted", n_events };
    Ok((StatusCode::ACCEPTED, Json(told)).into_response())
}

/// Makes events fit whose message was so long that they may not: an alert that is too large
/// is told with less, since its sender would drop what is refused.
pub(crate) fn fit(events: &mut [Event], n_body_bytes: usize) {
    if n_body_bytes < FRAME_BYTES_MAX / 2 {
        return;
    }
    let size = |event: &Event| serde_json::to_vec(event).map_or(usize::MAX, |it| it.len());
    for event in events {
        let n_bytes = size(event);
        if n_bytes + AROUND_BYTES <= FRAME_BYTES_MAX {
            continue;
        }
        event.payload = json!({ "left_out_bytes": n_bytes });
        event.extra.clear();
        event.annotations.retain(|_, text| text.len() <= ANNOTATION_BYTES_MAX);
        if FRAME_BYTES_MAX < size(event) + AROUND_BYTES {
            event.annotations.clear();
            event.links.clear();
            event.labels.retain(|_, text| text.len() <= ANNOTATION_BYTES_MAX);
        }
        let note = format!("{n_bytes} bytes exceed the size limit of an event; it was truncated");
        event.annotations.insert("selfheal.too_large".to_owned(), note);
    }
}

#[cfg(test)]
mod tests {
    use domain::event::EventType;

    use super::*;

    #[test]
    fn an_alert_that_is_too_large_is_told_with_less() {
        let mut event = Event::new("1", EventType::known("a"), "test");
        event.labels.insert("service".to_owned(), "db".to_owned());
        event.annotations.insert("summary".to_owned(), "it is full".to_owned());
        event.annotations.insert("long".to_owned(), "x".repeat(10_000));
        event.payload = json!({"dump": "x".repeat(400_000)});
        let mut events = [event.clone(), Event { payload: json!({"n": 1}), ..event.clone() }];
        fit(&mut events, 400_000);
        let [large, small] = events;
        assert_eq!(large.annotations["summary"], "it is full");
        assert_eq!(large.labels["service"], "db");
        assert!(large.annotations["selfheal.too_large"].contains("bytes"));
        assert!(serde_json::to_vec(&large).unwrap().len() < 10_000);
        assert_eq!(small.payload, json!({"n": 1}), "what fits stays whole");
    }
}
