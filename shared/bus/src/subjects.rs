//! Names on the wire, built from the prefix and the table.

use std::{fmt::Write as _, sync::Arc};

use domain::{
    id::IncidentId,
    wire::{InputKind, WorkKind},
};

use crate::topology::{
    BucketId, CONFIG_KEY, CONFIG_MANIFEST_KEY, CONFIG_PART_PREFIX, FORMER_WORK, Holds, LEADER_KEY,
    MEMBER_KEY_PREFIX, StreamId, TOKEN_KEY_PREFIX,
};

/// What frames of our own agents' events are called in subjects.
const AGENT_EVENTS: &str = "agent_event";

/// Builds and reads every name that is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    prefix: Arc<str>,
}

/// What the subject of an inbox message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboxSubject<'a> {
    /// An observation, by anyone; the type may have several parts.
    Event {
        /// Such as `service_down` or `disk.full`.
        event_type: &'a str,
    },
    /// Many inputs of one kind.
    Frame(InputKind),
    /// Many events of our own agents, which alone may write there.
    AgentEvents,
    /// One report.
    Report(InputKind),
    /// One command.
    Command {
        /// Such as `approve`.
        verb: &'a str,
    },
    /// One timer.
    Timer,
    /// None of ours: kept, and rejected with a reason.
    Unknown,
}

impl Subjects {
    /// Names everything with this prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Returns the prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Puts the prefix before a subject of the table.
    #[must_use]
    pub fn full(&self, relative: &str) -> String {
        format!("{}.{relative}", self.prefix)
    }

    /// Returns whether an answer may go to a subject that an asker names: to none of ours, and to none
    /// of the broker's own, where it would be stored as if we had meant it.
    #[must_use]
    pub fn may_take_answers(&self, subject: &str) -> bool {
        let is_ours = subject.split('.').next() == Some(&self.prefix);
        let is_plain = |token: &str| {
            !token.is_empty()
                && token != "*"
                && token != ">"
                && !token.contains(|it: char| it.is_whitespace() || it.is_control())
        };
        !is_ours && !subject.starts_with('$') && subject.split('.').all(is_plain)
    }

    /// Returns where an observation of this type goes; dots part the type.
    #[must_use]
    pub fn event(&self, event_type: &str) -> String {
        let parts: Vec<_> = event_type.split('.').map(token).collect();
        self.full(&format!("event.{}", parts.join(".")))
    }

    /// Returns where frames of this kind go.
    #[must_use]
    pub fn frame(&self, kind: InputKind) -> String {
        self.full(&format!("frame.{}", kind.as_str()))
    }

    /// Returns where events of our own agents go: their word counts for more than that of others,
    /// so nobody else may write there.
    #[must_use]
    pub fn agent_events(&self) -> String {
        self.full(&format!("frame.{AGENT_EVENTS}"))
    }

    /// Returns where a single report goes.
    #[must_use]
    pub fn report(&self, kind: InputKind, incident: &IncidentId) -> String {
        self.full(&format!("report.{}.{incident}", kind.as_str()))
    }

    /// Returns where a single command goes.
    #[must_use]
    pub fn command(&self, verb: &str) -> String {
        self.full(&format!("command.{}", token(verb)))
    }

    /// Returns where a single timer goes.
    #[must_use]
    pub fn timer(&self, incident: &IncidentId) -> String {
        self.full(&format!("timer.{incident}"))
    }

    /// Returns where decisions go.
    #[must_use]
    pub fn ledger(&self) -> String {
        self.full("ledger")
    }

    /// Returns where work of a zone goes.
    #[must_use]
    pub fn work(&self, kind: WorkKind, zone: &str) -> String {
        self.full(&format!("work.{}.{}", kind.as_str(), token(zone)))
    }

    /// Returns the name of the consumer that the workers of a zone share.
    #[must_use]
    pub fn work_consumer(&self, kind: WorkKind, zone: &str) -> String {
        format!("{}-{}", kind.as_str(), token(zone))
    }

    /// Returns where a notice, or anything else that a gateway does once, is claimed.
    #[must_use]
    pub fn once(&self, key: &str) -> String {
        self.full(&format!("once.{}", token(key)))
    }

