//! From messages of the inbox to inputs.
//!
//! What cannot be understood is kept and reported, and never stops what comes after it.

use bus::{InboxMessage, InboxSubject, Subjects};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    event::{self, Event, Origin},
    id::Position,
    trace::TraceContext,
    wire::{
        AnalysisReport, Command, Envelope, FixReport, Input, InputKind, NoticeReport, TimerFired,
        VerificationReport,
    },
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// Larger messages are rejected: with the decision about them they would not fit into
/// the ledger.
const BYTES_MAX: usize = 512 * 1024;

/// The origin of an event about whose sender the gateway says nothing, as those of older versions
/// do.
const UNNAMED: &str = "gateway";

/// One input, or why it is none.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its place in the inbox.
    pub position: Position,
    /// When the broker stored it.
    pub at: DateTime<Utc>,
    /// Its size, about.
    pub bytes: usize,
    /// The span that it comes from.
    pub trace: Option<TraceContext>,
    /// The input and where its answer goes.
    pub content: Result<(Input, Option<String>), Rejection>,
}

/// An input, where its answer goes, and the span that it comes from.
type Read = (Input, Option<String>, Option<TraceContext>);

/// Why an input could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One word, for the subject.
    pub reason: &'static str,
    /// A sentence for people.
    pub why: String,
    /// The input, whole.
    pub raw: Bytes,
}

/// Longest reason: it goes into a header, and what it repeats is kept whole beside it.
const WHY_CHARS_MAX: usize = 500;

impl Rejection {
    fn in_short(mut self) -> Self {
        if let Some((end, _)) = self.why.char_indices().nth(WHY_CHARS_MAX) {
            self.why.truncate(end);
            self.why.push('…');
        }
        self
    }

    /// Returns whether it came where only our own processes write.
    #[must_use]
    pub fn is_of_ours(&self) -> bool {
        ["invalid_frame", "invalid_input", "wrong_kind", "unknown_subject"].contains(&self.reason)
    }
}

/// Reads the parts of a message, in their order. Whoever wants an answer where none may go gets
/// none; what he says is decided all the same.
#[must_use]
pub fn parts(subjects: &Subjects, message: &InboxMessage) -> Vec<Part> {
    let mut parts = read_parts(subjects, message);
    for Part { position, content, .. } in &mut parts {
        if let Ok((_, reply_to)) = content
            && let Some(refused) = reply_to.take_if(|it| !subjects.may_take_answers(it))
        {
            tracing::warn!(%position, reply_to = ?refused, "an answer was asked for where none may go: it is not sent");
        }
    }
    parts
}

fn read_parts(subjects: &Subjects, message: &InboxMessage) -> Vec<Part> {
    let single = |content| vec![part(message, 0, message.payload.len(), content)];
    let reject = |reason, why: String| Rejection { reason, why, raw: message.payload.clone() };
    if BYTES_MAX < message.payload.len() {
        let why = format!("{} bytes, allowed are {BYTES_MAX}", message.payload.len());
        return single(Err(reject("too_large", why)));
    }
    match subjects.parse_inbox(&message.subject) {
        InboxSubject::Event { event_type } => {
            let context = event::Context {
                // With the time: after a restoration another inbox counts from 1 again.
                id: header(message, "nats-msg-id").unwrap_or_else(|| {
                    format!("inbox-{}-{}", message.seq, message.at.timestamp_micros())
                }),
                kind: Some(event_type.to_owned()),
                at: message.at,
            };
            let decoded = event::message(&message.headers, &message.payload, &context);
            single(match decoded {
                Ok(event) => {
                    let event = event.sent_by(Origin::new(event::NATS));
                    Ok((Input::Event(event), None, trace(message)))
                }
                Err(error) => Err(reject(error.code, error.message)),
            })
        }
        InboxSubject::Frame(kind) => {
            let mut parts = frame(message, kind);
            for Part { content, .. } in &mut parts {
                if let Ok((Input::Event(event), _)) = content {
                    prove(event);
                }
            }
            parts
        }
        InboxSubject::AgentEvents => frame(message, InputKind::Event),
        InboxSubject::Report(kind) => single(envelope(&message.payload, kind)),
        InboxSubject::Command { .. } => {
            single(envelope(&message.payload, InputKind::Command).or_else(|rejection| {
                // A person with a NATS client may send the bare command.
                let bare = serde_json::from_slice::<Command>(&message.payload);
                bare.map(|it| (Input::Command(it), None, trace(message)))
                    .map_err(|_not_bare_either| rejection)
            }))
        }
        InboxSubject::Timer => single(envelope(&message.payload, InputKind::Timer)),
        InboxSubject::Unknown => {
            let why = format!("unknown subject {}", message.subject);
            single(Err(reject("unknown_subject", why)))
        }
    }
}

/// Sees to it that nobody but our own agents is taken for one: gateways say who sent an event, and
/// what comes without a word of that is theirs.
fn prove(event: &mut Event) {
    let origin = event.origin.take().unwrap_or_else(|| Origin::new(UNNAMED));
    let sent = std::mem::replace(event, Event::new("", event.kind.clone(), ""));
    *event = sent.sent_by(origin);
}

