//! Messages of the inbox, as the supervisor reads them.

use bus::{InboxMessage, Subjects};
use bytes::Bytes;
use domain::wire::{Envelope, Input, InputKind};
use serde_json::Value;
use supervisor::core::decode::parts;

use super::{Form, Target, Verdict, head_and_body};
use crate::seeds::{bytes, story, time_of};

pub(super) const FRAME: Target = Target {
    name: "input_frame",
    about: "a frame of any kind: its subject's last part on the first line, then the frame",
    form: Form::Lines,
    seeds: frames,
    run: |input| {
        let (kind, body) = head_and_body(input);
        check(&format!("selfheal.frame.{}", kind.trim_matches('"')), body)
    },
};

pub(super) const REPORT: Target = Target {
    name: "input_report",
    about: "a single report or timer: its subject behind the prefix on the first line, then the envelope",
    form: Form::Lines,
    seeds: reports,
    run: |input| {
        let (subject, body) = head_and_body(input);
        check(&format!("selfheal.{}", subject.trim_matches('"')), body)
    },
};

pub(super) const COMMAND: Target = Target {
    name: "input_command",
    about: "a single command, in an envelope or bare",
    form: Form::Json,
    seeds: commands,
    run: |input| check("selfheal.command.any", input),
};

/// Reads a message, and checks that nothing of it is lost or told twice.
fn check(subject: &str, payload: &[u8]) -> Verdict {
    let message = InboxMessage {
        seq: 7,
        at: time_of(7),
        subject: subject.to_owned(),
        headers: vec![("Nats-Msg-Id".to_owned(), "id".to_owned())],
        payload: Bytes::copy_from_slice(payload),
    };
    let parts = parts(&Subjects::new("selfheal"), &message);
    let is_frame = subject.starts_with("selfheal.frame.");
    let n_given = serde_json::from_slice::<Vec<Value>>(payload).map(|it| it.len());
    if is_frame
        && let Ok(n_given) = n_given
        && subject.matches('.').count() == 2
        && InputKind::ALL.iter().any(|it| subject.ends_with(&format!(".{}", it.as_str())))
    {
        assert_eq!(parts.len(), n_given, "each part of the frame has its place");
    } else {
        assert!(!parts.is_empty(), "a message that is no frame has an end as well");
    }
    if is_frame && let Ok(slow) = serde_json::from_slice::<Vec<Envelope>>(payload) {
        // There is a quick way to read a frame; it must not see anything else.
        for (part, slow) in parts.iter().zip(&slow) {
            if let Ok((input, reply_to)) = &part.content {
                assert_eq!((unproven(input), reply_to), (unproven(&slow.input), &slow.reply_to));
            }
        }
    }
    let mut why = None;
    for (idx, part) in parts.iter().enumerate() {
        assert_eq!((part.position.seq, usize::try_from(part.position.idx)), (7, Ok(idx)));
        match &part.content {
            Ok((input, _)) => {
                let envelope = Envelope::new("x", input.clone());
                let back: Envelope = serde_json::from_slice(&bytes(&envelope)).unwrap();
                assert_eq!(back, envelope, "what was taken can be sent on");
            }
            Err(rejection) => {
                let legal = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
                assert!(rejection.reason.chars().all(legal), "{}", rejection.reason);
                assert!(!rejection.raw.is_empty() || payload.is_empty(), "kept whole");
                why = Some(rejection.why.clone());
            }
        }
    }
    why.map_or(Verdict::Taken, Verdict::Refused)
}

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\n", body].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let of = |kind: InputKind| {
        let inputs: Vec<&Envelope> =
            story().inputs.iter().filter(|it| it.input.kind() == kind).take(3).collect();
        with_head(&format!("\"{}\"", kind.as_str()), &bytes(&inputs))
    };
    let mut seeds: Vec<Vec<u8>> = InputKind::ALL.map(of).into();
    seeds.push(with_head("\"event\"", b"[]"));
    seeds
}

fn reports() -> Vec<Vec<u8>> {
    let of = |envelope: &Envelope| {
        let kind = envelope.input.kind();
        let subject = match kind {
            InputKind::Event => "event.service_down".to_owned(),
            InputKind::Command => "command.pause".to_owned(),
            InputKind::Timer => "timer.x".to_owned(),
            InputKind::Analysis | InputKind::Fix | InputKind::Verification | InputKind::Notice => {
                format!("report.{}.x", kind.as_str())
            }
        };
        with_head(&format!("\"{subject}\""), &bytes(envelope))
    };
    story().inputs.iter().map(of).collect()
}

fn commands() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for envelope in &story().inputs {
        if let Input::Command(command) = &envelope.input {
            seeds.push(bytes(envelope));
            seeds.push(bytes(command));
        }
    }
    seeds
}

/// Returns an input without what is known of its sender: that is not read from it.
fn unproven(input: &Input) -> Input {
    let mut input = input.clone();
    if let Input::Event(event) = &mut input {
        event.origin = None;
        event.source.clear();
    }
    input
}
