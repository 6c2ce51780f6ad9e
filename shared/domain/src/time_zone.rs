//! By which clock a person means a time of the day.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDateTime, Offset as _, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Far enough from a change of the clock to be before it: none leaves out more than some hours.
const BEFORE_A_GAP: TimeDelta = TimeDelta::hours(25);

/// A clock: `UTC`, a time zone of the IANA database such as `Europe/Berlin`, whose summer time is
/// followed, or a fixed difference from UTC such as `+02:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(Clock);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Fixed(FixedOffset),
    Named(Tz),
}

/// A text is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no time zone; write `UTC`, a name such as `Europe/Berlin`, or hours and minutes ahead of UTC, such as `+02:00`"
)]
pub struct NotAZone(String);

impl TimeZone {
    /// Returns whether it is that of UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what the clock shows.
    #[must_use]
    pub fn local(&self, at: DateTime<Utc>) -> NaiveDateTime {
        match &self.0 {
            Clock::Fixed(zone) => at.with_timezone(zone).naive_local(),
            Clock::Named(zone) => at.with_timezone(zone).naive_local(),
        }
    }

    /// Returns when the clock shows this: the first time when it does so twice, and so much
    /// later as it is put forward when it is just then.
    #[must_use]
    pub fn when(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        match &self.0 {
            Clock::Fixed(zone) => first(zone, local),
            Clock::Named(zone) => first(zone, local),
        }
    }

    /// Returns the next run of a crontab behind a moment.
    #[must_use]
    pub fn next_run(&self, cron: &Cron, behind: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Clock::Fixed(zone) => next(cron, &behind.with_timezone(zone)),
            Clock::Named(zone) => next(cron, &behind.with_timezone(zone)),
        }
    }
}

fn first<Z: chrono::TimeZone>(zone: &Z, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => {
            let before = zone.offset_from_local_datetime(&local.checked_sub_signed(BEFORE_A_GAP)?);
            let as_before = local.checked_sub_offset(before.earliest()?.fix())?;
            Some(as_before.and_utc())
        }
    }
}

fn next<Z: chrono::TimeZone>(cron: &Cron, behind: &DateTime<Z>) -> Option<DateTime<Utc>> {
    cron.find_next_occurrence(behind, false).ok().map(|at| at.to_utc())
}

impl Default for TimeZone {
    fn default() -> Self {
        Self(Clock::Fixed(Utc.fix()))
    }
}

impl FromStr for TimeZone {
    type Err = NotAZone;

    fn from_str(text: &str) -> Result<Self, NotAZone> {
        let plain = text.trim();
        if plain.eq_ignore_ascii_case("utc") || plain == "Z" {
            return Ok(Self::default());
        }
        let clock = plain.parse().map(Clock::Fixed).ok();
        let clock = clock.or_else(|| plain.parse().map(Clock::Named).ok());
        clock.map(Self).ok_or_else(|| NotAZone(text.to_owned()))
    }
}

impl TryFrom<String> for TimeZone {
    type Error = NotAZone;

    fn try_from(text: String) -> Result<Self, NotAZone> {
        text.parse()
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.to_string()
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Clock::Fixed(_) if self.is_utc() => f.write_str("UTC"),
            Clock::Fixed(zone) => zone.fmt(f),
            Clock::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl JsonSchema for TimeZone {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TimeZone".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^ *([A-Za-z]+(/[A-Za-z0-9_+-]+)*|[+-][0-9]{2}:?[0-9]{2}) *$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_put_forward_or_back_shows_each_time_once() {
        for (zone, local, at) in [
            ("UTC", "2026-07-01T12:00:00", "2026-07-01T12:00:00Z"),
            ("+05:30", "2026-07-01T12:00:00", "2026-07-01T06:30:00Z"),
            ("Europe/Berlin", "2026-01-01T12:00:00", "2026-01-01T11:00:00Z"),
            ("Europe/Berlin", "2026-07-01T12:00:00", "2026-07-01T10:00:00Z"),
            // 02:30 is not there: half an hour after the clock was put forward.
            ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
            // 02:30 is there twice.
            ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
            ("America/New_York", "2026-12-24T18:00:00", "2026-12-24T23:00:00Z"),
        ] {
            let zone: TimeZone = zone.parse().unwrap();
            let at: DateTime<Utc> = at.parse().unwrap();
            assert_eq!(zone.when(local.parse().unwrap()), Some(at), "{local} {zone}");
        }
    }

    #[test]
    fn what_is_no_zone_is_refused_with_examples() {
        for text in ["", "Berlin", "2", "+99:00", "Europe/Nowhere"] {
            let refused = text.parse::<TimeZone>().unwrap_err().to_string();
            assert!(refused.contains("+02:00") && refused.contains("Europe/Berlin"), "{text}");
        }
        for (text, written) in
            [("utc", "UTC"), ("Z", "UTC"), (" -03:30 ", "-03:30"), ("Asia/Kolkata", "Asia/Kolkata")]
        {
            assert_eq!(text.parse::<TimeZone>().unwrap().to_string(), written);
        }
    }
}
