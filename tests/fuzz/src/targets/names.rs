//! Small texts with a grammar: spans and rates, subjects, how to reach a broker.

use bus::Subjects;
use domain::{
    event::EventType,
    id::IncidentId,
    span::{Rates, Span},
};

use super::{Form, Target, Verdict};

pub(super) const SPAN: Target = Target {
    name: "name_span",
    about: "spans, rates, event types, ids: what is read is written in a form that reads the same",
    form: Form::Text,
    seeds: || {
        texts(&[
            "1s",
            "500ms",
            "1h30m",
            "0s",
            "7d",
            "3/h",
            "1/15m,20/d",
            "a.b_c-d",
            "01990000-0000-7000-8000-00000000000a",
        ])
    },
    run: |input| {
        let Some(text) = short(input) else {
            return Verdict::Refused("no short text".to_owned());
        };
        let span = text.parse::<Span>();
        if let Ok(span) = &span {
            assert_eq!(span.to_string().parse::<Span>().as_ref(), Ok(span), "{span}");
            let _lengths = (span.to_std(), span.to_delta());
        }
        let rates = text.parse::<Rates>();
        if let Ok(rates) = &rates {
            assert_eq!(rates.to_string().parse::<Rates>().as_ref(), Ok(rates), "{rates}");
        }
        let kind = text.parse::<EventType>();
        if let Ok(kind) = &kind {
            assert_eq!(kind.as_str(), text);
            let subject = Subjects::new("selfheal").event(kind.as_str());
            assert!(subject.split('.').all(|it| !it.is_empty() && it != "*" && it != ">"));
        }
        let id = text.parse::<IncidentId>();
        if let Ok(id) = &id {
            assert_eq!(id.to_string().parse::<IncidentId>().ok(), Some(*id));
        }
        match (&span, rates, kind, id) {
            (Err(error), Err(_), Err(_), Err(_)) => Verdict::Refused(error.to_string()),
            _ => Verdict::Taken,
        }
    },
};

pub(super) const SUBJECT: Target = Target {
    name: "name_subject",
    about: "subjects: any text becomes legal parts, and any subject is read",
    form: Form::Text,
    seeds: || {
        texts(&[
            "selfheal.event.disk.full",
            "selfheal.frame.fix",
            "selfheal.report.fix.x",
            "selfheal.timer.x",
            "a b>*",
            "",
        ])
    },
    run: |input| {
        let Some(text) = short(input) else {
            return Verdict::Refused("no short text".to_owned());
        };
        let names = Subjects::new("selfheal");
        let built = [
            names.event(text),
            names.command(text),
            names.member_key(text),
            names.probe(text),
            names.rejected(text),
            names.query(text),
            names.work(domain::wire::WorkKind::Fix, text),
        ];
        for subject in &built {
            let legal = |it: char| it.is_ascii_graphic() && it != '*' && it != '>';
            assert!(subject.chars().all(legal), "{subject:?}");
            assert!(subject.split('.').all(|part| !part.is_empty()), "{subject:?}");
        }
        assert!(names.parse_inbox(&built[0]) != bus::InboxSubject::Unknown);
        match names.parse_inbox(text) {
            bus::InboxSubject::Unknown => Verdict::Refused("unknown".to_owned()),
            bus::InboxSubject::Event { .. }
            | bus::InboxSubject::Frame(_)
            | bus::InboxSubject::AgentEvents
            | bus::InboxSubject::Report(_)
            | bus::InboxSubject::Command { .. }
            | bus::InboxSubject::Timer => Verdict::Taken,
        }
    },
};

pub(super) const BROKER: Target = Target {
    name: "name_broker",
    about: "URLs of brokers, and contexts of the nats command; a password is never told",
    form: Form::Text,
    seeds: || {
        texts(&[
            "nats://me:pa55%40word@host:4333, nats://other",
            "tls://[::1]:4222",
            "wss://token@host:443/path",
            r#"{"description":"","url":"nats://host:4222","user":"me","password":"p","token":"","creds":"","tls_first":false,"color_scheme":""}"#,
        ])
    },
    run: |input| {
        let Some(text) = short(input) else {
            return Verdict::Refused("no short text".to_owned());
        };
        let urls = bus::edges::urls(text);
        if let Err(error) = &urls {
            // A password stands before an `@`; elsewhere it is a host like any other.
            let leaked = |url: &str| match url.rsplit_once('@') {
                Some((secret, open)) => secret.contains("pa55") && !open.contains("pa55"),
                None => false,
            };
            let parts = text.split(',').filter(|it| it.contains("pa55"));
            let all_secret = parts.clone().count() > 0 && parts.clone().all(leaked);
            assert!(!all_secret || !error.contains("pa55"), "{error}");
        }
        match (urls, bus::edges::nats_context(text)) {
            (Err(error), Err(_)) => Verdict::Refused(error),
            _ => Verdict::Taken,
        }
    },
};

/// Longest text: whoever reads these from outside takes no longer ones.
const BYTES_MAX: usize = 2 * 1024;

fn short(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok().filter(|it| it.len() <= BYTES_MAX)
}

fn texts(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|it| it.as_bytes().to_vec()).collect()
}
