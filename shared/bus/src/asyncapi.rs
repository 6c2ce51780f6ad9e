//! The wire contract as an AsyncAPI document, made from the same table as `docs/wire.md` and from
//! the types that are on the wire.
//!
//! Source of the format: the AsyncAPI Specification 3.0.0.

use domain::{
    config::Config,
    event::{Cloud, Plain},
    id::IncidentId,
    schema::Forms,
    view::{Alerts, IncidentDetail, LogLine, Page, Query, SilencesView, SystemView},
    wire::{
        Answer, Claim, Command, DiagnoseWork, Envelope, FixOrder, LedgerEntry, NotifyWork,
        ProbeReply, ProbeRequest, VerifyWork,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    Subjects,
    topology::{FRAME_INPUTS_MAX, PREFIX_DEFAULT, SERVER_MIN},
    wire_doc::{Line, SUBJECTS, kept_in},
};

/// The version of the specification.
const ASYNCAPI: &str = "3.0.0";

/// What a channel carries: the name of the message, what it is, and its form.
type Message = (&'static str, &'static str, Value);

/// What a channel carries, and what is answered.
struct Traffic {
    messages: Vec<Message>,
    replies: Vec<Message>,
}

/// Returns `docs/schemas/asyncapi.json`.
#[must_use]
pub fn asyncapi() -> String {
    format!("{:#}\n", document())
}

fn document() -> Value {
    let names = Subjects::new(PREFIX_DEFAULT);
    // What readers take: a sender of another version may leave out what has a default.
    let mut forms = Forms::read();
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for line in &SUBJECTS {
        let name = name(line);
        let traffic = traffic(&name, &mut forms);
        let all = traffic.messages.iter().chain(&traffic.replies);
        for (message, about, form) in all {
            let message_value = json!({
                "name": message, "summary": about, "contentType": "application/json", "payload": form,
            });
            messages.insert((*message).to_owned(), message_value);
        }
        channels.insert(name.clone(), channel(line, &names, &traffic));
        exchange(&mut operations, line, &name, &traffic);
    }
    let (major, minor, patch) = SERVER_MIN;
    json!({
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Self-Heal ITOps",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "What is on the broker: nats-server {major}.{minor}.{patch} or newer, with JetStream. All subjects begin with a \
                 prefix, here `{PREFIX_DEFAULT}`. An outside program publishes events, and follows what is told live; everything \
                 else is between our own processes. Streams, limits and permissions: `docs/wire.md`."
            ),
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "broker": {
            "host": "127.0.0.1:4222", "protocol": "nats", "description": "The broker of `selfheal up`.",
        } },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": forms.all() },
    })
}

/// The channel's name: the first part of its subject.
fn name((subject, ..): &Line) -> String {
    let first = subject.split('.').next().unwrap_or(subject);
    match () {
        () if first.starts_with('_') => "answer".to_owned(),
        () => first.to_owned(),
    }
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

fn channel((subject, stream, from, to, what): &Line, names: &Subjects, traffic: &Traffic) -> Value {
    let full = if subject.starts_with('_') { (*subject).to_owned() } else { names.full(subject) };
    let address = full.replace('<', "{").replace(">", "}").replace(".}", ".{rest}");
    let parameters: Map<_, _> = address
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| (name.to_owned(), json!({ "description": parameter(name) })))
        .collect();
    let carried: Map<_, _> = traffic
        .messages
        .iter()
        .map(|(name, ..)| ((*name).to_owned(), reference("components/messages", name)))
        .collect();
    let kept = match stream {
        Some(id) => format!("Kept in the stream `{}`.", kept_in(names, *id)),
        None => "Not kept: who does not listen does not hear it.".to_owned(),
    };
    json!({
        "address": address,
        "description": format!("{what} Published by: {from}. Heard by: {to}. {kept}"),
        "parameters": parameters,
        "messages": carried,
    })
}

