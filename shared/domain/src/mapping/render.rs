//! Rendering: one message becomes events.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use minijinja::{Value as Seen, context};
use serde_json::Value;

use super::{Mapper, at_path};
use crate::event::{Event, EventType, Severity, Status, short_text, time_of};

/// Events of one message; the rest is left out and noted at the last one.
const EVENTS_MAX: usize = 1000;
/// Longest identifying text.
const KEY_CHARS_MAX: usize = 512;
/// Longest explaining text.
const TEXT_CHARS_MAX: usize = 4096;
/// Labels that are taken from objects of the message.
const LABELS_MAX: usize = 100;
/// What templates of Go, such as those of Argo CD, say in place of nothing.
const NOTHING_OF_GO: &str = "<no value>";
/// Where an event says what could not be rendered.
const NOTE: &str = "selfheal.mapping";

/// What came in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The body.
    pub body: &'a Value,
    /// Headers by lower-case name, without those that hold secrets.
    pub headers: &'a BTreeMap<String, String>,
    /// Parameters of the URL, without those that hold secrets.
    pub query: &'a BTreeMap<String, String>,
    /// When it came.
    pub at: DateTime<Utc>,
}

impl Mapper {
    /// Returns the events of a message; none when it is none of those that mean something.
    /// An event without an id has an empty one.
    #[must_use]
    pub fn events(&self, message: &Message<'_>) -> Vec<Event> {
        let fits = |(name, wanted): (&String, &String)| {
            let found = message.headers.get(&name.to_ascii_lowercase());
            found.is_some_and(|it| wanted == "*" || wanted == it)
        };
        if !self.mapping.when.iter().all(fits) {
            return Vec::new();
        }
        let items: Vec<&Value> = match &self.mapping.each {
            None => vec![message.body],
            Some(path) => {
                let roots = BTreeMap::from([("body", message.body)]);
                let found = at_path(&roots, path);
                match found {
                    Some(Value::Array(items)) => items.iter().collect(),
                    Some(Value::Null) | None => Vec::new(),
                    Some(one) => vec![one],
                }
            }
        };
        let body = seen(message.body);
        let headers = Seen::from_pairs(message.headers.clone());
        let query = Seen::from_pairs(message.query.clone());
        let n_left_out = items.len().saturating_sub(EVENTS_MAX);
        let items = items.into_iter().take(EVENTS_MAX);
        let one = |item: &Value| {
            let seen = context! {
                body => body.clone(),
                item => seen(item),
                headers => headers.clone(),
                query => query.clone(),
                name => self.name.as_str(),
            };
            Rendering { mapper: self, seen, problems: Vec::new() }.event(message, item)
        };
        let mut events: Vec<Event> = items.filter_map(one).collect();
        if let Some(last) = events.last_mut().filter(|_| 0 < n_left_out) {
            note(last, &format!("{n_left_out} more items of the message were left out"));
        }
        events
    }
}

/// Makes what templates see of JSON, whose depth is limited where it is read.
///
/// A `null` is nothing, as a field that is not there: a template that renders it must not say
/// `None`.
fn seen(value: &Value) -> Seen {
    match value {
        Value::Null => Seen::UNDEFINED,
        Value::Bool(it) => Seen::from(*it),
        Value::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(it), _) => Seen::from(it),
            (None, Some(it)) => Seen::from(it),
            (None, None) => Seen::from(it.as_f64().unwrap_or_default()),
        },
        Value::String(it) => Seen::from(it.as_str()),
        Value::Array(items) => Seen::from(items.iter().map(seen).collect::<Vec<_>>()),
        Value::Object(pairs) => {
            Seen::from_pairs(pairs.iter().map(|(key, it)| (key.as_str(), seen(it))))
        }
    }
}

fn note(event: &mut Event, text: &str) {
    let notes = event.annotations.entry(NOTE.to_owned()).or_default();
    if !notes.is_empty() {
        notes.push_str("; ");
    }
    notes.push_str(text);
}

