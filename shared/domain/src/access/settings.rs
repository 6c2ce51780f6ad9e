//! The section `access` of the configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Role;
use crate::{config::Finding, span::Rates};

/// Who may come in besides the holders of our own tokens, and how often anybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// A provider whose bearer tokens are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
    /// How often each caller may come to each gateway; without limit, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimits>,
}

/// A provider of OpenID Connect. Its tokens are checked against the keys that it publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Its URL, exactly as its tokens name it in `iss`.
    pub issuer: String,
    /// What must be in `aud`: the name of this installation at the provider.
    pub audience: String,
    /// The claim that holds the groups; a dot leads into an object, as `realm_access.roles`.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// The claim that names the person in the log.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// Which role a group has. Who is in none of these may nothing.
    pub roles: BTreeMap<String, Role>,
}

/// How often each caller may come to each gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Requests that bring events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Rates>,
    /// All other requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rates>,
}

fn role_claim() -> String {
    "groups".to_owned()
}

fn name_claim() -> String {
    "sub".to_owned()
}

impl Access {
    /// Returns whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the mistakes, with paths from the top of the configuration.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(oidc) = &self.oidc {
            oidc.findings(&mut found);
        }
        if let Some(rate) = &self.rate {
            let both = [("events", &rate.events), ("requests", &rate.requests)];
            for (name, rates) in both {
                let none = rates.iter().any(|it| it.0.iter().any(|rate| rate.count == 0));
                if none {
                    found.push(finding(
                        &format!("access.rate.{name}"),
                        "a rate of 0 rejects all requests",
                        "such as `100/s`, or leave it out for no limit",
                    ));
                }
            }
        }
        found
    }
}

impl Oidc {
    fn findings(&self, found: &mut Vec<Finding>) {
        if !is_safe_url(&self.issuer) {
            found.push(finding(
                "access.oidc.issuer",
                "must be a https URL; http only to this host",
                "give the `issuer` that the provider's /.well-known/openid-configuration shows",
            ));
        }
        for (name, text) in [
            ("audience", &self.audience),
            ("role_claim", &self.role_claim),
            ("name_claim", &self.name_claim),
        ] {
            if text.trim().is_empty() {
                let hint = "leave the line out for the default, or name it as the provider does";
                found.push(finding(&format!("access.oidc.{name}"), "is empty", hint));
            }
        }
        if self.roles.is_empty() {
            found.push(finding(
                "access.oidc.roles",
                "no group has a role, so no user could do anything",
                "such as `roles: {on-call: approver}`",
            ));
        }
    }
}

/// Keys that come over a wire that anybody can write to would let anybody in.
fn is_safe_url(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix("https://") {
        return !rest.is_empty() && !rest.starts_with('/');
    }
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn finding(path: &str, message: &str, hint: &str) -> Finding {
    Finding { path: path.to_owned(), message: message.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        match crate::config::parse(text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|it| format!("{}: {}", it.line, it.message)).collect(),
        }
    }

    #[test]
    fn a_section_of_access_is_read_with_its_defaults() {
        let config = crate::config::parse(
            "access:\n  oidc: {issuer: 'https://id.example', audience: selfheal, roles: {ops: operator}}\n  rate: {events: 100/s}\n",
        )
        .unwrap();
        let oidc = config.access.oidc.clone().unwrap();
        assert_eq!((oidc.role_claim.as_str(), oidc.name_claim.as_str()), ("groups", "sub"));
        assert_eq!(oidc.roles["ops"], Role::Operator);
        let stored = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<crate::config::Config>(&stored).unwrap(), config);
    }

    #[test]
    fn what_would_open_the_door_is_refused_with_its_line() {
        let with = |issuer: &str, roles: &str| {
            messages(&format!(
                "access:\n  oidc:\n    issuer: '{issuer}'\n    audience: a\n    roles: {roles}\n"
            ))
        };
        assert!(with("https://id.example", "{a: viewer}").is_empty());
        assert!(with("http://127.0.0.1:9400", "{a: viewer}").is_empty());
        for issuer in ["http://id.example", "http://localhost.evil.example", "id.example", ""] {
            assert!(with(issuer, "{a: viewer}")[0].starts_with("3:"), "{issuer}");
        }
        assert!(with("https://id.example", "{}")[0].contains("no group"));
        assert_eq!(with("https://id.example", "{a: root}").len(), 1, "no such role");
        assert!(messages("access: {rate: {events: 0/s}}")[0].contains("rejects all"));
    }
}
