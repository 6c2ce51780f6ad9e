//! What is kept quiet: silences that people make, maintenance windows, inhibition by rule, and
//! troubles that flap. Nothing of it lasts for ever, and each end looks at everything again.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::{IncidentId, Position, digest},
    matcher::Matchers,
    span::Span,
    time_zone::TimeZone,
};

/// The longest silence, and the longest run of a window: what is quiet for longer is forgotten.
pub const LASTS_MAX: TimeDelta = TimeDelta::days(31);
/// How far ahead a silence may begin: what is planned for later is a maintenance window.
const AHEAD_MAX: TimeDelta = TimeDelta::days(366);
/// Silences at once.
pub const SILENCES_MAX: usize = 1000;
/// Longest comment, in bytes.
const COMMENT_MAX: usize = 1024;

/// Names a silence: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SilenceId(pub String);

impl SilenceId {
    /// Derives it from the broker's time and the position of the input that made the silence, so
    /// that a supervisor that decides the input again gives it the same one. The position alone
    /// is not enough: after a restoration the inbox counts from 1 again.
    #[must_use]
    pub fn derive(at: DateTime<Utc>, position: Position) -> Self {
        let (at, position) = (at.timestamp_micros().to_string(), position.to_string());
        let whole = format!("{:032x}", digest(&["silence", &at, &position]));
        Self(whole.chars().take(16).collect())
    }
}

impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceRequest {
    /// What is silenced; all must fit.
    pub matchers: Matchers,
    /// From when on (default: now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Until when; there is no silence without an end.
    pub until: DateTime<Utc>,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// A silence: of what fits, no incident is opened, no fix is begun and nobody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// Its id.
    pub id: SilenceId,
    /// What is silenced; all must fit.
    pub matchers: Matchers,
    /// From when on.
    pub from: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Who made it.
    pub by: String,
    /// Why.
    pub comment: String,
}

impl SilenceRequest {
    /// Returns the end of a silence that begins then and lasts so long; none when that lies
    /// outside of the calendar.
    #[must_use]
    pub fn end(from: DateTime<Utc>, lasts: Span) -> Option<DateTime<Utc>> {
        from.checked_add_signed(lasts.to_delta())
    }

    /// Returns what is wrong with the times, in a sentence.
    #[must_use]
    pub fn fault_of_times(&self, now: DateTime<Utc>) -> Option<String> {
        let from = self.from.unwrap_or(now).max(now);
        if AHEAD_MAX < from.signed_duration_since(now) {
            let days = AHEAD_MAX.num_days();
            return Some(format!("It would begin more than {days} days from now."));
        }
        if self.until <= from {
            return Some(format!("It would end at {}, before it begins.", self.until));
        }
        let days = LASTS_MAX.num_days();
        (LASTS_MAX < self.until.signed_duration_since(from))
            .then(|| format!("It would last longer than {days} days; nothing is silent so long."))
    }
}

