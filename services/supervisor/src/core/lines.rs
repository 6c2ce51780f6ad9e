//! Lines of the log, as bytes: written once, used for the log and for those who watch.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    desk::Recorded,
    fact::Fact,
    id::{IncidentId, Position},
    view::Status,
};
use serde::Serialize;

/// Lines of the log, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    text: Bytes,
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    seq: u64,
    incident: IncidentId,
    is_over: bool,
    is_of_new: bool,
    /// Behind the line feed.
    at: usize,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the decision.
    pub seq: u64,
    /// The incident; [`IncidentId::NONE`] for decisions about none.
    pub incident: IncidentId,
    /// Whether it tells the end of a target's incident, which monitors must hear of.
    pub is_over: bool,
    /// Whether its incident was opened in the same batch, so that nobody can know it yet.
    pub is_of_new: bool,
    /// The JSON object, without a line feed.
    pub json: Bytes,
}

impl Lines {
    /// Returns the lines.
    pub fn iter(&self) -> impl Iterator<Item = Line> + '_ {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let json = self.text.slice(from..end.at.saturating_sub(1));
            from = end.at;
            Line {
                seq: end.seq,
                incident: end.incident,
                is_over: end.is_over,
                is_of_new: end.is_of_new,
                json,
            }
        })
    }

    /// Returns the line of decision `seq`, if it is among these.
    #[must_use]
    pub fn find(&self, seq: u64) -> Option<Line> {
        self.iter().find(|it| it.seq == seq)
    }

    /// Returns all lines from decision `seq` on, each with its line feed.
    #[must_use]
    pub fn text_from(&self, seq: u64) -> Bytes {
        let before = self.ends.iter().take_while(|it| it.seq < seq).last();
        self.text.slice(before.map_or(0, |it| it.at)..)
    }

    /// Returns the number of the first decision; `None` without lines.
    #[must_use]
    pub fn first_seq(&self) -> Option<u64> {
        self.ends.first().map(|it| it.seq)
    }

    /// Returns the number of the last decision; `None` without lines.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        self.ends.last().map(|it| it.seq)
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Writes lines.
#[derive(Debug, Default)]
pub(super) struct Composer {
    text: Vec<u8>,
    ends: Vec<End>,
    /// Incidents that were opened by what is written here.
    opened: HashSet<IncidentId>,
}

/// A line without its last field; the same fields in the same order as
/// [`domain::view::LogLine`], which a test compares.
#[derive(Serialize)]
struct Head<'a> {
    incident_id: IncidentId,
    timestamp: DateTime<Utc>,
    incident_type: &'a str,
    analysis: Option<&'a str>,
    resolution: Option<&'a str>,
    seq: u64,
    status: Option<Status>,
    decision: &'static str,
    cause: Position,
    reason: &'a str,
    target: Option<&'a str>,
    entry: u64,
    covers: Position,
}

impl Composer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Writes the line of a decision, whose own text is `detail`.
    pub(super) fn line(
        &mut self,
        recorded: &Recorded,
        detail: &[u8],
        entry: u64,
        covers: Position,
    ) -> Result<(), serde_json::Error> {
        let decision = &recorded.decision;
        let head = Head {
            incident_id: decision.incident.unwrap_or(IncidentId::NONE),
            timestamp: decision.at,
            incident_type: &recorded.kind,
            analysis: recorded.analysis.as_deref(),
            resolution: recorded.resolution.as_deref(),
            seq: decision.seq,
            status: recorded.status,
            decision: decision.fact.name(),
            cause: decision.cause,
            reason: &decision.reason,
            target: recorded.target.as_deref(),
            entry,
            covers,
        };
        serde_json::to_writer(&mut self.text, &head)?;
        // The object is opened again for its last field.
        self.text.pop();
        self.text.extend_from_slice(b",\"detail\":");
        self.text.extend_from_slice(detail);
        self.text.extend_from_slice(b"}\n");
        let incident = head.incident_id;
        let is_over = head.target.is_some() && head.status.is_some_and(Status::is_over);
        if matches!(decision.fact, Fact::Opened { .. }) {
            self.opened.insert(incident);
        }
        let is_of_new = self.opened.contains(&incident);
        let at = self.text.len();
        self.ends.push(End { seq: head.seq, incident, is_over, is_of_new, at });
        Ok(())
    }

    pub(super) fn finish(self) -> Lines {
        Lines { text: self.text.into(), ends: self.ends }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::{fact::Decision, view::LogLine};

    use super::*;

    pub(crate) fn recorded(seq: u64) -> Recorded {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let fact = Fact::Resumed { by: "somebody".to_owned() };
        let cause = Position::new(seq, 0);
        let decision =
            Decision { seq, at, cause, incident: None, fact, reason: "because".to_owned() };
        Recorded {
            decision,
            status: None,
            kind: "selfheal.resumed".to_owned(),
            target: Some("a \"target\"".to_owned()),
            analysis: None,
            resolution: Some("x".to_owned()),
            before: None,
        }
    }

    /// Returns lines of these decisions, each of a message of its own.
    pub(crate) fn lines(seqs: impl IntoIterator<Item = u64>) -> Lines {
        composed(seqs.into_iter().map(|seq| (seq, seq)))
    }

    /// Returns lines of these decisions, all of one message.
    pub(crate) fn lines_of(entry: u64, seqs: impl IntoIterator<Item = u64>) -> Lines {
        composed(seqs.into_iter().map(|seq| (seq, entry)))
    }

    fn composed(decisions: impl Iterator<Item = (u64, u64)>) -> Lines {
        let mut composer = Composer::default();
        for (seq, entry) in decisions {
            let recorded = recorded(seq);
            let detail = serde_json::to_vec(&recorded.decision).unwrap();
            composer.line(&recorded, &detail, entry, recorded.decision.cause).unwrap();
        }
        composer.finish()
    }

    #[test]
    fn a_line_is_what_the_type_of_the_log_says() {
        let recorded = recorded(7);
        let detail = serde_json::to_vec(&recorded.decision).unwrap();
        let covers = Position::new(9, 2);
        let mut composer = Composer::default();
        composer.line(&recorded, &detail, 5, covers).unwrap();
        let lines = composer.finish();
        let line = lines.find(7).unwrap();
        assert_eq!(line.json, serde_json::to_vec(&recorded.line(5, covers)).unwrap());
        let read: LogLine = serde_json::from_slice(&line.json).unwrap();
        assert_eq!(read, recorded.line(5, covers));
    }

    #[test]
    fn lines_can_be_cut_before_each_decision() {
        let lines = lines(3..6);
        assert_eq!((lines.first_seq(), lines.last_seq(), lines.len()), (Some(3), Some(5), 3));
        let n_from = |seq| lines.text_from(seq).iter().filter(|it| **it == b'\n').count();
        assert_eq!([1, 3, 4, 5, 6, 9].map(n_from), [3, 3, 2, 1, 0, 0]);
        let whole: Vec<u8> = lines.iter().flat_map(|it| [&it.json[..], b"\n"].concat()).collect();
        assert_eq!(lines.text_from(0), whole);
    }
}
