//! Doors for what others send: who may come in, and what their messages mean.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Finding, finding};
use crate::{
    mapping::{self, Mapper},
    secret::SecretRef,
};

/// Integrations of one configuration.
const INTEGRATIONS_MAX: usize = 200;

/// Formats that the gateway knows by itself. An entry of this name may give a secret, but
/// no mapping.
pub const BUILT_IN: [&str; 3] = ["alertmanager", "grafana", "pagerduty"];

/// One door: `POST /integrations/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// The last part of the path; also the source of its events, unless they name another.
    pub name: String,
    /// The ready mapping that it uses; when absent, that of its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Its own mapping, in place of a ready one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// What a sender without an API token must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Lock>,
    /// Topics of Amazon SNS whose signed messages are taken; only with `envelope: sns`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// What a sender must know. Exactly one of the ways is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lock {
    /// `Authorization: Bearer <secret>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
    /// `Authorization: Basic …`, also from a URL with user and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A header whose value is the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Named>,
    /// A parameter of the URL whose value is the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Named>,
    /// A signature over the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
    /// Routing keys that are taken; for `pagerduty` alone, whose clients can send nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routing_keys: Vec<SecretRef>,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user.
    pub user: String,
    /// The password.
    pub password: SecretRef,
}

/// A place with a name, and what must stand there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Name of the header or parameter.
    pub name: String,
    /// What must stand there.
    pub value: SecretRef,
}

/// A signature: HMAC-SHA256 of the body, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The key.
    pub secret: SecretRef,
    /// The header that holds the signature.
    #[serde(default = "signature_header")]
    pub header: String,
    /// What stands before the digits, such as `sha256=`; it may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The header that holds Unix seconds: `<seconds>:<body>` is signed then, and what is older
    /// than five minutes is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
}

/// The default of Grafana.
fn signature_header() -> String {
    "X-Grafana-Alerting-Signature".to_owned()
}

/// What a message means. Each text is a template of `minijinja`; what renders as nothing is
/// absent. Templates see `body`, `item`, `headers`, `query` and `name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Headers and their values, without which a message is no event; `*` is any value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
    /// What the message is wrapped into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Wrapping>,
    /// Path of a list in the message, such as `body.alerts`: each item is one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// Renders as anything but `false`: the item is no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// The type; any name is made into one. `alert` when absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The sender's id of this delivery: the same again is one event. Made up when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who observed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The sender's key for "the same trouble".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// `firing`, `resolved`, `acknowledged` or `change`; `firing` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How bad, in any of the usual words; `error` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
    /// Until when: the end of a lease while it fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Identifying texts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Paths of objects whose texts, numbers and booleans become labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels_from: Vec<String>,
    /// Explaining texts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// What a message is wrapped into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wrapping {
    /// A notification of Amazon SNS: its signature is checked, a subscription confirmed, and
    /// `body` is what its `Message` holds.
    Sns,
}

impl Integration {
    /// Returns a door without a secret that uses a ready mapping.
    #[must_use]
    pub fn of_preset(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            preset: None,
            mapping: None,
            secret: None,
            topics: Vec::new(),
        }
    }

    /// Returns the mapping: its own, or the ready one; none for what is built in.
    #[must_use]
    pub fn mapping(&self) -> Option<Mapping> {
        let ready = || mapping::preset(self.preset.as_deref().unwrap_or(&self.name));
        self.mapping.clone().or_else(ready)
    }
}

impl Lock {
    /// Returns everything that it refers to, with the field's name.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let mut all = Vec::new();
        all.extend(self.bearer.iter().map(|it| ("bearer", it)));
        all.extend(self.basic.iter().map(|it| ("basic.password", &it.password)));
        all.extend(self.header.iter().map(|it| ("header.value", &it.value)));
        all.extend(self.query.iter().map(|it| ("query.value", &it.value)));
        all.extend(self.hmac.iter().map(|it| ("hmac.secret", &it.secret)));
        all.extend(self.routing_keys.iter().map(|it| ("routing_keys", it)));
        all
    }

    fn n_ways(&self) -> usize {
        let ways = [
            self.bearer.is_some(),
            self.basic.is_some(),
            self.header.is_some(),
            self.query.is_some(),
            self.hmac.is_some(),
            !self.routing_keys.is_empty(),
        ];
        ways.into_iter().filter(|it| *it).count()
    }
}

