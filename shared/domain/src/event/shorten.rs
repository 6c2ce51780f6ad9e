//! Events that are kept for long are kept small: what identifies them stays, what explains
//! them is cut.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Event, short_text};

/// Longest text that is kept of an event that is cut, in characters.
const TEXT_CHARS_MAX: usize = 256;
/// Links that are kept of an event that is cut.
const LINKS_MAX: usize = 4;
/// Texts at the top of a payload that are kept: selectors look at them.
const FIELDS_MAX: usize = 16;
/// Labels and annotations that are kept of an event that is cut.
const PAIRS_MAX: usize = 32;
/// Field of a payload that was cut, with the size that it had.
const CUT: &str = "selfheal.cut_bytes";

impl Event {
    /// Returns the event with at most about `bytes_max` bytes of JSON. One that is larger loses
    /// what is long in its payload and texts; its id, source, target and fingerprint stay.
    #[must_use]
    pub fn shortened(mut self, bytes_max: usize) -> Self {
        if json_len(&self) <= bytes_max {
            return self;
        }
        self.cut_payload();
        if json_len(&self) <= bytes_max {
            return self;
        }
        self.extra.clear();
        self.links.truncate(LINKS_MAX);
        self.links.retain(|it| it.len() <= 4 * TEXT_CHARS_MAX);
        for pairs in [&mut self.labels, &mut self.annotations] {
            while PAIRS_MAX < pairs.len() {
                pairs.pop_last();
            }
            pairs.retain(|name, _| name.len() <= TEXT_CHARS_MAX);
            pairs.values_mut().for_each(|it| *it = short_text(it, TEXT_CHARS_MAX));
        }
        self
    }

    /// Cuts the payload alone, when it has more than `bytes_max` bytes of JSON.
    #[must_use]
    pub fn with_short_payload(mut self, bytes_max: usize) -> Self {
        if bytes_max < json_len(&self.payload) {
            self.cut_payload();
        }
        self
    }

    fn cut_payload(&mut self) {
        let is_cut = self.payload.get(CUT).is_some();
        if self.payload.is_null() || is_cut {
            return;
        }
        let bytes = json_len(&self.payload);
        let mut kept = Map::new();
        if let Value::Object(fields) = &self.payload {
            let short = fields.iter().filter(|(name, value)| {
                let is_plain = !matches!(value, Value::Object(_) | Value::Array(_));
                is_plain && name.len() + json_len(*value) <= TEXT_CHARS_MAX
            });
            kept.extend(short.take(FIELDS_MAX).map(|(name, it)| (name.clone(), it.clone())));
        }
        kept.insert(CUT.to_owned(), bytes.into());
        self.payload = Value::Object(kept);
    }
}

/// Returns the size of a value as JSON.
pub(crate) fn json_len(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written is refused where it is stored.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::EventType;

    const MAX: usize = 16 * 1024;

    fn event() -> Event {
        let mut event = Event::new("1", EventType::known("service_down"), "test");
        event.fingerprint = Some("disk of db-1".to_owned());
        event.labels.insert("service".to_owned(), "db".to_owned());
        event
    }

    #[test]
    fn a_small_event_stays_as_it_is() {
        let mut event = event();
        event.payload = json!({"host": "db-1", "lines": ["a", "b"]});
        assert_eq!(event.clone().shortened(MAX), event);
        assert_eq!(event.clone().with_short_payload(MAX), event);
    }

    #[test]
    fn a_large_event_keeps_what_identifies_it_and_what_selectors_look_at() {
        let mut large = event();
        large.payload = json!({"host": "db-1", "n": 7, "lines": vec!["x".repeat(100); 1000]});
        for short in [large.clone().shortened(MAX), large.clone().with_short_payload(MAX)] {
            assert!(json_len(&short) <= MAX);
            assert_eq!(short.payload["host"], "db-1");
            assert_eq!(short.payload["n"], 7);
            assert_eq!(short.payload[CUT], json_len(&large.payload));
            assert_eq!(short.fingerprint(None), large.fingerprint(None));
            assert_eq!(short.delivery(), large.delivery());
            assert_eq!(short.labels, large.labels);
            assert_eq!(short.clone().shortened(MAX), short, "once is enough");
        }
    }

    #[test]
    fn an_event_that_is_large_everywhere_is_cut_everywhere() {
        let mut large = event();
        large.payload = Value::String("p".repeat(100_000));
        large.links = vec!["https://example.org/".to_owned() + &"l".repeat(5000); 50];
        for n in 0..500 {
            large.labels.insert(format!("l{n:03}"), "ä".repeat(900));
            large.annotations.insert(format!("a{n:03}"), "\u{1}".repeat(900));
            large.extra.insert(format!("e{n:03}"), json!("x".repeat(900)));
        }
        let short = large.clone().shortened(MAX);
        assert!(json_len(&short) <= 5 * MAX, "{}", json_len(&short));
        assert_eq!(short.clone().shortened(MAX), short, "once is enough");
        assert_eq!(short.delivery(), large.delivery());
    }
}
