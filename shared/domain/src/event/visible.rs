//! Identifying texts of strangers: what is hidden in them is written out where they are decoded, so
//! that nobody after that takes one for another.

use super::{Event, decode::TEXT_MAX};
use crate::visible;

fn make(text: &mut String) {
    visible::make(text, TEXT_MAX);
}

impl Event {
    /// Writes out what is hidden in the texts that identify: id, source, target, fingerprint and
    /// labels. All else is the sender's own and stays as it is; whoever shows it escapes it.
    pub fn make_visible(&mut self) {
        make(&mut self.id);
        make(&mut self.source);
        for text in [&mut self.target, &mut self.fingerprint].into_iter().flatten() {
            make(text);
        }
        let is_hidden = |it: &String| it.chars().any(visible::is_hidden);
        if self.labels.iter().any(|(name, text)| is_hidden(name) || is_hidden(text)) {
            let shown = std::mem::take(&mut self.labels).into_iter().map(|(mut name, mut text)| {
                make(&mut name);
                make(&mut text);
                (name, text)
            });
            self.labels = shown.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::super::{Context, message, plain};

    #[test]
    fn what_identifies_an_event_is_on_one_line_and_hides_nothing_however_it_came() {
        let context = Context { id: "i".to_owned(), kind: None, at: DateTime::UNIX_EPOCH };
        let wrong = "x\n2026 INFO forged\u{1b}[31m\u{202e}\u{200b}\u{2028}";
        let shown = "x\\n2026 INFO forged\\u{1b}[31m\\u{202e}\\u{200b}\\u{2028}";
        let body = json!({
            "type": "a", "id": wrong, "source": wrong, "target": wrong, "fingerprint": wrong,
            "labels": {wrong: wrong}, "payload": {"text": wrong},
        });
        let event = plain(body, &context).unwrap();
        let target = event.target.as_deref().unwrap_or_default();
        let fingerprint = event.fingerprint.as_deref().unwrap_or_default();
        for text in [&event.id, &event.source, target, fingerprint, &event.labels[shown]] {
            assert_eq!(text, shown);
        }
        assert_eq!(event.payload["text"], wrong, "its own data stays as it is");
        let cloud = json!({
            "specversion": "1.0", "type": "a", "id": wrong, "source": wrong, "subject": wrong,
            "data": {"service": wrong},
        });
        let event = message(&[], cloud.to_string().as_bytes(), &context).unwrap();
        assert_eq!((event.id.as_str(), event.source.as_str()), (shown, shown));
        assert_eq!(event.target.as_deref(), Some(shown));
    }

    #[test]
    fn what_is_plain_stays_as_it_is() {
        let context = Context { id: "i".to_owned(), kind: None, at: DateTime::UNIX_EPOCH };
        let body =
            json!({"type": "a", "source": "Zürich/数据", "target": "a b", "labels": {"k": "ü"}});
        let event = plain(body, &context).unwrap();
        assert_eq!((event.source.as_str(), event.target.as_deref()), ("Zürich/数据", Some("a b")));
        assert_eq!(event.labels["k"], "ü");
    }
}