impl Silence {
    /// Makes one at `now`.
    ///
    /// # Errors
    ///
    /// What is wrong with the request, in a sentence.
    pub fn new(
        id: SilenceId,
        request: &SilenceRequest,
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, String> {
        let from = request.from.unwrap_or(now).max(now);
        if let Some(fault) = request.matchers.fault() {
            return Err(format!("The matchers cannot be used: {fault}."));
        }
        if let Some(fault) = request.fault_of_times(now) {
            return Err(fault);
        }
        let mut end = COMMENT_MAX.min(request.comment.len());
        while !request.comment.is_char_boundary(end) {
            end -= 1;
        }
        let comment = request.comment.get(..end).unwrap_or_default().to_owned();
        let (matchers, until) = (request.matchers.clone(), request.until);
        Ok(Self { id, matchers, from, until, by: by.to_owned(), comment })
    }

    /// Returns whether it is in force.
    #[must_use]
    pub fn is_active(&self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.until
    }
}

/// A time of maintenance, once or again and again. As a silence of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Unique name.
    pub name: String,
    /// What is being maintained; all must fit.
    #[serde(rename = "match")]
    pub matchers: Matchers,
    /// Begin, of one that is held once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// End, of one that is held once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// When it begins, of one that recurs: five fields as in crontab(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long each run lasts, of one that recurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// By which clock the crontab is meant: `UTC`, a name such as `Europe/Berlin`, or hours and
    /// minutes ahead of UTC, such as `+02:00`.
    #[serde(default, skip_serializing_if = "TimeZone::is_utc")]
    pub time_zone: TimeZone,
    /// Why; shown wherever something is kept quiet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Window {
    /// Returns when the run ends that is under way at `at`, if one is.
    #[must_use]
    pub fn active_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let (Some(from), Some(until)) = (self.from, self.until) {
            return (from <= at && at < until).then_some(until);
        }
        let lasts = self.lasts?.to_delta();
        let cron = self.cron.as_deref()?.parse::<Cron>().ok()?;
        // The newest begin that is not later; runs that overlap are one.
        let mut from = at.checked_sub_signed(lasts)?;
        let mut until = None;
        for _ in 0..RUNS_MAX {
            let begin = self.time_zone.next_run(&cron, from)?;
            if at < begin {
                break;
            }
            until = Some(begin.checked_add_signed(lasts)?);
            from = begin;
        }
        until
    }

    /// Returns what is wrong with it: the field, what, and what to do.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        const ONCE: &str = "give `from` and `until`, or `cron` and `lasts`";
        if let Some(fault) = self.matchers.fault() {
            return Some((
                "match",
                fault.to_owned(),
                "say what is being maintained, such as [\"target=database\"]",
            ));
        }
        match (self.from, self.until, self.cron.as_deref(), self.lasts) {
            (Some(from), Some(until), None, None) => {
                let is_fault = until <= from || LASTS_MAX < until - from;
                is_fault.then(|| {
                    let what = "it must end after it begins, at most 31 days later".to_owned();
                    ("until", what, ONCE)
                })
            }
            (None, None, Some(cron), Some(lasts)) => {
                if let Err(error) = cron.parse::<Cron>() {
                    let what = format!("`{cron}` is no crontab entry: {error}");
                    return Some(("cron", what, "such as `0 2 * * 6`: at 02:00 each Saturday"));
                }
                let is_fault = lasts == Span::ZERO || LASTS_MAX < lasts.to_delta();
                is_fault.then(|| {
                    let what = "each run lasts longer than 0 and at most 31 days".to_owned();
                    ("lasts", what, "such as `2h`")
                })
            }
            _ => Some(("from", "it has no begin and end".to_owned(), ONCE)),
        }
    }
}

/// Runs of one window that may overlap: one that begins each minute and lasts a day is one
/// long window, whose end need not be exact.
const RUNS_MAX: usize = 64;

/// While an incident is open that fits `when`, what fits `mute` opens none, if both have the
/// same values of the labels in `equal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InhibitRule {
    /// What is the cause.
    pub when: Matchers,
    /// What is only its consequence.
    pub mute: Matchers,
    /// Labels that both have in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<String>,
}

/// When a trouble that comes and goes is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// So many incidents of one fingerprint
    pub opens: u32,
    /// within this time
    pub within: Span,
    /// keep it quiet for so long. Then it is looked at again.
    pub quiet: Span,
}

/// Why something is kept quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A person's silence.
    Silence {
        /// Which.
        id: SilenceId,
    },
    /// A window of the configuration.
    Maintenance {
        /// Its name.
        name: String,
    },
    /// A rule, and the incident that is the cause.
    Inhibition {
        /// The incident.
        by: IncidentId,
    },
    /// It comes and goes.
    Flapping,
}

