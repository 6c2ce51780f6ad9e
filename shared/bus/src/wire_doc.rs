//! The wire contract as a document, printed from the table.

use std::fmt::{self, Write as _};

use domain::wire::{InputKind, WorkKind};

use crate::{
    Subjects,
    roles::Role,
    topology::{
        ACK_WAIT, BUCKETS, BucketId, FRAME_BYTES_MAX, FRAME_INPUTS_MAX, HEARTBEAT, LEASE_RENEWAL,
        LEASE_SILENCE, LEDGER_BYTES_MAX, MEMBER_TTL, PREFIX_DEFAULT, QUEUES, Retention, SERVER_MIN,
        STREAMS, Storage, StreamId, WhenFull,
    },
};

/// A subject, its stream, who publishes, who listens, what it is.
pub(crate) type Line = (&'static str, Option<StreamId>, &'static str, &'static str, &'static str);

pub(crate) const SUBJECTS: [Line; 15] = [
    (
        "event.<type>",
        Some(StreamId::Inbox),
        "anyone",
        "supervisor",
        "An observation: the body of `POST /publish_event`, or a CloudEvent in structured or binary mode. `<type>` as in `service_down` or `disk.full`.",
    ),
    (
        "frame.<kind>",
        Some(StreamId::Inbox),
        "our processes",
        "supervisor",
        "Many inputs of one kind in one message: a JSON array of envelopes. An input of another kind inside is rejected.",
    ),
    (
        "report.<kind>.<incident>",
        Some(StreamId::Inbox),
        "hands of others",
        "supervisor",
        "One report, as an envelope.",
    ),
    (
        "command.<verb>",
        Some(StreamId::Inbox),
        "gateway, CLI",
        "supervisor",
        "One command, as an envelope.",
    ),
    (
        "timer.<incident>",
        Some(StreamId::Inbox),
        "supervisor",
        "supervisor",
        "One deadline that has come, as an envelope.",
    ),
    (
        "ledger",
        Some(StreamId::Ledger),
        "leading supervisor",
        "supervisors",
        "One batch of decisions, with the inbox position that it covers.",
    ),
    (
        "work.<work>.<zone>",
        Some(StreamId::Work(WorkKind::Diagnose)),
        "leading supervisor",
        "hands of the zone",
        "Wanted work. `Nats-Msg-Id` is the wish's id; `traceparent`, when traces are recorded, the span that the work belongs below.",
    ),
    (
        "claim.<incident>.<attempt>",
        Some(StreamId::Claims),
        "fixer, leading supervisor",
        "fixer",
        "\"This attempt is mine\", with `Nats-Expected-Last-Subject-Sequence: 0`; renewed by its holder with that of its last record. The leader writes it to withdraw an order.",
    ),
    (
        "once.<what>",
        Some(StreamId::Once),
        "gateway",
        "gateway",
        "The same for what a gateway does once: a notice that it sends, a button or a link that decides.",
    ),
    (
        "rejected.<reason>",
        Some(StreamId::Rejected),
        "supervisor",
        "people",
        "Input that could not be understood, whole. Headers `Selfheal-Position` and `Selfheal-Why`.",
    ),
    (
        "live.<incident>",
        None,
        "supervisor, analyzer, fixer",
        "gateway, CLI",
        "Changes and progress, for those who watch.",
    ),
    (
        "over",
        None,
        "leading supervisor",
        "monitor",
        "Lines that tell the end of a target's incident, once more: all that monitors need of what is told live.",
    ),
    (
        "query.<what>",
        None,
        "gateway, CLI, monitor, supervisor",
        "any supervisor (queue group)",
        "A read, by request and reply.",
    ),
    (
        "probe.<zone>",
        None,
        "analyzer",
        "any monitor of the zone (queue group)",
        "How targets are now, by request and reply.",
    ),
    (
        "_INBOX_<agent>.>",
        None,
        "whoever answers",
        "the one who asked",
        "Answers. An envelope's `reply_to` names such a subject. One that ends with `.many.<number>` permits a list of pairs of number and answer, sent to what stands before the number.",
    ),
];

/// Returns the name of a stream; that of work for all kinds together.
pub(crate) fn kept_in(names: &Subjects, id: StreamId) -> String {
    match id {
        StreamId::Work(_) => format!("{}_<WORK>", names.former_work()),
        StreamId::Inbox
        | StreamId::Ledger
        | StreamId::Claims
        | StreamId::Once
        | StreamId::Rejected => names.stream(id),
    }
}

/// Returns `docs/wire.md`.
#[must_use]
pub fn wire_markdown() -> String {
    let mut doc = String::new();
    // Writing to a string cannot fail.
    let _infallible = write(&mut doc);
    doc
}