fn part(message: &InboxMessage, idx: usize, bytes: usize, read: Result<Read, Rejection>) -> Part {
    let position = Position::new(message.seq, u32::try_from(idx).unwrap_or(u32::MAX));
    let (content, trace) = match read {
        Ok((input, reply_to, trace)) => (Ok((input, reply_to)), trace),
        Err(rejection) => (Err(rejection.in_short()), None),
    };
    Part { position, at: message.at, bytes, trace, content }
}

/// Returns the span that a single message comes from; of a CloudEvent in binary mode also by
/// the extension for it.
fn trace(message: &InboxMessage) -> Option<TraceContext> {
    let text = header(message, "traceparent").or_else(|| header(message, "ce-traceparent"));
    text.and_then(|it| it.parse().ok())
}

fn header(message: &InboxMessage, name: &str) -> Option<String> {
    let found = message.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}

fn frame(message: &InboxMessage, kind: InputKind) -> Vec<Part> {
    let payload = &message.payload;
    let part =
        |idx, n_parts: usize, content| part(message, idx, payload.len() / n_parts.max(1), content);
    if let Some(inputs) = envelopes(payload, kind) {
        let n = inputs.len();
        return inputs.into_iter().enumerate().map(|(idx, it)| part(idx, n, Ok(it))).collect();
    }
    // One part is broken at least: find out which, so that the others are not lost.
    match serde_json::from_slice::<Vec<Value>>(&message.payload) {
        Ok(values) => {
            let n = values.len();
            let contents =
                values.into_iter().map(|value| envelope(&Bytes::from(value.to_string()), kind));
            contents.enumerate().map(|(idx, it)| part(idx, n, it)).collect()
        }
        Err(error) => {
            let why = format!("the frame is not a JSON array: {error}");
            let raw = message.payload.clone();
            vec![part(0, 1, Err(Rejection { reason: "invalid_frame", why, raw }))]
        }
    }
}

/// Reads a frame whose parts are all as they should be.
///
/// The fields of an [`Envelope`] are named one by one here: read as an enum among flattened
/// fields, each input would be copied to a tree first, which takes most of the time of a storm.
fn envelopes(payload: &[u8], kind: InputKind) -> Option<Vec<Read>> {
    #[derive(Deserialize)]
    struct Known {
        #[serde(rename = "v")]
        _version: u16,
        #[serde(rename = "id")]
        _id: IgnoredAny,
        #[serde(default)]
        reply_to: Option<String>,
        #[serde(default, deserialize_with = "domain::trace::lenient")]
        traceparent: Option<TraceContext>,
        event: Option<Event>,
        analysis: Option<AnalysisReport>,
        fix: Option<FixReport>,
        verification: Option<VerificationReport>,
        notice: Option<NoticeReport>,
        command: Option<Command>,
        timer: Option<TimerFired>,
    }
    let known: Vec<Known> = serde_json::from_slice(payload).ok()?;
    let inputs = known.into_iter().map(|it| {
        let all = [
            it.event.map(Input::Event),
            it.analysis.map(Input::Analysis),
            it.fix.map(Input::Fix),
            it.verification.map(Input::Verification),
            it.notice.map(Input::Notice),
            it.command.map(Input::Command),
            it.timer.map(Input::Timer),
        ];
        let mut given = all.into_iter().flatten();
        let input = given.next().filter(|it| it.kind() == kind)?;
        // Two inputs in one envelope are for the slow way to judge.
        given.next().is_none().then_some((input, it.reply_to, it.traceparent))
    });
    inputs.collect()
}

fn envelope(raw: &Bytes, kind: InputKind) -> Result<Read, Rejection> {
    let reject = |reason, why| Rejection { reason, why, raw: raw.clone() };
    match serde_json::from_slice::<Envelope>(raw) {
        Ok(envelope) => accept(envelope, kind),
        Err(error) => Err(reject("invalid_input", format!("not an input of ours: {error}"))),
    }
}

fn accept(envelope: Envelope, kind: InputKind) -> Result<Read, Rejection> {
    if envelope.input.kind() == kind {
        return Ok((envelope.input, envelope.reply_to, envelope.traceparent));
    }
    let why = format!("a {} inside of {}", envelope.input.kind().as_str(), kind.as_str());
    let raw = Bytes::from(serde_json::to_vec(&envelope).unwrap_or_default());
    Err(Rejection { reason: "wrong_kind", why, raw })
}

#[cfg(test)]
mod tests {
    use domain::{event::EventType, wire::Verb};

    use super::*;

    fn message(subject: &str, payload: impl Into<Bytes>) -> InboxMessage {
        InboxMessage {
            seq: 7,
            at: DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
            subject: subject.to_owned(),
            headers: Vec::new(),
            payload: payload.into(),
        }
    }

    fn read(subject: &str, payload: impl Into<Bytes>) -> Vec<Part> {
        parts(&Subjects::new("selfheal"), &message(subject, payload))
    }

    fn event_envelope(id: &str) -> Envelope {
        let event = Event::new(id, EventType::known("service_down"), "test");
        Envelope::new(id, Input::Event(event))
    }

