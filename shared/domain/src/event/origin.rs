//! Who sent an event, as it was proven where the event came in.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delivery, Event};
use crate::id::digest;

/// Sources of our own agents begin with this; nobody else may call himself so.
pub const RESERVED_PREFIX: &str = "selfheal/";

/// The origin of what came straight from the broker: that its sender may publish is all that is
/// proven.
pub const NATS: &str = "nats";

/// Who sent an event: the principal that was proven, never what the event says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EventOrigin")]
pub struct Origin {
    /// Such as `token:ci`, `integration:grafana`, `local` or `nats`.
    pub name: String,
    /// Whether the sender has the role operator at least: then its word counts for incidents of
    /// others.
    #[serde(default, skip_serializing_if = "is_not")]
    pub operator: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_not(it: &bool) -> bool {
    !*it
}

impl Origin {
    /// Returns the origin of somebody who may publish events and no more.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), operator: false }
    }

    /// Says whether the sender has the role operator at least.
    #[must_use]
    pub fn operator(self, operator: bool) -> Self {
        Self { operator, ..self }
    }
}

impl Event {
    /// Says who sent the event. A source that is reserved for our own agents is not left to
    /// anybody else: it is shown with who claims it.
    #[must_use]
    pub fn sent_by(mut self, origin: Origin) -> Self {
        if is_reserved(&self.source) {
            self.source = format!("{} ({})", origin.name, self.source.trim());
        }
        self.origin = Some(origin);
        self
    }

    /// Returns what tells its sender from all others: the source that it gives itself, and the
    /// origin that was proven.
    #[must_use]
    pub fn sender(&self) -> Cow<'_, str> {
        sender(&self.source, self.origin.as_ref())
    }

    /// Returns whose it is where each sender has a limit: the origin, which its sender cannot
    /// choose, or the source where none is known.
    #[must_use]
    pub fn whose(&self) -> &str {
        self.origin.as_ref().map_or(&self.source, |it| &it.name)
    }

    /// Returns what stands for an event where many are remembered: the same delivery comes from
    /// the same origin with the same id, and says the same type and target.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match &self.origin {
            None => Delivery::of(&self.source, &self.id),
            Some(origin) => {
                let target = self.target.as_deref().unwrap_or_default();
                Delivery(digest(&[
                    &origin.name,
                    &self.source,
                    &self.id,
                    self.kind.as_str(),
                    target,
                ]))
            }
        }
    }
}

/// Returns what tells a sender from all others.
#[must_use]
pub(crate) fn sender<'a>(source: &'a str, origin: Option<&Origin>) -> Cow<'a, str> {
    match origin {
        None => Cow::Borrowed(source),
        Some(origin) => Cow::Owned(format!("{source}\n{}", origin.name)),
    }
}

/// Returns the origin that stands in a sender.
#[must_use]
pub(crate) fn origin_of(sender: &str) -> Option<&str> {
    sender.split_once('\n').map(|(_, origin)| origin)
}

/// Returns the source that stands in a sender.
#[must_use]
pub(crate) fn source_of(sender: &str) -> &str {
    sender.split_once('\n').map_or(sender, |(source, _)| source)
}

/// Returns whether a source could be taken for one of ours, also by a person who reads it.
fn is_reserved(source: &str) -> bool {
    let plain: String = source.chars().filter(|it| it.is_alphanumeric() || *it == '/').collect();
    plain.to_lowercase().starts_with(RESERVED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    fn event(source: &str) -> Event {
        Event::new("1", EventType::known("service_down"), source)
    }

    #[test]
    fn nobody_else_speaks_as_one_of_our_agents() {
        for source in
            ["selfheal/monitor", " selfheal/monitor", "SelfHeal/monitor", "self-heal/monitor"]
        {
            let sent = event(source).sent_by(Origin::new("token:ci"));
            assert!(sent.source.starts_with("token:ci ("), "{}", sent.source);
        }
        for source in ["prometheus", "ops/selfheal/x", "selfhealing"] {
            assert_eq!(event(source).sent_by(Origin::new("token:ci")).source, source);
        }
    }

    #[test]
    fn another_origin_type_or_target_under_a_known_id_is_another_delivery() {
        let sent = event("backups").sent_by(Origin::new("token:ci"));
        let other = |change: fn(&mut Event)| {
            let mut other = sent.clone();
            change(&mut other);
            other.delivery()
        };
        assert_eq!(other(|it| it.severity = super::super::Severity::Info), sent.delivery());
        assert_ne!(other(|it| it.origin = Some(Origin::new("nats"))), sent.delivery());
        assert_ne!(other(|it| it.origin = None), sent.delivery());
        assert_ne!(other(|it| it.kind = EventType::known("note")), sent.delivery());
        assert_ne!(other(|it| it.target = Some("db".to_owned())), sent.delivery());
        assert_ne!(other(|it| "x".clone_into(&mut it.source)), sent.delivery());
    }

    #[test]
    fn a_sender_is_its_source_and_its_origin() {
        assert_eq!(event("a").sender(), "a");
        let sent = event("a").sent_by(Origin::new("nats"));
        assert_eq!((source_of(&sent.sender()), origin_of(&sent.sender())), ("a", Some("nats")));
        assert_eq!((source_of("a"), origin_of("a")), ("a", None));
    }
}