    /// Returns where an attempt is claimed.
    #[must_use]
    pub fn claim(&self, incident: &IncidentId, attempt: &str) -> String {
        self.full(&format!("claim.{incident}.{}", token(attempt)))
    }

    /// Returns where all attempts of an incident are claimed.
    #[must_use]
    pub fn claim_all(&self, incident: &IncidentId) -> String {
        self.full(&format!("claim.{incident}.*"))
    }

    /// Returns where input goes that was not understood.
    #[must_use]
    pub fn rejected(&self, reason: &str) -> String {
        self.full(&format!("rejected.{}", token(reason)))
    }

    /// Returns where changes of an incident are told.
    #[must_use]
    pub fn live(&self, incident: &IncidentId) -> String {
        self.full(&format!("live.{incident}"))
    }

    /// Returns what to subscribe to for the changes of all incidents.
    #[must_use]
    pub fn live_all(&self) -> String {
        self.full("live.>")
    }

    /// Returns where lines about the end of a target's incident are told once more, for the
    /// monitors: of all that is told live they need no other, and there is much of it.
    #[must_use]
    pub fn over(&self) -> String {
        self.full("over")
    }

    /// Returns where supervisors are asked.
    #[must_use]
    pub fn query(&self, what: &str) -> String {
        self.full(&format!("query.{}", token(what)))
    }

    /// Returns what a supervisor subscribes to for all questions.
    #[must_use]
    pub fn query_all(&self) -> String {
        self.full("query.*")
    }

    /// Returns what was asked, of a subject of [`Self::query`].
    #[must_use]
    pub fn query_what<'a>(&self, subject: &'a str) -> Option<&'a str> {
        self.strip(subject)?.strip_prefix("query.")
    }

    /// Returns where the monitors of a zone are asked how targets are.
    #[must_use]
    pub fn probe(&self, zone: &str) -> String {
        self.full(&format!("probe.{}", token(zone)))
    }

    /// Returns the name of a stream, such as `SELFHEAL_INBOX`.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> String {
        format!("{}_{}", self.prefix.to_ascii_uppercase(), id.spec().suffix)
    }

    /// Returns the name of the one work queue that older versions had.
    #[must_use]
    pub fn former_work(&self) -> String {
        format!("{}_{FORMER_WORK}", self.prefix.to_ascii_uppercase())
    }

    /// Returns the name of a bucket, such as `selfheal_config`.
    #[must_use]
    pub fn bucket(&self, id: BucketId) -> String {
        format!("{}_{}", self.prefix, id.spec().suffix)
    }

    /// Returns the stream behind a bucket.
    #[must_use]
    pub fn bucket_stream(&self, id: BucketId) -> String {
        match id.spec().holds {
            Holds::Values => format!("KV_{}", self.bucket(id)),
            Holds::Objects => format!("OBJ_{}", self.bucket(id)),
        }
    }

    /// Returns the subject of a key.
    #[must_use]
    pub fn key(&self, id: BucketId, key: &str) -> String {
        match id.spec().holds {
            Holds::Values => format!("$KV.{}.{key}", self.bucket(id)),
            Holds::Objects => format!("$O.{}.{key}", self.bucket(id)),
        }
    }

    /// Returns the subject of the leader's lease.
    #[must_use]
    pub fn leader_key(&self) -> String {
        self.key(BucketId::Lease, LEADER_KEY)
    }

    /// Returns where older versions have the leader's lease.
    pub(crate) fn former_leader_key(&self) -> String {
        self.key(BucketId::Members, LEADER_KEY)
    }

    /// Returns the subject of a member's entry.
    #[must_use]
    pub fn member_key(&self, member: &str) -> String {
        self.key(BucketId::Members, &format!("{MEMBER_KEY_PREFIX}.{}", token(member)))
    }

    /// Returns the subject of the active configuration.
    #[must_use]
    pub fn config_key(&self) -> String {
        self.key(BucketId::Config, CONFIG_KEY)
    }

    /// Returns the subject of what names the parts of a configuration.
    #[must_use]
    pub fn config_manifest_key(&self) -> String {
        self.key(BucketId::Config, CONFIG_MANIFEST_KEY)
    }

    /// Returns the subject of a part of a configuration.
    #[must_use]
    pub fn config_part_key(&self, sha256: &str) -> String {
        self.key(BucketId::Config, &format!("{CONFIG_PART_PREFIX}.{sha256}"))
    }

    /// Returns the subject of a token's record.
    #[must_use]
    pub fn token_key(&self, name: &str) -> String {
        self.key(BucketId::Tokens, &format!("{TOKEN_KEY_PREFIX}.{}", token(name)))
    }

    /// Reads the subject of an inbox message.
    #[must_use]
    pub fn parse_inbox<'a>(&self, subject: &'a str) -> InboxSubject<'a> {
        let Some((head, rest)) = self.strip(subject).and_then(|tail| tail.split_once('.')) else {
            return InboxSubject::Unknown;
        };
        let kind = |name: &str| InputKind::ALL.into_iter().find(|kind| kind.as_str() == name);
        match head {
            "event" => InboxSubject::Event { event_type: rest },
            "frame" if rest == AGENT_EVENTS => InboxSubject::AgentEvents,
            "frame" => kind(rest).map_or(InboxSubject::Unknown, InboxSubject::Frame),
            "report" => rest
                .split('.')
                .next()
                .and_then(kind)
                .map_or(InboxSubject::Unknown, InboxSubject::Report),
            "command" => InboxSubject::Command { verb: rest },
            "timer" => InboxSubject::Timer,
            _ => InboxSubject::Unknown,
        }
    }

    fn strip<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&*self.prefix)?.strip_prefix('.')
    }
}

