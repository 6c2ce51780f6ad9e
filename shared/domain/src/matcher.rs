//! Matchers of labels, as Alertmanager writes them: `severity=critical`, `host!=db-1`,
//! `host=~db-.*`, `team!~ops|infra`.
//!
//! What is matched has more names than its labels: `type`, `source`, `severity`, `target` and
//! `zone` are names too, and a target's own labels count where the event has none of that name.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{event::Event, target::Target};

/// Memory that one compiled expression may take, in bytes: an expression comes from a file or a
/// person, and must not be able to fill a supervisor.
const EXPRESSION_BYTES_MAX: usize = 64 * 1024;
/// Longest matcher, in bytes.
const LEN_MAX: usize = 1024;
/// Matchers of one selector.
const MATCHERS_MAX: usize = 32;

/// What is matched: an event, and its target if one is configured.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The event.
    pub event: &'a Event,
    /// The configured target.
    pub target: Option<&'a Target>,
}

impl<'a> Subject<'a> {
    /// Returns the value of a label; the empty text when there is none, as in Prometheus.
    #[must_use]
    pub fn label(&self, name: &str) -> &'a str {
        let of_event = self.event.labels.get(name).map(String::as_str);
        let known = || match name {
            "type" => Some(self.event.kind.as_str()),
            "source" => Some(self.event.source.as_str()),
            "severity" => Some(self.event.severity.as_str()),
            "target" => {
                let configured = self.target.map(|it| it.name.as_str());
                configured.or(self.event.target.as_deref())
            }
            "zone" => self.target.map(|it| it.zone.as_str()),
            _ => None,
        };
        let of_target = || self.target?.labels.get(name).map(String::as_str);
        let in_payload = || self.event.payload.get(name).and_then(Value::as_str);
        // Whatever the sender calls its labels, these names mean what we know.
        let found = known().or(of_event).or_else(of_target).or_else(in_payload);
        found.unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
enum Test {
    Is,
    IsNot,
    Fits(Regex),
    FitsNot(Regex),
}

/// One matcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Matcher {
    name: String,
    test: Test,
    value: String,
}

/// Why a text is no matcher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAMatcher {
    /// It has no operator.
    #[error(
        "`{0}` is no matcher; write a label, one of `=`, `!=`, `=~`, `!~`, and a value, such as `severity=critical`"
    )]
    Form(String),
    /// Its expression is none, or too large.
    #[error("`{text}` has an expression that cannot be used: {why}")]
    Expression {
        /// The matcher.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Matcher {
    /// Returns whether it fits.
    #[must_use]
    pub fn fits(&self, subject: &Subject<'_>) -> bool {
        self.takes(subject.label(&self.name))
    }

    /// Returns whether it fits these labels, and no name means anything else.
    #[must_use]
    pub fn fits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.takes(labels.get(&self.name).map_or("", String::as_str))
    }

    fn takes(&self, value: &str) -> bool {
        match &self.test {
            Test::Is => value == self.value,
            Test::IsNot => value != self.value,
            Test::Fits(expression) => expression.is_match(value),
            Test::FitsNot(expression) => !expression.is_match(value),
        }
    }
}

impl FromStr for Matcher {
    type Err = NotAMatcher;

    fn from_str(text: &str) -> Result<Self, NotAMatcher> {
        let form = || NotAMatcher::Form(text.chars().take(64).collect());
        if LEN_MAX < text.len() {
            return Err(form());
        }
        let at = text.find(['=', '!']).ok_or_else(form)?;
        let (name, rest) = text.split_at(at);
        let name = name.trim();
        let operators = ["=~", "!~", "!=", "="];
        let operator = operators.into_iter().find(|it| rest.starts_with(it)).ok_or_else(form)?;
        let value = rest.strip_prefix(operator).unwrap_or_default().trim();
        let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let value = quoted.unwrap_or(value).to_owned();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/:".contains(&byte);
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(form());
        }
        let expression = || {
            let anchored = format!("^(?:{value})$");
            let built = RegexBuilder::new(&anchored).size_limit(EXPRESSION_BYTES_MAX).build();
            built.map_err(|error| NotAMatcher::Expression {
                text: text.to_owned(),
                why: error.to_string(),
            })
        };
        let test = match operator {
            "=" => Test::Is,
            "!=" => Test::IsNot,
            "=~" => Test::Fits(expression()?),
            _ => Test::FitsNot(expression()?),
        };
        Ok(Self { name: name.to_owned(), test, value })
    }
}