/// Returns the mistakes of all doors.
pub(super) fn findings(integrations: &[Integration], found: &mut Vec<Finding>) {
    let mut names = BTreeSet::new();
    if INTEGRATIONS_MAX < integrations.len() {
        let message = format!("at most {INTEGRATIONS_MAX} integrations");
        found.push(finding("integrations", message, "let several senders share one"));
    }
    for (idx, one) in integrations.iter().enumerate() {
        let path = format!("integrations[{idx}]");
        let legal = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
        if !(1..=64).contains(&one.name.len()) || !one.name.chars().all(legal) {
            let message = format!("`{}` is not a name of an integration", one.name);
            let hint = "use 1 to 64 letters, digits, `_` or `-`: it is part of the path";
            found.push(finding(format!("{path}.name"), message, hint));
        }
        if !names.insert(one.name.as_str()) {
            let message = format!("integration `{}` is there twice", one.name);
            found.push(finding(format!("{path}.name"), message, "give each one its own name"));
        }
        meaning_findings(one, &path, found);
        if let Some(lock) = &one.secret {
            lock_findings(one, lock, &format!("{path}.secret"), found);
        }
    }
}

fn meaning_findings(one: &Integration, path: &str, found: &mut Vec<Finding>) {
    let is_built_in = BUILT_IN.contains(&one.name.as_str());
    if is_built_in && (one.mapping.is_some() || one.preset.is_some()) {
        let message = format!("`{}` is known by itself and takes no mapping", one.name);
        found.push(finding(path, message, "keep only `secret`, or choose another name"));
        return;
    }
    if one.mapping.is_some() && one.preset.is_some() {
        let hint = "keep one; a ready mapping is shown in docs/integrations.md";
        found.push(finding(path, "there is a `preset` and a `mapping`", hint));
    }
    let mapping = one.mapping();
    let known = || mapping::presets().map(|it| it.0).collect::<Vec<_>>().join(", ");
    match (&one.preset, &mapping) {
        (Some(preset), None) => {
            let message = format!("there is no preset `{preset}`");
            let hint = format!("known are: {}", known());
            found.push(finding(format!("{path}.preset"), message, &hint));
        }
        (None, None) if !is_built_in => {
            let message = format!("nothing says what messages to `{}` mean", one.name);
            let hint = format!("add a `mapping`, or a `preset`: {}", known());
            found.push(finding(path, message, &hint));
        }
        (_, _) => {}
    }
    if let Some(Err(error)) = one.mapping.as_ref().map(|it| Mapper::new(&one.name, it)) {
        let hint = "see docs/integrations.md for what templates may say";
        let at = format!("{path}.mapping.{}", error.field);
        found.push(finding(at, error.message, hint));
    }
    let is_sns = mapping.is_some_and(|it| it.envelope == Some(Wrapping::Sns));
    if !one.topics.is_empty() && !is_sns {
        let hint = "remove it, or add `envelope: sns` to the mapping";
        found.push(finding(format!("{path}.topics"), "only messages of SNS have a topic", hint));
    }
}

fn lock_findings(one: &Integration, lock: &Lock, path: &str, found: &mut Vec<Finding>) {
    if lock.n_ways() != 1 {
        let message = "name exactly one of bearer, basic, header, query, hmac, routing_keys";
        found.push(finding(path, message, "such as `bearer: {env: SECRET_ALERTS}`"));
    }
    if !lock.routing_keys.is_empty() && one.name != "pagerduty" {
        let message = "only `pagerduty` has routing keys";
        found.push(finding(format!("{path}.routing_keys"), message, "use bearer, basic or hmac"));
    }
    for (field, secret) in lock.secrets() {
        if let Err(error) = secret.place() {
            let hint = "such as `{env: SECRET_ALERTS}` or `{file: /etc/selfheal/secrets/alerts}`";
            found.push(finding(format!("{path}.{field}"), error.to_string(), hint));
        }
    }
}