    #[test]
    fn a_plain_event_of_another_client_takes_its_type_from_the_subject() {
        let parts = read("selfheal.event.disk.full", r#"{"payload": {"host": "a"}}"#);
        let (input, reply_to) = parts[0].content.as_ref().unwrap();
        assert!(matches!(input, Input::Event(event) if event.kind.as_str() == "disk.full"));
        assert_eq!(*reply_to, None);
    }

    #[test]
    fn an_answer_goes_to_nobody_who_names_a_subject_of_ours() {
        let answered = |reply_to: &str| {
            let mut envelope = event_envelope("a");
            envelope.reply_to = Some(reply_to.to_owned());
            let frame = serde_json::to_string(&[&envelope]).unwrap();
            let single = serde_json::to_string(&envelope).unwrap();
            let all =
                [read("selfheal.frame.event", frame), read("selfheal.report.event.x", single)];
            all.map(|it| it[0].content.as_ref().ok().and_then(|it| it.1.clone()))
        };
        assert_eq!(answered("_INBOX_cli.a.many.1")[0].as_deref(), Some("_INBOX_cli.a.many.1"));
        for subject in [
            "selfheal.ledger",
            "selfheal.work.fix.default",
            "$KV.selfheal_members.leader",
            "$JS.API.STREAM.PURGE.SELFHEAL_LEDGER",
        ] {
            assert_eq!(answered(subject), [None, None], "{subject}");
        }
    }

    #[test]
    fn one_broken_part_of_a_frame_does_not_take_the_others_with_it() {
        let good = serde_json::to_value(event_envelope("a")).unwrap();
        let wrong = Command::new("x", Verb::Resume);
        let wrong = serde_json::to_value(Envelope::new("c", Input::Command(wrong))).unwrap();
        let frame = serde_json::json!([good, {"v": 1, "id": "b", "novelty": {}}, wrong, good]);
        let parts = read("selfheal.frame.event", frame.to_string());
        let reasons: Vec<_> =
            parts.iter().map(|it| it.content.as_ref().err().map(|it| it.reason)).collect();
        assert_eq!(reasons, [None, Some("invalid_input"), Some("wrong_kind"), None]);
        assert_eq!(parts[3].position, Position::new(7, 3));
    }

    #[test]
    fn a_span_comes_with_an_input_and_none_that_is_wrong_keeps_it_out() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |span: Value| {
            let mut envelope = serde_json::to_value(event_envelope("a")).unwrap();
            envelope["traceparent"] = span;
            let parts = read("selfheal.frame.event", serde_json::json!([envelope]).to_string());
            assert!(parts[0].content.is_ok());
            parts[0].trace.map(|it| it.to_string())
        };
        assert_eq!(of(text.into()), Some(text.to_owned()));
        let wrong = [Value::Null, "00-ab-cd-01".into(), 5.into(), vec![text].into()];
        assert!(wrong.into_iter().all(|it| of(it).is_none()));

        for name in ["traceparent", "ce-traceparent", "Traceparent"] {
            let mut single = message("selfheal.event.a", "{}");
            single.headers.push((name.to_owned(), text.to_owned()));
            let parts = parts(&Subjects::new("selfheal"), &single);
            assert_eq!(parts[0].trace.map(|it| it.to_string()).as_deref(), Some(text), "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_rejected_with_its_reason() {
        for (subject, payload, reason) in [
            ("selfheal.event.a", "{", "invalid_json"),
            ("selfheal.event.a", "{\"type\": 5}", "invalid_field"),
            ("selfheal.frame.event", "{}", "invalid_frame"),
            ("selfheal.report.fix.0199", "{}", "invalid_input"),
            ("selfheal.command.dance", "{\"by\": \"x\", \"verb\": \"dance\"}", "invalid_input"),
            ("selfheal.timer.0199", "[]", "invalid_input"),
            ("selfheal.novelty", "{}", "unknown_subject"),
        ] {
            let parts = read(subject, payload);
            assert_eq!(parts.len(), 1, "{subject}");
            let rejection = parts[0].content.as_ref().unwrap_err();
            assert_eq!(rejection.reason, reason, "{subject} {payload}");
            assert_eq!(rejection.raw, payload.as_bytes(), "kept whole");
        }
        let large = read("selfheal.event.a", "x".repeat(BYTES_MAX + 1));
        assert_eq!(large[0].content.as_ref().unwrap_err().reason, "too_large");
    }

    #[test]
    fn the_same_place_of_another_inbox_is_another_event() {
        let delivery = |at: i64| {
            let mut message = message("selfheal.event.a", "{}");
            message.at += chrono::TimeDelta::milliseconds(at);
            match &parts(&Subjects::new("selfheal"), &message)[0].content {
                Ok((Input::Event(event), _)) => event.delivery(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(delivery(0), delivery(0), "read again it is the same");
        assert_ne!(delivery(0), delivery(1));
    }

    #[test]
    fn a_bare_command_is_understood() {
        let parts = read("selfheal.command.pause", r#"{"by": "me", "verb": "pause"}"#);
        assert!(matches!(parts[0].content, Ok((Input::Command(_), None))));
    }
}