fn parameter(name: &str) -> &'static str {
    match name {
        "type" => "Type of the event, such as `service_down`; its dots part the subject.",
        "kind" => {
            "Kind of the inputs: `event`, `analysis`, `fix`, `verification`, `notice`, `command`, `timer`."
        }
        "incident" => "Id of the incident; all zeros for what is about none.",
        "verb" => "Name of the command, such as `pause`.",
        "work" => "`diagnose`, `fix`, `verify` or `notify`.",
        "zone" => "Where the target lives.",
        "attempt" => "Number of the attempt, with `-undo` when it is taken back.",
        "reason" => "Why it was not understood, in one word.",
        "what" => {
            "Of a query: `incidents`, `incident`, `status`, `silences`, `alerts` or `config`; of a claim: the notice, or the hash of what counts once."
        }
        "agent" => "User of the broker who asks.",
        _ => "Chosen by who asks.",
    }
}

/// Who sends and who receives. A channel has no direction of its own in this format.
fn exchange(
    operations: &mut Map<String, Value>,
    (_, _, from, to, _): &Line,
    name: &str,
    traffic: &Traffic,
) {
    let channel = reference("channels", name);
    let of = |place: &str, list: &[Message]| -> Vec<_> {
        list.iter().map(|(it, ..)| reference(&format!("channels/{place}/messages"), it)).collect()
    };
    let mut sent = json!({
        "action": "send", "channel": channel, "summary": format!("By: {from}."),
        "messages": of(name, &traffic.messages),
    });
    if !traffic.replies.is_empty()
        && let Some(fields) = sent.as_object_mut()
    {
        let reply = json!({
            "address": { "location": "$message.header#/reply", "description": "The reply subject of the request." },
            "channel": reference("channels", "answer"),
            "messages": of("answer", &traffic.replies),
        });
        fields.insert("reply".to_owned(), reply);
    }
    let received = json!({
        "action": "receive", "channel": channel, "summary": format!("By: {to}."),
        "messages": of(name, &traffic.messages),
    });
    operations.insert(format!("{name}.send"), sent);
    operations.insert(format!("{name}.receive"), received);
}

/// Returns what is carried on a channel; nothing for one that nobody has thought of here.
fn traffic(name: &str, forms: &mut Forms) -> Traffic {
    let replies = match name {
        "query" => answers_of_queries(forms),
        "probe" => vec![("probeReply", "How each target is.", forms.of::<ProbeReply>())],
        _ => Vec::new(),
    };
    Traffic { messages: messages(name, forms), replies }
}

fn messages(name: &str, forms: &mut Forms) -> Vec<Message> {
    match name {
        "event" => vec![
            (
                "plainEvent",
                "An observation in the plain form; the subject says the type when the body does not.",
                plain(forms),
            ),
            (
                "cloudEvent",
                "A CloudEvent in structured mode; header `content-type: application/cloudevents+json`. In binary mode its attributes are headers `ce-…`, and the body is of any form.",
                forms.of::<Cloud>(),
            ),
        ],
        "frame" => {
            let envelopes = json!({
                "type": "array", "items": forms.of::<Envelope>(), "maxItems": FRAME_INPUTS_MAX,
            });
            vec![("frame", "Inputs of one kind.", envelopes)]
        }
        "report" => vec![("reportEnvelope", "One report.", forms.of::<Envelope>())],
        "timer" => vec![("timerEnvelope", "One deadline.", forms.of::<Envelope>())],
        "command" => vec![
            (
                "commandEnvelope",
                "One command, with a place for its answer.",
                forms.of::<Envelope>(),
            ),
            ("command", "One command, bare.", forms.of::<Command>()),
        ],
        "ledger" => vec![("ledgerEntry", "A batch of decisions.", forms.of::<LedgerEntry>())],
        "work" => vec![
            ("diagnoseWork", "Wanted: a cause and a plan.", forms.of::<DiagnoseWork>()),
            ("fixOrder", "Wanted: a fix.", forms.of::<FixOrder>()),
            ("verifyWork", "Wanted: proof.", forms.of::<VerifyWork>()),
            ("notifyWork", "Wanted: a notice to a person.", forms.of::<NotifyWork>()),
        ],
        "claim" => vec![("claim", "This attempt is mine.", forms.of::<Claim>())],
        "once" => {
            vec![("once", "This notice or answer is mine.", forms.of::<Claim>())]
        }
        "rejected" => vec![("rejected", "The input as it came, of any form.", json!({}))],
        "live" => vec![
            ("decision", "A line of the log.", forms.of::<LogLine>()),
            ("progress", "What a hand says meanwhile.", progress(forms)),
        ],
        "over" => vec![("end", "The line that ends an incident.", forms.of::<LogLine>())],
        "query" => {
            vec![("query", "A question; empty when the subject says all.", forms.of::<Query>())]
        }
        "probe" => {
            vec![("probeRequest", "Which targets, and how long.", forms.of::<ProbeRequest>())]
        }
        "answer" => {
            let mut all = vec![
                ("answer", "What became of an input.", forms.of::<Answer>()),
                ("answers", "Several of them, by number.", many(forms)),
                ("probeReply", "How each target is.", forms.of::<ProbeReply>()),
            ];
            all.extend(answers_of_queries(forms));
            all
        }
        _ => Vec::new(),
    }
}

