//! Where a piece of work belongs in a trace: one trace for each incident.
//!
//! All ids follow from the incident, so that a supervisor that takes over, a wish that is
//! published again and a fixer that restarts speak of the same spans without asking anybody.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};

use crate::{
    id::{IncidentId, digest},
    wire::WorkRef,
};

/// Length of the text of version 00.
const TEXT_BYTES: usize = 55;
/// The version that must not be used.
const VERSION_INVALID: &str = "ff";
/// The flag that says: the sender has recorded it.
const SAMPLED: u8 = 1;

/// A span, as others name it: the `traceparent` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span in it; never 0.
    pub span_id: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Returns the span of a whole incident, the root of its trace. The trace has the id of the
    /// incident: the same 32 digits, without hyphens.
    #[must_use]
    pub fn of_incident(id: IncidentId) -> Self {
        Self::part(id, "incident")
    }

    /// Returns the span of the phase in which an incident has this revision; what hands do for
    /// it belongs below.
    #[must_use]
    pub fn of_phase(id: IncidentId, revision: u64) -> Self {
        Self::part(id, &format!("phase/{revision}"))
    }

    /// Returns the span of the phase that wants this piece of work.
    #[must_use]
    pub fn of_work(work: WorkRef) -> Self {
        Self::of_phase(work.incident, work.revision)
    }

    /// Returns another span of the same trace, named by what it is about.
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        let parent = format!("{:016x}", self.span_id);
        Self { span_id: span_id(&[&parent, name]), ..self }
    }

    /// Returns whether a share of all traces holds this one: all processes that are asked for
    /// the same share agree. 1 is all of them.
    ///
    /// Looks at the last 56 bits, which are by chance also in traces of others
    /// (W3C Trace Context, level 2).
    #[must_use]
    pub fn is_in_share(self, share: f64) -> bool {
        const RANDOM: u128 = (1 << 56) - 1;
        if 1.0 <= share {
            return true;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
        let (value, all) = ((self.trace_id & RANDOM) as f64, RANDOM as f64);
        value < share * all
    }

    fn part(id: IncidentId, name: &str) -> Self {
        let trace_id = id.as_u128();
        let span_id = span_id(&[&id.to_string(), name]);
        Self { trace_id, span_id, sampled: true }
    }
}

fn span_id(texts: &[&str]) -> u64 {
    let [id @ .., _, _, _, _, _, _, _, _] = digest(texts).to_be_bytes();
    // 0 is no id.
    u64::from_be_bytes(id).max(1)
}

impl JsonSchema for TraceContext {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TraceContext".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}" })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceContext;

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        let lower =
            |it: &str| it.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            parts.next().filter(|it| it.len() == length && lower(it)).ok_or(NoTraceContext)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // Later versions may say more behind it, version 00 may not.
        if version == VERSION_INVALID || (version == "00" && text.len() != TEXT_BYTES) {
            return Err(NoTraceContext);
        }
        let hex = |_invalid| NoTraceContext;
        let trace_id = u128::from_str_radix(trace_id, 16).map_err(hex)?;
        let span_id = u64::from_str_radix(span_id, 16).map_err(hex)?;
        let flags = u8::from_str_radix(flags, 16).map_err(hex)?;
        if trace_id == 0 || span_id == 0 {
            return Err(NoTraceContext);
        }
        Ok(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a context; what is none counts as absent, as the standard wants it: a trace is never
/// a reason to refuse what it is about.
///
/// # Errors
///
/// When it is not even JSON.
pub fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TraceContext>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Given::deserialize(from)? {
        Given::Text(text) => text.parse().ok(),
        Given::Other(IgnoredAny) => None,
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::id::Position;

    fn incident(n: u64) -> IncidentId {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        IncidentId::derive(at, Position::new(n, 0), "a")
    }

    #[test]
    fn the_trace_of_an_incident_has_its_id_and_everybody_derives_the_same_spans() {
        let id = incident(1);
        let root = TraceContext::of_incident(id);
        assert_eq!(format!("{:032x}", root.trace_id), id.to_string().replace('-', ""));
        let work = WorkRef { incident: id, attempt: 1, revision: 4 };
        assert_eq!(TraceContext::of_work(work), TraceContext::of_phase(id, 4));
        let spans = [
            root,
            TraceContext::of_phase(id, 4),
            TraceContext::of_phase(id, 5),
            root.child("fix"),
            root.child("step"),
            TraceContext::of_phase(id, 4).child("fix"),
        ];
        let ids: std::collections::HashSet<_> = spans.iter().map(|it| it.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "all different");
    }

    #[test]
    fn a_context_is_read_as_it_was_written() {
        let context = TraceContext::of_phase(incident(1), 2);
        assert_eq!(context.to_string().len(), TEXT_BYTES);
        assert_eq!(context.to_string().parse(), Ok(context));
        let unsampled = TraceContext { sampled: false, ..context };
        assert_eq!(unsampled.to_string().parse(), Ok(unsampled));
    }

    #[test]
    fn the_examples_of_the_standard_are_told_apart() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed: TraceContext = good.parse().unwrap();
        assert_eq!(parsed.span_id, 0xb7ad_6b71_6920_3331);
        assert!(parsed.sampled);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what-the-future-holds";
        assert!(later.parse::<TraceContext>().unwrap().sampled, "a later version says more");
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-011",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(NoTraceContext), "{bad}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_about_as_large_as_it_says() {
        let all = || (0..2000).map(|n| TraceContext::of_incident(incident(n)));
        let n = |share| all().filter(|it| it.is_in_share(share)).count();
        assert_eq!((n(0.0), n(1.0)), (0, 2000));
        assert!((400..600).contains(&n(0.25)), "{}", n(0.25));
        assert!(all().all(|it| !it.is_in_share(0.1) || it.is_in_share(0.2)), "one in the other");
    }
}