impl Cause {
    /// Returns the name of its kind.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Silence { .. } => "silence",
            Self::Maintenance { .. } => "maintenance",
            Self::Inhibition { .. } => "inhibition",
            Self::Flapping => "flapping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(cron: &str, lasts: &str, time_zone: &str) -> Window {
        Window {
            name: "backup".to_owned(),
            matchers: Matchers(vec!["target=database".parse().unwrap()]),
            from: None,
            until: None,
            cron: Some(cron.to_owned()),
            lasts: Some(lasts.parse().unwrap()),
            time_zone: time_zone.parse().unwrap(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_window_recurs_and_each_run_ends() {
        let night = window("0 23 * * *", "2h", "UTC");
        assert_eq!(night.fault(), None);
        let until = Some(at("2026-03-02T01:00:00Z"));
        for (now, active) in [
            ("2026-03-01T22:59:59Z", None),
            ("2026-03-01T23:00:00Z", until),
            ("2026-03-02T00:59:59Z", until),
            ("2026-03-02T01:00:00Z", None),
        ] {
            assert_eq!(night.active_until(at(now)), active, "{now}");
        }
        let saturday = window("0 2 * * 6", "30m", "+02:00");
        assert_eq!(
            saturday.active_until(at("2026-03-07T00:10:00Z")),
            Some(at("2026-03-07T00:30:00Z"))
        );
        assert_eq!(saturday.active_until(at("2026-03-07T02:10:00Z")), None);
    }

    #[test]
    fn a_window_follows_the_summer_time_of_its_zone() {
        let night = window("30 2 * * *", "1h", "Europe/Berlin");
        for (now, until) in [
            ("2026-01-15T01:30:00Z", Some("2026-01-15T02:30:00Z")),
            ("2026-07-15T00:30:00Z", Some("2026-07-15T01:30:00Z")),
            ("2026-07-15T01:30:00Z", None),
            // In one night 02:30 is not there, in the other it is there twice: it is held once.
            ("2026-03-29T01:31:00Z", Some("2026-03-29T02:00:00Z")),
            ("2026-10-25T00:31:00Z", Some("2026-10-25T01:30:00Z")),
            ("2026-10-25T01:31:00Z", None),
        ] {
            assert_eq!(night.active_until(at(now)), until.map(at), "{now}");
        }
    }

    #[test]
    fn a_window_without_an_end_is_refused() {
        let mut endless = window("0 2 * * 6", "2h", "UTC");
        endless.lasts = None;
        assert_eq!(endless.fault().unwrap().0, "from");
        for (it, field) in [
            (window("0 2 * * 6", "0s", "UTC"), "lasts"),
            (window("0 2 * * 6", "32d", "UTC"), "lasts"),
            (window("at night", "2h", "UTC"), "cron"),
        ] {
            assert_eq!(it.fault().unwrap().0, field);
        }
    }

    #[test]
    fn times_outside_of_what_is_meant_are_told_and_break_nothing() {
        let now = at("2026-03-01T00:00:00Z");
        let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        for (from, until, told) in [
            (None, at("2026-03-02T00:00:00Z"), None),
            (Some(first), at("2026-03-02T00:00:00Z"), None),
            (Some(at("2027-03-01T00:00:00Z")), at("2027-03-02T00:00:00Z"), None),
            (Some(at("2027-03-03T00:00:00Z")), at("2027-03-04T00:00:00Z"), Some("begin more")),
            (Some(at("+262142-12-31T00:00:00Z")), last, Some("begin more")),
            (Some(last), first, Some("begin more")),
            (None, last, Some("last longer")),
            (None, first, Some("before it begins")),
            (Some(first), last, Some("last longer")),
        ] {
            let matchers = Matchers(vec!["target=database".parse().unwrap()]);
            let request = SilenceRequest { matchers, from, until, comment: String::new() };
            let id = SilenceId::derive(now, Position::new(1, 0));
            match (Silence::new(id, &request, "me", now), told) {
                (Ok(_), None) => {}
                (Err(fault), Some(told)) => assert!(fault.contains(told), "{from:?}: {fault}"),
                (other, told) => panic!("{from:?} {until}: {other:?}, not {told:?}"),
            }
        }
        let ever: Span = "18446744073709551615ms".parse().unwrap();
        assert!(SilenceRequest::end(now, ever).is_some_and(|it| now < it));
        for (from, lasts) in [(last, "1ms"), (at("+262142-12-31T00:00:00Z"), "365000d")] {
            assert_eq!(SilenceRequest::end(from, lasts.parse().unwrap()), None, "{from} {lasts}");
        }
    }

    #[test]
    fn a_silence_always_ends() {
        let now = at("2026-03-01T00:00:00Z");
        let matchers = Matchers(vec!["target=database".parse().unwrap()]);
        let request = |matchers: &Matchers, until| SilenceRequest {
            matchers: matchers.clone(),
            from: None,
            until,
            comment: "é".repeat(1000),
        };
        let make = |request: &SilenceRequest| {
            Silence::new(SilenceId::derive(now, Position::new(1, 0)), request, "me", now)
        };
        let silence = make(&request(&matchers, now + TimeDelta::hours(1))).unwrap();
        assert!(silence.is_active(now) && !silence.is_active(silence.until));
        for until in [now, now - TimeDelta::hours(1), now + TimeDelta::days(32)] {
            assert!(make(&request(&matchers, until)).is_err(), "{until}");
        }
        assert!(make(&request(&Matchers::default(), now + TimeDelta::hours(1))).is_err());
    }
}