/// Makes one part of a subject of any text: what may not stand there becomes `=` and its
/// hexadecimal bytes, so that two texts never become one.
#[must_use]
pub(crate) fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(out, "={byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_one_part_and_two_texts_never_the_same() {
        assert_eq!(token("default"), "default");
        assert_eq!(token("a.b"), "a=2Eb");
        assert_eq!(token("a b>*"), "a=20b=3E=2A");
        assert_eq!(token(""), "=");
        assert_ne!(token("a.b"), token("a=2Eb"));
    }

    #[test]
    fn answers_go_to_no_subject_of_ours_or_the_brokers() {
        let names = Subjects::new("acme");
        for subject in ["_INBOX_gateway.x.many.7", "_INBOX.abc", "ops.inbox.1", "acme2.x"] {
            assert!(names.may_take_answers(subject), "{subject}");
        }
        let ours = [names.ledger(), names.leader_key(), names.config_key(), names.over()];
        let others =
            ["$JS.API.STREAM.PURGE.X", "$SYS.x", "acme", "acme.x", "", "a..b", "a.*", "a.>", "a b"];
        for subject in ours.iter().map(String::as_str).chain(others) {
            assert!(!names.may_take_answers(subject), "{subject}");
        }
    }

    #[test]
    fn inbox_subjects_are_read_as_they_are_built() {
        let names = Subjects::new("acme");
        let incident = IncidentId::NONE;
        let event = names.event("disk.full");
        assert_eq!(event, "acme.event.disk.full");
        assert_eq!(names.parse_inbox(&event), InboxSubject::Event { event_type: "disk.full" });
        for kind in InputKind::ALL {
            assert_eq!(names.parse_inbox(&names.frame(kind)), InboxSubject::Frame(kind));
        }
        let report = names.report(InputKind::Fix, &incident);
        assert_eq!(names.parse_inbox(&report), InboxSubject::Report(InputKind::Fix));
        let command = names.command("approve");
        assert_eq!(names.parse_inbox(&command), InboxSubject::Command { verb: "approve" });
        assert_eq!(names.parse_inbox(&names.timer(&incident)), InboxSubject::Timer);
        assert_eq!(names.parse_inbox("acme.frame.cake"), InboxSubject::Unknown);
        assert_eq!(names.parse_inbox("acmeX.event.a"), InboxSubject::Unknown);
        assert_eq!(names.parse_inbox("selfheal.event.a"), InboxSubject::Unknown);
    }

    #[test]
    fn names_of_streams_and_buckets_follow_the_prefix() {
        let names = Subjects::new("acme");
        assert_eq!(names.stream(StreamId::Inbox), "ACME_INBOX");
        assert_eq!(names.bucket(BucketId::Members), "acme_members");
        assert_eq!(names.leader_key(), "$KV.acme_lease.leader");
        assert_eq!(names.query_what("acme.query.incidents"), Some("incidents"));
    }
}