fn write(doc: &mut String) -> fmt::Result {
    let names = Subjects::new(PREFIX_DEFAULT);
    let (major, minor, patch) = SERVER_MIN;
    writeln!(doc, "# The wire contract\n")?;
    writeln!(
        doc,
        "<!-- Generated from shared/bus/src/topology.rs by `cargo xtask docs`. Do not edit. -->\n"
    )?;
    writeln!(
        doc,
        "The broker is nats-server {major}.{minor}.{patch} or newer, with JetStream. All names begin with a prefix, here `{PREFIX_DEFAULT}`;"
    )?;
    writeln!(
        doc,
        "`--prefix` chooses another, so that several installations can share one account. Parts of subjects consist of letters,"
    )?;
    writeln!(
        doc,
        "digits, `_` and `-`; any other byte in a zone, a reason or an attempt is written as `=` and two hexadecimal digits.\n"
    )?;
    subjects(doc, &names)?;
    frames(doc)?;
    streams(doc, &names)?;
    buckets(doc, &names)?;
    queues(doc)?;
    times(doc)?;
    permissions(doc, &names)
}

fn subjects(doc: &mut String, names: &Subjects) -> fmt::Result {
    writeln!(doc, "## Subjects\n")?;
    writeln!(
        doc,
        "| subject | stream | who publishes | who listens | what |\n|---|---|---|---|---|"
    )?;
    for (subject, stream, from, to, what) in SUBJECTS {
        let full = if subject.starts_with('_') { subject.to_owned() } else { names.full(subject) };
        let stream =
            stream.map_or_else(|| "none".to_owned(), |id| format!("`{}`", kept_in(names, id)));
        writeln!(doc, "| `{full}` | {stream} | {from} | {to} | {what} |")?;
    }
    let list = |names: &mut dyn Iterator<Item = &'static str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let kinds = list(&mut InputKind::ALL.iter().map(|kind| kind.as_str()));
    let work = list(&mut WorkKind::ALL.iter().map(|kind| kind.as_str()));
    writeln!(
        doc,
        "\n`<kind>` is one of {kinds}. `<work>` is one of {work}, and `<WORK>` the same in capitals.\n"
    )
}

fn frames(doc: &mut String) -> fmt::Result {
    writeln!(doc, "## Envelopes and frames\n")?;
    writeln!(
        doc,
        "An envelope is `{{\"v\": 1, \"id\": \"…\", \"reply_to\": \"…\", \"<kind>\": {{…}}}}`; `reply_to` may be absent, and so may `traceparent`, the span that the input comes from (W3C Trace Context). The id stays the same when the same"
    )?;
    writeln!(
        doc,
        "input is sent again. A frame is a JSON array of envelopes; it holds at most {FRAME_INPUTS_MAX} of them and {} KiB, and so does",
        FRAME_BYTES_MAX / 1024
    )?;
    writeln!(
        doc,
        "a single input. Accepted means acknowledged by the broker: publish with a reply subject and wait for the answer"
    )?;
    writeln!(
        doc,
        "`{{\"stream\":\"…\",\"seq\":…}}` (`nats pub -J`). A `Nats-Msg-Id` makes it safe to send again.\n"
    )
}

fn streams(doc: &mut String, names: &Subjects) -> fmt::Result {
    writeln!(doc, "## Streams\n")?;
    writeln!(
        doc,
        "| stream | subjects | kept | full at | when full | largest message | oldest | ids remembered | denied | what for |"
    )?;
    writeln!(doc, "|---|---|---|---|---|---|---|---|---|---|")?;
    for spec in &STREAMS {
        let subjects: Vec<_> =
            spec.subjects.iter().map(|subject| format!("`{}`", names.full(subject))).collect();
        let denied = match (spec.deny_delete, spec.deny_purge) {
            (true, true) => "delete, purge",
            (true, false) => "delete",
            (false, true) => "purge",
            (false, false) => "–",
        };
        writeln!(
            doc,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {denied} | {} |",
            names.stream(spec.id),
            subjects.join(", "),
            kept(spec.storage, spec.retention),
            bytes(spec.bytes_max),
            match (spec.when_full, spec.of_subject_max) {
                (WhenFull::Refuse, None) => "refuses".to_owned(),
                (WhenFull::Refuse, Some(n)) => format!("refuses, as with {n} of one subject"),
                (WhenFull::DropOldest, _) => "drops the oldest".to_owned(),
            },
            bytes(spec.message_bytes_max),
            spec.age_max.map_or_else(|| "–".to_owned(), |age| span(age.as_secs())),
            span(spec.duplicate_window.as_secs()),
            spec.about,
        )?;
    }
    writeln!(
        doc,
        "\nIn a cluster of three or more each has three copies (`--replicas` chooses). A supervisor makes them at its start, upgrades them to this table, and makes anew what a"
    )?;
    writeln!(
        doc,
        "restarted broker had in memory. It leaves copies, placement and a larger size as an operator set them.\n"
    )
}

