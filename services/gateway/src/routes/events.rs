//! Routes by which events come in.

use axum::routing::post;
use domain::{
    event::{Cloud, Plain},
    wire::Answer,
};
use serde_json::{Value, json};

use super::{Group, Route, Served};
use crate::{
    access::table::{Load, PUBLISH_EVENT, PUBLISHER},
    events,
    openapi::Operation,
};

pub(super) const GROUP: Group = Group {
    name: "events",
    about: "Events come in. Nothing answers 2xx before the broker has it on disk.",
    routes: &[
        Route {
            at: "POST /publish_event",
            id: "publishEvent",
            about: "one event; answers what became of it",
            need: PUBLISH_EVENT.need,
            load: PUBLISH_EVENT.load,
            served: Served::Here(|| post(events::publish_event)),
            document: publish_event,
        },
        Route {
            at: "POST /api/v1/events",
            id: "publishEvents",
            about: "events: plain, CloudEvents structured, binary, batch",
            need: PUBLISHER,
            load: Load::Events,
            served: Served::Here(|| post(events::events)),
            document: publish_events,
        },
    ],
};

const BINARY: &str = "A CloudEvent may also come in binary mode: with the headers `ce-specversion`, `ce-id`, \
    `ce-source` and `ce-type`, and with data of any type as the body.";

fn publish_event(operation: &mut Operation<'_>) {
    operation.tells(BINARY);
    taken(operation);
    let (plain, cloud) = (operation.form::<Plain>(), operation.form::<Cloud>());
    let either = json!({"anyOf": [plain, cloud]});
    operation.takes("application/json", &either, &[("plain", plain_example())]);
    operation.takes("application/cloudevents+json", &cloud, &[("cloudevent", cloud_example("2"))]);
    one(operation);
}

fn publish_events(operation: &mut Operation<'_>) {
    operation.tells(&format!(
        "One event, or a list of up to {}. A list is taken whole, or not at all when one of it is wrong. {BINARY}",
        events::BATCH_MAX
    ));
    taken(operation);
    let (plain, cloud) = (operation.form::<Plain>(), operation.form::<Cloud>());
    let either = json!({"anyOf": [plain, cloud]});
    let many =
        |item: &Value| json!({"type": "array", "items": item, "maxItems": events::BATCH_MAX});
    let one_or_many = json!({"anyOf": [either, many(&either)]});
    let batch = json!([
        {"type": "docs.batch", "source": "docs", "target": "x"},
        {"type": "docs.batch", "source": "docs", "target": "y"},
    ]);
    operation.takes(
        "application/json",
        &one_or_many,
        &[("plain", plain_example()), ("batch", batch)],
    );
    operation.takes("application/cloudevents+json", &cloud, &[("cloudevent", cloud_example("3"))]);
    let clouds = json!([cloud_example("4"), cloud_example("5")]);
    operation.takes("application/cloudevents-batch+json", &many(&cloud), &[("batch", clouds)]);

    let (answer, accepted) = (operation.form::<Answer>(), accepted());
    let results = |status: &str, item: &Value| {
        json!({
            "type": "object",
            "required": ["status", "results"],
            "properties": {
                "status": {"const": status},
                "results": {"description": "One for each event, in order.", "type": "array", "items": item},
            },
        })
    };
    let done = json!({"anyOf": [answer, results("done", &answer)]});
    operation.answers(200, "What became of it, or of each of the list.", &done);
    let mixed = results("accepted", &json!({"anyOf": [answer, accepted]}));
    let stored = json!({"anyOf": [accepted, mixed]});
    operation.answers(202, "Stored; no supervisor answered in time; it will be handled.", &stored);
}

fn one(operation: &mut Operation<'_>) {
    let answer = operation.form::<Answer>();
    operation.answers(200, "What became of it.", &answer);
    operation.answers(
        202,
        "Stored; no supervisor answered in time; it will be handled.",
        &accepted(),
    );
    operation.leads_to(200, "getIncident", "/incident_id");
}

/// What all ways of sending an event share.
fn taken(operation: &mut Operation<'_>) {
    operation.key();
    operation.refuses(413, "More than 1 MiB, or one event of more than 256 KiB.");
    operation.refuses(415, "Not UTF-8, or a format that is not known.");
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}

fn accepted() -> Value {
    json!({
        "type": "object",
        "required": ["status", "event_id", "message"],
        "properties": {
            "status": {"const": "accepted"},
            "event_id": {"description": "The event's id.", "type": "string"},
            "message": {"description": "One sentence for people.", "type": "string"},
        },
    })
}

fn plain_example() -> Value {
    json!({
        "type": "service_down",
        "source": "external",
        "payload": {"service": "database", "timestamp": "2025-08-18T12:34:56Z"},
    })
}

fn cloud_example(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": format!("docs-{id}"), "source": "/uptime", "type": "service_down",
        "subject": "shop", "time": "2026-11-23T22:00:00Z", "data": {"note": "structured"},
    })
}
