//! Durations and rates as people write them: `500ms`, `1s`, `5m`, `3/h`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time with millisecond precision, written like `1s` or `1h30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    ms: u64,
}

/// Why a duration or a rate could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no duration.
    #[error(
        "`{0}` is not a duration; write a number and a unit, such as `500ms`, `5s`, `2m`, `1h`, `7d`"
    )]
    Span(String),
    /// The text is no rate.
    #[error("`{0}` is not a rate; write a count and a unit of time, such as `3/h`, or `3/h, 10/d`")]
    Rate(String),
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self { ms: 0 };

    /// Returns a span of so many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self { ms }
    }

    /// Returns a span of so many seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self { ms: s.saturating_mul(1000) }
    }

    /// Returns whether it is no time at all.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.as_millis() == 0
    }

    /// Returns the whole span in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.ms
    }

    /// Returns the span as a standard duration.
    #[must_use]
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// Returns the span as a calendar duration, at most a thousand years.
    #[must_use]
    pub fn to_delta(self) -> chrono::TimeDelta {
        const MS_MAX: u64 = 1000 * 365 * 86_400_000;
        chrono::TimeDelta::milliseconds(i64::try_from(self.ms.min(MS_MAX)).unwrap_or(0))
    }

    /// Returns the sum, which does not overflow.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { ms: self.ms.saturating_add(other.ms) }
    }
}

/// The units, the largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// What a duration other than `0` looks like, as a regular expression.
const SPAN_PATTERN: &str = "([0-9]+(d|h|ms|m|s) *)+";

fn unit_ms(name: &str) -> Option<u64> {
    UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, ms)| *ms)
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Span(text.to_owned());
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(refused());
        }
        let mut ms = 0_u64;
        while !rest.is_empty() {
            let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(n_digits);
            let n_letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(n_letters);
            let number: u64 = number.parse().map_err(|_error| refused())?;
            let unit = unit_ms(unit).ok_or_else(refused)?;
            ms = number
                .checked_mul(unit)
                .and_then(|part| ms.checked_add(part))
                .ok_or_else(refused)?;
            rest = after.trim_start();
        }
        Ok(Self { ms })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (unit, ms) in UNITS {
            if ms <= rest {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Span {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^ *(0|{SPAN_PATTERN}) *$") })
    }
}

/// So many in any window of such a length; the window slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many are allowed.
    pub count: u32,
    /// Within any span of this length.
    pub per: Span,
}

/// Rates that must all hold, written like `3/h` or `3/h, 10/d`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rates(pub Vec<Rate>);

impl FromStr for Rates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Rate(text.to_owned());
        let one = |part: &str| {
            let (count, per) = part.trim().split_once('/')?;
            let count = count.trim().parse().ok()?;
            let per = per.trim();
            let per = match unit_ms(per) {
                Some(ms) => Span::from_millis(ms),
                None => per.parse().ok()?,
            };
            (per != Span::ZERO).then_some(Rate { count, per })
        };
        text.split(',').map(one).collect::<Option<Vec<_>>>().map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, rate) in self.0.iter().enumerate() {
            let comma = if idx == 0 { "" } else { ", " };
            match UNITS.iter().find(|(_, ms)| *ms == rate.per.ms) {
                Some((unit, _)) => write!(f, "{comma}{}/{unit}", rate.count)?,
                None => write!(f, "{comma}{}/{}", rate.count, rate.per)?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Rates {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Rates> for String {
    fn from(rates: Rates) -> Self {
        rates.to_string()
    }
}

impl JsonSchema for Rates {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Rates".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let one = format!(" *[0-9]+ */ *(d|h|ms|m|s|{SPAN_PATTERN}) *");
        json_schema!({ "type": "string", "pattern": format!("^{one}(,{one})*$") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("1s", 1000),
            ("1h30m", 5_400_000),
            ("2m 5s", 125_000),
            ("7d", 604_800_000),
            ("0", 0),
        ] {
            assert_eq!(text.parse::<Span>(), Ok(Span::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "1 y",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "1s,",
            "9999999999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [0, 1, 999, 1000, 61_001, 86_400_000, 90_061_001] {
            let span = Span::from_millis(ms);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["3/h", "3/h, 10/d", "1/15m"] {
            assert_eq!(text.parse::<Rates>().unwrap().to_string(), text);
        }
        for text in ["", "h", "3", "3/", "x/h", "3/0s"] {
            assert!(text.parse::<Rates>().is_err(), "{text}");
        }
    }
}