fn buckets(doc: &mut String, names: &Subjects) -> fmt::Result {
    writeln!(doc, "## Buckets\n")?;
    writeln!(
        doc,
        "| bucket | kept | values of a key | full at | largest value | what for |\n|---|---|---|---|---|---|"
    )?;
    for spec in &BUCKETS {
        writeln!(
            doc,
            "| `{}` | {} | {} | {} | {} | {} |",
            names.bucket(spec.id),
            kept(spec.storage, Retention::Limits),
            if spec.history < 0 { "all".to_owned() } else { spec.history.to_string() },
            bytes(spec.bytes_max),
            bytes(spec.value_bytes_max),
            spec.about,
        )?;
    }
    writeln!(doc)
}

fn queues(doc: &mut String) -> fmt::Result {
    writeln!(doc, "## Work queues\n")?;
    writeln!(
        doc,
        "One durable consumer for each kind and zone, named `<work>-<zone>`, shared by all its workers: more workers are more processes.\n"
    )?;
    writeln!(
        doc,
        "| work | who takes it | under way at most | comes again after | until |\n|---|---|---|---|---|"
    )?;
    for spec in &QUEUES {
        writeln!(
            doc,
            "| `{}` | {} | {} | {} without a sign of life | acknowledged, or 1 h old |",
            spec.kind.as_str(),
            spec.worker,
            spec.in_flight_max,
            span(ACK_WAIT.as_secs()),
        )?;
    }
    writeln!(doc)
}

fn times(doc: &mut String) -> fmt::Result {
    writeln!(doc, "## Limits\n")?;
    writeln!(doc, "| what | limit |\n|---|---|")?;
    writeln!(doc, "| a batch of decisions | {} KiB |", LEDGER_BYTES_MAX / 1024)?;
    writeln!(doc, "| a member is believed to live | {} |", span(MEMBER_TTL.as_secs()))?;
    writeln!(doc, "| and gives a sign of life every | {} |", span(HEARTBEAT.as_secs()))?;
    writeln!(doc, "| a leader renews its lease every | {} ms |", LEASE_RENEWAL.as_millis())?;
    let silence = LEASE_SILENCE.as_millis();
    writeln!(doc, "| and is replaced when it is silent while the broker answers | {silence} ms |\n")
}

fn permissions(doc: &mut String, names: &Subjects) -> fmt::Result {
    writeln!(doc, "## Permissions\n")?;
    writeln!(
        doc,
        "The least that each user of the broker needs, here for the zone `default`; an agent of other zones has their names in its lines"
    )?;
    writeln!(
        doc,
        "of `{}` and `probe`. Each listens for answers on its own `_INBOX_<user>.>`. Whoever answers requests also needs",
        kept_in(names, StreamId::Work(WorkKind::Diagnose))
    )?;
    writeln!(
        doc,
        "`allow_responses: true`. A supervisor alone may write `{}`, work and the lease.\n",
        names.stream(StreamId::Ledger)
    )?;
    for role in Role::ALL {
        let may = role.permissions(names, &["default".to_owned()]);
        writeln!(doc, "### `{}`\n", role.as_str())?;
        writeln!(doc, "publish:\n")?;
        for subject in &may.publish {
            writeln!(doc, "    {subject}")?;
        }
        writeln!(doc, "\nsubscribe:\n")?;
        for subject in &may.subscribe {
            writeln!(doc, "    {subject}")?;
        }
        let responses = if may.allow_responses { "yes" } else { "no" };
        writeln!(doc, "\nallow_responses: {responses}\n")?;
    }
    writeln!(
        doc,
        "The bucket of members is `{}`, its keys are subjects of `$KV.{}`.",
        names.bucket(BucketId::Members),
        names.bucket(BucketId::Members)
    )
}

const fn kept(storage: Storage, retention: Retention) -> &'static str {
    match (storage, retention) {
        (Storage::File, Retention::Limits) => "on disk",
        (Storage::File, Retention::WorkQueue) => "on disk until acknowledged",
        (Storage::Memory, Retention::Limits) => "in memory",
        (Storage::Memory, Retention::WorkQueue) => "in memory until acknowledged",
    }
}

fn bytes(n: i64) -> String {
    const KIB: i64 = 1024;
    const MIB: i64 = 1024 * KIB;
    if n % MIB == 0 { format!("{} MiB", n / MIB) } else { format!("{} KiB", n / KIB) }
}

fn span(seconds: u64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_contract_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == wire_markdown(),
            "docs/wire.md does not follow from the table in shared/bus/src/topology.rs: run `cargo xtask docs`"
        );
    }

    #[test]
    fn every_subject_of_a_stream_is_in_its_table() {
        for (subject, stream, ..) in SUBJECTS {
            let Some(stream) = stream else { continue };
            let head = subject.split('.').next().unwrap();
            let known = stream.spec().subjects.iter().any(|s| s.split('.').next() == Some(head));
            assert!(known, "{subject}");
        }
    }
}