/// One item on its way to an event.
struct Rendering<'a> {
    mapper: &'a Mapper,
    seen: Seen,
    problems: Vec<String>,
}

impl Rendering<'_> {
    fn event(mut self, message: &Message<'_>, item: &Value) -> Option<Event> {
        if self.key("skip").is_some_and(|it| !it.eq_ignore_ascii_case("false")) {
            return None;
        }
        let kind = self
            .key("type")
            .map_or_else(|| EventType::from_name(""), |it| EventType::from_name(&it));
        let id = self.key("id").unwrap_or_default();
        let source = self.key("source").unwrap_or_else(|| self.mapper.name.clone());
        let mut event = Event::new(id, kind, source);
        event.target = self.key("target");
        event.fingerprint = self.key("fingerprint");
        event.status = self.status();
        event.severity = self.severity();
        event.starts_at = self.time("starts_at");
        event.ends_at = self.time("ends_at");
        self.labels(&mut event, message.body, item);
        let mapping = &self.mapper.mapping;
        for name in mapping.annotations.keys() {
            if let Some(text) = self.text(&format!("annotations.{name}"), TEXT_CHARS_MAX) {
                event.annotations.insert(name.clone(), text);
            }
        }
        for idx in 0..mapping.links.len() {
            event.links.extend(self.text(&format!("links[{idx}]"), TEXT_CHARS_MAX));
        }
        event.payload = item.clone();
        event.target_from_labels();
        event.cut_times(message.at);
        event.make_visible();
        for problem in std::mem::take(&mut self.problems) {
            note(&mut event, &problem);
        }
        Some(event)
    }

    fn labels(&mut self, event: &mut Event, body: &Value, item: &Value) {
        let mapping = &self.mapper.mapping;
        let roots = BTreeMap::from([("body", body), ("item", item)]);
        let objects = mapping.labels_from.iter().filter_map(|it| at_path(&roots, it)?.as_object());
        for (name, value) in objects.flatten().take(LABELS_MAX) {
            let text = match value {
                Value::String(text) => short_text(text, KEY_CHARS_MAX),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            event.labels.insert(name.clone(), text);
        }
        for name in mapping.labels.keys() {
            if let Some(text) = self.key(&format!("labels.{name}")) {
                event.labels.insert(name.clone(), text);
            }
        }
    }

    /// Renders an identifying text.
    fn key(&mut self, field: &str) -> Option<String> {
        self.text(field, KEY_CHARS_MAX)
    }

    fn text(&mut self, field: &str, chars_max: usize) -> Option<String> {
        let template = self.mapper.templates.get_template(field).ok()?;
        match template.render(self.seen.clone()) {
            Ok(text) => {
                let text = text.trim();
                let says_something = !text.is_empty() && text != NOTHING_OF_GO;
                says_something.then(|| short_text(text, chars_max))
            }
            Err(error) => {
                self.problems.push(format!("`{field}` cannot be rendered: {}", error.kind()));
                None
            }
        }
    }

    fn status(&mut self) -> Status {
        let Some(word) = self.key("status") else { return Status::Firing };
        match word.to_ascii_lowercase().as_str() {
            "resolved" => Status::Resolved,
            "acknowledged" => Status::Acknowledged,
            "change" => Status::Change,
            "firing" => Status::Firing,
            // What is not known is taken as trouble: the other mistake would hide it.
            _ => {
                self.problems.push(format!("`status` rendered as `{word}`, taken as firing"));
                Status::Firing
            }
        }
    }

    fn severity(&mut self) -> Severity {
        let Some(word) = self.key("severity") else { return Severity::default() };
        Severity::from_word(&word).unwrap_or_else(|| {
            self.problems.push(format!("`severity` rendered as `{word}`, taken as error"));
            Severity::default()
        })
    }

    fn time(&mut self, field: &str) -> Option<DateTime<Utc>> {
        let text = self.key(field)?;
        let time = time_of(&text);
        if time.is_none() {
            self.problems.push(format!("`{field}` rendered as `{text}`, which is no time"));
        }
        time
    }
}
