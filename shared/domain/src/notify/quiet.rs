//! Quiet hours: times of the day in which only what is urgent is told.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Days, NaiveTime, Timelike as _, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{event::Severity, time_zone::TimeZone};

/// Times of each day in which a receiver is only told what is urgent. The rest waits until
/// their end; of one incident the newest notice then says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// Begin.
    pub from: ClockTime,
    /// End; before the begin it is that of the next day.
    pub until: ClockTime,
    /// By which clock: `UTC`, a name such as `Europe/Berlin`, or hours and minutes ahead of UTC,
    /// such as `+02:00`.
    #[serde(default)]
    pub time_zone: TimeZone,
    /// Incidents at least so bad are told at any time.
    #[serde(default = "critical")]
    pub urgent: Severity,
}

const fn critical() -> Severity {
    Severity::Critical
}

/// A time of the day, written like `22:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClockTime(NaiveTime);

/// A text is no time of the day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of the day; write hours and minutes, such as `22:30`")]
pub struct NotATime(String);

impl Quiet {
    /// Returns when the quiet hours end in which `at` is, or `None` when it is in none.
    #[must_use]
    pub fn end(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (ClockTime(from), ClockTime(until)) = (self.from, self.until);
        let local = self.time_zone.local(at);
        let time = local.time();
        let is_quiet =
            if from <= until { from <= time && time < until } else { from <= time || time < until };
        if !is_quiet {
            return None;
        }
        let today = local.date();
        let day = if time < until { today } else { today.checked_add_days(Days::new(1))? };
        self.time_zone.when(day.and_time(until))
    }
}

impl FromStr for ClockTime {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time = NaiveTime::parse_from_str(text.trim(), "%H:%M");
        time.map(Self).map_err(|_unreadable| NotATime(text.to_owned()))
    }
}

impl JsonSchema for ClockTime {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ClockTime".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^ *[0-9]{1,2}:[0-9]{2} *$" })
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl TryFrom<String> for ClockTime {
    type Error = NotATime;
    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, until: &str, time_zone: &str) -> Quiet {
        Quiet {
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
            time_zone: time_zone.parse().unwrap(),
            urgent: Severity::Critical,
        }
    }

    #[test]
    fn the_end_of_the_night_is_found_in_any_zone() {
        let night = ("22:00", "06:30");
        for (time_zone, at, end) in [
            ("UTC", "2026-01-01T21:59:59Z", None),
            ("UTC", "2026-01-01T22:00:00Z", Some("2026-01-02T06:30:00Z")),
            ("UTC", "2026-01-02T06:29:59Z", Some("2026-01-02T06:30:00Z")),
            ("UTC", "2026-01-02T06:30:00Z", None),
            ("+02:00", "2026-01-01T20:00:00Z", Some("2026-01-02T04:30:00Z")),
            ("+02:00", "2026-01-01T23:30:00Z", Some("2026-01-02T04:30:00Z")),
            ("-08:00", "2026-01-01T05:59:00Z", None),
            ("-08:00", "2026-01-01T06:00:00Z", Some("2026-01-01T14:30:00Z")),
            ("+05:30", "2026-12-31T17:00:00Z", Some("2027-01-01T01:00:00Z")),
            ("Europe/Berlin", "2026-07-01T20:00:00Z", Some("2026-07-02T04:30:00Z")),
            ("Europe/Berlin", "2026-12-01T20:30:00Z", None),
            ("Europe/Berlin", "2026-12-01T21:00:00Z", Some("2026-12-02T05:30:00Z")),
            // The nights in which the clock is put forward and back.
            ("Europe/Berlin", "2026-03-28T22:00:00Z", Some("2026-03-29T04:30:00Z")),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", Some("2026-10-25T05:30:00Z")),
        ] {
            let expected = end.map(|end| end.parse::<DateTime<Utc>>().unwrap());
            let found = quiet(night.0, night.1, time_zone).end(at.parse().unwrap());
            assert_eq!(found, expected, "{at} {time_zone}");
        }
        let noon = quiet("12:00", "13:00", "UTC");
        assert_eq!(noon.end("2026-01-01T13:00:00Z".parse().unwrap()), None);
        assert!(noon.end("2026-01-01T12:30:00Z".parse().unwrap()).is_some());
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for text in ["", "25:00", "7", "22:00:00", "ten"] {
            assert!(text.parse::<ClockTime>().unwrap_err().to_string().contains("22:30"), "{text}");
        }
    }
}
