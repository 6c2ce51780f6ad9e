//! What senders of other formats say, made into what we can use. Nothing is refused: an alert
//! that is refused is an alert that is lost.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::{Event, EventType, Severity, decode::read_time};

/// Fields of a payload and labels that may name the target, the one that counts most first.
pub const TARGET_KEYS: [&str; 6] =
    ["target", "service", "container", "host", "instance", "component"];

/// Stands for a name of which nothing is left.
const NAMELESS: &str = "alert";

/// Unix times from here on are milliseconds: as seconds they would lie beyond the year 5000.
const MILLIS_FROM: i64 = 100_000_000_000;

impl EventType {
    /// Makes a type of any name, such as that of an alert: letters, digits, `_`, `-` and single
    /// dots stay, whatever else stands between them becomes one `_`. What is longer than
    /// [`EventType::LEN_MAX`] is cut, and of what nothing is left is `alert`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let spaced: String = name.chars().map(|c| if legal(c) { c } else { ' ' }).collect();
        let words = spaced.split_whitespace().collect::<Vec<_>>().join("_");
        let parts = words.split('.').map(|it| it.trim_matches('_')).filter(|it| !it.is_empty());
        let text = parts.collect::<Vec<_>>().join(".");
        let text = text.get(..Self::LEN_MAX).unwrap_or(&text).trim_end_matches('.');
        text.parse().unwrap_or_else(|_nothing_left| Self(NAMELESS.to_owned()))
    }
}

impl Severity {
    /// Reads the many words that there are for it; `None` for one that is not known.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "critical" | "crit" | "page" | "fatal" | "emergency" | "emerg" | "disaster"
            | "alert" | "high" | "p1" | "sev0" | "sev1" | "down" | "unreachable" => {
                Some(Self::Critical)
            }
            "error" | "err" | "major" | "average" | "medium" | "normal" | "p2" | "sev2" => {
                Some(Self::Error)
            }
            "warning" | "warn" | "minor" | "low" | "p3" | "sev3" | "unknown" => Some(Self::Warning),
            "info" | "informational" | "information" | "notice" | "none" | "ok" | "up"
            | "debug" | "p4" | "p5" | "sev4" | "not classified" => Some(Self::Info),
            _ => None,
        }
    }
}

impl Event {
    /// Takes the target from the labels, if the event names none.
    pub fn target_from_labels(&mut self) {
        if self.target.is_none() {
            let mut found = TARGET_KEYS.iter().filter_map(|key| self.labels.get(*key));
            self.target = found.find(|it| !it.is_empty()).cloned();
        }
    }
}

/// Reads a time: RFC 3339, also without a colon in the offset or with a space in the middle
/// (UTC when it has no offset), or a Unix time in seconds or milliseconds.
#[must_use]
pub fn time_of(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    // PagerDuty's own client writes both an offset and a `Z`.
    let text = text.strip_suffix('Z').filter(|it| it.ends_with("+00:00")).unwrap_or(text);
    let naive = || {
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
        let read = forms.iter().find_map(|it| NaiveDateTime::parse_from_str(text, it).ok());
        read.map(|it| it.and_utc())
    };
    let unix = || {
        let whole = text.split('.').next().unwrap_or_default();
        let n = whole.parse::<i64>().ok()?;
        if n < MILLIS_FROM {
            DateTime::from_timestamp(n, 0)
        } else {
            DateTime::from_timestamp_millis(n)
        }
    };
    let spaced = || {
        let read = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok();
        read.map(|it| it.to_utc())
    };
    read_time(text).or_else(naive).or_else(spaced).or_else(unix)
}

/// Cuts a text to so many characters, and shows that it was cut.
#[must_use]
pub fn short_text(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_made_of_any_name() {
        for (name, kind) in [
            ("InstanceDown", "InstanceDown"),
            ("disk.full", "disk.full"),
            ("High CPU (95 %) on /dev/sda", "High_CPU_95_on_dev_sda"),
            ("a..b", "a.b"),
            (" . a . ", "a"),
            ("job:errors:rate5m", "job_errors_rate5m"),
            ("größe", "gr_e"),
            ("kube__pod-down", "kube__pod-down"),
            ("", "alert"),
            ("🔥", "alert"),
            ("...", "alert"),
            ("a /.b", "a.b"),
            ("*.>", "alert"),
        ] {
            assert_eq!(EventType::from_name(name).as_str(), kind, "{name}");
        }
        assert_eq!(EventType::from_name(&"a.".repeat(100)).as_str().len(), 127);
        assert_eq!(EventType::from_name(&"x".repeat(500)).as_str().len(), EventType::LEN_MAX);
    }

    #[test]
    fn times_of_all_senders_are_read() {
        let wanted = DateTime::parse_from_rfc3339("2015-07-17T08:42:58Z").unwrap().to_utc();
        for text in [
            "2015-07-17T08:42:58Z",
            "2015-07-17T10:42:58+02:00",
            "2015-07-17T08:42:58+0000",
            "2015-07-17T08:42:58+00:00Z",
            "2015-07-17T08:42:58",
            "2015-07-17 08:42:58",
            "2015-07-17 10:42:58 +0200",
            "2015-07-17 08:42:58+00:00",
            " 1437122578 ",
            "1437122578000",
            "1437122578.0",
        ] {
            assert_eq!(time_of(text), Some(wanted), "{text}");
        }
        for text in ["", "noon", "-", "2015", "17.07.2015"] {
            assert!(time_of(text).is_none_or(|it| it.timestamp() < 3000), "{text}");
        }
    }

    #[test]
    fn severities_are_known_by_many_words() {
        assert_eq!(Severity::from_word("Page"), Some(Severity::Critical));
        assert_eq!(Severity::from_word("major"), Some(Severity::Error));
        assert_eq!(Severity::from_word(" WARN"), Some(Severity::Warning));
        assert_eq!(Severity::from_word("none"), Some(Severity::Info));
        assert_eq!(Severity::from_word("purple"), None);
    }
}