fn answers_of_queries(forms: &mut Forms) -> Vec<Message> {
    let incident = json!({ "anyOf": [forms.of::<IncidentDetail>(), { "type": "null" }] });
    vec![
        ("page", "Of `incidents`: a page of the list.", forms.of::<Page>()),
        ("incident", "Of `incident`: one, whole, or null.", incident),
        ("system", "Of `status`: the whole system.", forms.of::<SystemView>()),
        ("silences", "Of `silences`: what is kept quiet.", forms.of::<SilencesView>()),
        ("alerts", "Of `alerts`: a page of all trouble, with its labels.", forms.of::<Alerts>()),
        ("config", "Of `config`: the active configuration.", forms.of::<Config>()),
    ]
}

/// On its subject an event needs no type of its own.
fn plain(forms: &mut Forms) -> Value {
    json!({ "anyOf": [forms.of::<Plain>(), { "type": "object", "not": { "required": ["type"] } }] })
}

fn progress(forms: &mut Forms) -> Value {
    json!({
        "type": "object",
        "required": ["incident_id", "progress", "by", "at"],
        "properties": {
            "incident_id": forms.of::<IncidentId>(),
            "progress": { "description": "One line for people.", "type": "string" },
            "attempt": { "description": "The attempt.", "type": "integer", "minimum": 0 },
            "by": { "description": "The member that says it.", "type": "string" },
            "at": { "type": "string", "format": "date-time" },
        },
    })
}

fn many(forms: &mut Forms) -> Value {
    let pair = json!([{ "type": "integer", "minimum": 0 }, forms.of::<Answer>()]);
    json!({
        "type": "array",
        "items": { "type": "array", "items": pair, "minItems": 2, "maxItems": 2 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_document_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas/asyncapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == asyncapi(),
            "docs/schemas/asyncapi.json does not follow from the table in shared/bus: run `cargo xtask docs`"
        );
    }

    #[test]
    fn every_subject_of_the_table_says_what_it_carries() {
        let document = document();
        for line in &SUBJECTS {
            let name = name(line);
            let messages = document["channels"][&name]["messages"].as_object().unwrap();
            assert!(!messages.is_empty(), "asyncapi.rs says nothing of {}", line.0);
        }
        assert_eq!(document["channels"].as_object().unwrap().len(), SUBJECTS.len(), "each its own");
        let address = &document["channels"]["claim"]["address"];
        assert_eq!(address, "selfheal.claim.{incident}.{attempt}");
        assert_eq!(document["channels"]["answer"]["address"], "_INBOX_{agent}.{rest}");
    }
}
