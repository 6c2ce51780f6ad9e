//! Receivers: each has a name and exactly one way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Quiet;
use crate::{policy::Notifier, secret::SecretRef, span::Rates};

/// Somebody, or something, that can be told. Exactly one field names the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Receiver {
    /// Its name; routes and escalations name it.
    pub name: String,
    /// A channel in Slack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// A channel in Microsoft Teams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams: Option<Teams>,
    /// A service in PagerDuty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDuty>,
    /// Mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Any URL that takes JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// An Alertmanager, which tells others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Alertmanager>,
    /// `true`: a line in the gateway's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// Whether it is sent links by which whoever holds them decides about a plan; absent: yes.
    /// One in Slack is sent none while the buttons there ask who presses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_links: Option<bool>,
    /// Hours in which it is only told what is urgent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// How often it is told at most; what is more waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rates>,
}

/// A channel in Slack: an incoming webhook, or a bot's token and a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slack {
    /// The URL of an incoming webhook. Each notice is a message of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SecretRef>,
    /// A bot's token (`xoxb-…`). One message for each incident, kept up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The id of the channel, such as `C012AB3CD`; with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Where the API is; absent: `https://slack.com/api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

/// A channel in Microsoft Teams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Teams {
    /// The URL of a workflow that posts what it is sent.
    pub webhook: SecretRef,
}

/// A service in PagerDuty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// The integration key of the service (Events API v2).
    pub routing_key: SecretRef,
    /// Where events go; absent: `https://events.pagerduty.com/v2/enqueue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Mail, by SMTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// Name of the server.
    pub server: String,
    /// Its port; absent: 587 with `starttls`, 465 with `tls`, 25 with `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// File with the certificates (PEM) that are trusted besides those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Who logs in, if somebody must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// With which password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The sender's address.
    pub from: String,
    /// The addresses it goes to.
    pub to: Vec<String>,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// It begins in the clear and must change to TLS before anything is told.
    #[default]
    Starttls,
    /// TLS from the beginning.
    Tls,
    /// Not at all: only for a server on the same host.
    None,
}

/// Any URL that takes JSON by POST.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// The URL, when it is no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the URL is, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretRef>,
    /// The body, as a template; absent: the notice as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The `content-type` of what the template gives; absent: `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Signs each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// An Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Where it is, such as `http://127.0.0.1:9093`.
    pub url: String,
}

/// A receiver's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// A channel in Slack.
    Slack(&'a Slack),
    /// A channel in Microsoft Teams.
    Teams(&'a Teams),
    /// A service in PagerDuty.
    PagerDuty(&'a PagerDuty),
    /// Mail.
    Email(&'a Email),
    /// A URL.
    Webhook(&'a Webhook),
    /// An Alertmanager.
    Alertmanager(&'a Alertmanager),
    /// The gateway's log.
    Log,
}

/// Why a receiver has no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name exactly one way: slack, teams, pagerduty, email, webhook, alertmanager or `log: true`"
)]
pub struct NotOneWay;

impl Receiver {
    /// Returns its way.
    ///
    /// # Errors
    ///
    /// When not exactly one is named.
    pub fn way(&self) -> Result<Way<'_>, NotOneWay> {
        let ways = [
            self.slack.as_ref().map(Way::Slack),
            self.teams.as_ref().map(Way::Teams),
            self.pagerduty.as_ref().map(Way::PagerDuty),
            self.email.as_ref().map(Way::Email),
            self.webhook.as_ref().map(Way::Webhook),
            self.alertmanager.as_ref().map(Way::Alertmanager),
            (self.log == Some(true)).then_some(Way::Log),
        ];
        let mut ways = ways.into_iter().flatten();
        match (ways.next(), ways.next()) {
            (Some(way), None) => Ok(way),
            (_, _) => Err(NotOneWay),
        }
    }

    /// Makes a receiver of an entry of the older `policy.notify`; the first is number 0.
    #[must_use]
    pub fn older(n: usize, entry: &Notifier) -> Self {
        let webhook =
            entry.webhook.clone().map(|url| Webhook { url: Some(url), ..Webhook::default() });
        let name = format!("policy-notify-{}", n + 1);
        Self { name, webhook, log: entry.log, ..Self::default() }
    }

    /// Returns the entry of the older `policy.notify` that it was made of, for gateways that
    /// know no receivers; `None` for one that they could not tell.
    #[must_use]
    pub fn as_older(&self) -> Option<Notifier> {
        self.name.starts_with("policy-notify-").then(|| Notifier {
            webhook: self.webhook.as_ref().and_then(|it| it.url.clone()),
            log: self.log,
        })
    }
}
