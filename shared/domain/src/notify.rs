//! Who is told of what, by which way, and when: receivers, routes and escalations.
//!
//! What is told is decided by the desk ([`crate::desk`]); gateways only send. A receiver has
//! one way. Its secrets are referred to, never written down.

mod audience;
mod occasion;
mod quiet;
mod receiver;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use audience::{Audience, Subject};
pub use occasion::Occasion;
pub use quiet::{ClockTime, NotATime, Quiet};
pub use receiver::{
    Alertmanager, Email, NotOneWay, PagerDuty, Receiver, Slack, Teams, Tls, Way, Webhook,
};

use crate::{event::Severity, policy::Notifier, secret::SecretRef, span::Span};

/// Who is told of what. Empty: nobody, but those of [`crate::policy::Policy::notify`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Where people reach a gateway, such as `https://selfheal.example.org`; for links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Signs approval links; without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_secret: Option<SecretRef>,
    /// The Slack app whose buttons are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackApp>,
    /// Everybody who can be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<Receiver>,
    /// Who is told after whom, until somebody acknowledges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub escalations: Vec<Escalation>,
    /// Which notices go to whom; the first that fits counts. None: everything to everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// When one source has so many incidents that people are told of them together.
    #[serde(skip_serializing_if = "Flood::is_default")]
    pub flood: Flood,
}

/// When one source has so many incidents that people are told of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "NotificationFlood")]
pub struct Flood {
    /// People are notified of so many incidents of one source one by one; all external sources
    /// together have four times as many.
    #[schemars(range(min = 1))]
    pub incidents: u32,
    /// Within this time.
    pub within: Span,
    /// Time between two summaries of the others. Without a new incident the flood is over.
    pub summary: Span,
}

impl Default for Flood {
    fn default() -> Self {
        Self { incidents: 50, within: Span::from_secs(600), summary: Span::from_secs(1800) }
    }
}

impl Flood {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The Slack app whose buttons are answered at `/integrations/slack/actions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackApp {
    /// Slack's signing secret of the app.
    pub signing_secret: SecretRef,
    /// Ids of the Slack users who may approve and reject, such as `U012AB3CD`.
    #[serde(default)]
    pub approvers: Vec<String>,
}

/// Who is told after whom, until somebody acknowledges or the incident needs nobody any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EscalationPlan")]
pub struct Escalation {
    /// Its name; routes name it.
    pub name: String,
    /// In their order.
    pub steps: Vec<EscalationStep>,
}

/// One step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationStep {
    /// How long after the step before; of the first one, after the occasion.
    #[serde(default)]
    pub after: Span,
    /// Names of the receivers that are told.
    pub tell: Vec<String>,
}

/// Which notices go to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Which incidents it is for; absent: all.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// Of what is told; absent: [`Occasion::BY_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<Occasion>>,
    /// Names of the receivers that are told at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<String>,
    /// Name of the escalation that begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
    /// Whether the routes after it are looked at, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub r#continue: bool,
}

/// Which incidents are meant: those that fit all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Minimum severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// With all of these labels, of the event or of its target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// About one of these targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Of one of these types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

impl Match {
    /// Returns whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Notify {
    /// Returns whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the receiver of this name.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|it| it.name == name)
    }

    /// Returns whether a link that was sent to a receiver permits to decide. Where buttons ask who
    /// presses them, a link that asks nobody would void the list of approvers.
    #[must_use]
    pub fn decides_by_link(&self, to: &Receiver) -> bool {
        let has_buttons = self.slack.is_some() && to.slack.is_some();
        !has_buttons && to.approval_links.unwrap_or(true)
    }

    /// Returns the escalation of this name.
    #[must_use]
    pub fn escalation(&self, name: &str) -> Option<&Escalation> {
        self.escalations.iter().find(|it| it.name == name)
    }

    /// Returns what is in force: with those of the older `policy.notify`, who are told when a
    /// person is called and when an approval is wanted, and with the route that is meant when
    /// there is none.
    #[must_use]
    pub fn with(&self, older: &[Notifier]) -> Self {
        let mut whole = self.clone();
        if whole.routes.is_empty() && !whole.receivers.is_empty() {
            let tell = whole.receivers.iter().map(|it| it.name.clone()).collect();
            whole.routes.push(Route { tell, ..Route::default() });
        }
        let older: Vec<_> =
            older.iter().enumerate().map(|(n, it)| Receiver::older(n, it)).collect();
        if !older.is_empty() {
            let route = Route {
                on: Some(vec![
                    Occasion::ApprovalWanted,
                    Occasion::Escalated,
                    Occasion::Reopened,
                    Occasion::Storm,
                ]),
                tell: older.iter().map(|it| it.name.clone()).collect(),
                r#continue: true,
                ..Route::default()
            };
            whole.routes.insert(0, route);
        }
        whole.receivers.extend(older);
        whole
    }
}