impl TryFrom<String> for Matcher {
    type Error = NotAMatcher;

    fn try_from(text: String) -> Result<Self, NotAMatcher> {
        text.parse()
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

impl JsonSchema for Matcher {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Matcher".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^ *[A-Za-z0-9_./:-]+ *(=|!=|!~)",
            "maxLength": LEN_MAX,
        })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.test {
            Test::Is => "=",
            Test::IsNot => "!=",
            Test::Fits(_) => "=~",
            Test::FitsNot(_) => "!~",
        };
        // What is written is read back: a quote or a space at an end would be lost.
        let plain = self.value.trim() == self.value && !self.value.starts_with('"');
        match plain {
            true => write!(f, "{}{operator}{}", self.name, self.value),
            false => write!(f, "{}{operator}\"{}\"", self.name, self.value),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Matcher {}

/// Matchers that must all fit. None, or only such as fit what has no labels at all, fit nothing:
/// a selector that was forgotten must not select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Matchers(pub Vec<Matcher>);

impl Matchers {
    /// Returns whether all fit.
    #[must_use]
    pub fn fit(&self, subject: &Subject<'_>) -> bool {
        self.selects() && self.0.iter().all(|it| it.fits(subject))
    }

    /// Returns whether there is one that asks for something.
    #[must_use]
    pub fn selects(&self) -> bool {
        self.0.iter().any(|it| !it.takes(""))
    }

    /// Returns what is wrong with them, in words.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if !self.selects() {
            return Some("no matcher asks for a value, so it would fit everything");
        }
        (MATCHERS_MAX < self.0.len()).then_some("there are more than 32 matchers")
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, matcher) in self.0.iter().enumerate() {
            let comma = if idx == 0 { "" } else { ", " };
            write!(f, "{comma}{matcher}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventType, Severity};

    fn matchers(texts: &[&str]) -> Matchers {
        Matchers(texts.iter().map(|it| it.parse().unwrap()).collect())
    }

    #[test]
    fn all_matchers_must_fit() {
        let mut event = Event::new("1", EventType::known("disk.full"), "test");
        event.severity = Severity::Critical;
        event.labels.insert("host".to_owned(), "db-1".to_owned());
        let mut target = Target::named("database");
        target.labels.insert("team".to_owned(), "ops".to_owned());
        let subject = Subject { event: &event, target: Some(&target) };
        for (texts, fit) in [
            (&["host=db-1"][..], true),
            (&["host=db"], false),
            (&["host=~db-.*"], true),
            (&["host=~b-."], false),
            (&["host!~db-.*"], false),
            (&["host=~db-.*", "severity!=critical"], false),
            (&["type=disk.full", "target=database", "zone=default", "team = \"ops\""], true),
            (&["team!=ops", "host=db-1"], false),
            (&["rack=", "host=db-1"], true),
        ] {
            assert_eq!(matchers(texts).fit(&subject), fit, "{texts:?}");
        }
    }

    #[test]
    fn an_empty_selector_matches_nothing() {
        let event = Event::new("1", EventType::known("a"), "test");
        let subject = Subject { event: &event, target: None };
        for texts in [&[][..], &["host="], &["host!=a"], &["host=~.*"], &["host!~a"]] {
            let it = matchers(texts);
            assert!(!it.fit(&subject) && it.fault().is_some(), "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_matcher_is_refused_and_what_is_written_is_read_back() {
        for text in ["", "a", "=b", "a b=c", "a=~(", "a=~a{1000}{1000}", "a~b"] {
            assert!(text.parse::<Matcher>().is_err(), "{text}");
        }
        for text in ["a=b", "a!=b", "a=~b|c", "a!~b", "a=", "a=\" b \"", "a=b=c"] {
            assert_eq!(text.parse::<Matcher>().unwrap().to_string(), text);
        }
    }
}
