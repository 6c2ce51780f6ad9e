//! Approval links: who holds one may decide about one exact plan, once, until it expires.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use domain::{
    id::{IncidentId, sha256_hex},
    notify::Notify,
};
use service::{Chain, Secret, read_secret};
use tracing::warn;

use crate::signing::Signer;

/// A shorter secret can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// What is signed begins with this, so that no other signature of the same secret is a link.
const PURPOSE: &str = "selfheal-approve-1";

/// What a link permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The incident.
    pub(crate) incident: IncidentId,
    /// The plan, and no other.
    pub(crate) plan_hash: String,
    /// When it is worth nothing any more.
    pub(crate) expires_at: DateTime<Utc>,
    /// The receiver that it was sent to.
    pub(crate) to: String,
}

/// Makes and reads links.
#[derive(Debug)]
pub(crate) struct Links {
    signer: Signer,
    base: String,
}

impl Links {
    /// Takes what is configured; nothing when links are not wanted, or the secret is not there.
    pub(crate) fn new(notify: &Notify) -> Option<Self> {
        let base = notify.public_url.as_deref()?.trim_end_matches('/').to_owned();
        let secret = match read_secret(notify.link_secret.as_ref()?) {
            Ok(secret) if SECRET_BYTES_MIN <= secret.expose().len() => secret,
            Ok(_) => {
                let hint = "make one with `openssl rand -hex 32`";
                warn!(
                    hint,
                    "the secret of approval links is short enough to be guessed: there are no links"
                );
                return None;
            }
            Err(error) => {
                warn!(error = %Chain(&error), "there are no approval links");
                return None;
            }
        };
        Some(Self::with(&secret, base))
    }

    fn with(secret: &Secret, base: String) -> Self {
        Self { signer: Signer::new(secret), base }
    }

    /// Returns the URL that permits this.
    pub(crate) fn url(&self, grant: &Grant) -> String {
        format!("{}/approve/{}", self.base, self.token(grant))
    }

    fn token(&self, grant: &Grant) -> String {
        let Grant { incident, plan_hash, expires_at, to } = grant;
        let text =
            format!("{PURPOSE} {incident} {plan_hash} {} {to}", expires_at.timestamp_millis());
        let signature = self.signer.sign(&[text.as_bytes()]);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(signature))
    }

    /// Reads a token; `None` when we did not sign it. Its expiry is for the caller to see.
    pub(crate) fn read(&self, token: &str) -> Option<Grant> {
        let (text, signature) = token.split_once('.')?;
        let text = URL_SAFE_NO_PAD.decode(text).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.signer.verifies(&text, &signature) {
            return None;
        }
        let text = String::from_utf8(text).ok()?;
        let mut parts = text.split(' ');
        if parts.next() != Some(PURPOSE) {
            return None;
        }
        let incident = parts.next()?.parse().ok()?;
        let plan_hash = parts.next()?.to_owned();
        let expires_at = DateTime::from_timestamp_millis(parts.next()?.parse().ok()?)?;
        Some(Grant { incident, plan_hash, expires_at, to: parts.next()?.to_owned() })
    }

    /// Returns whether a token is one of ours, and not expired.
    pub(crate) fn is_live(&self, token: &str, now: DateTime<Utc>) -> bool {
        self.read(token).is_some_and(|grant| now < grant.expires_at)
    }
}

/// Names a token where its use is claimed; the token itself is stored nowhere.
pub(crate) fn use_of(token: &str) -> String {
    format!("link-{}", sha256_hex(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_signed_is_a_link() {
        let links = Links::with(&Secret::new("0123456789abcdef"), "https://a.example".to_owned());
        let grant = Grant {
            incident: IncidentId::NONE,
            plan_hash: sha256_hex(b"plan"),
            expires_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            to: "ops".to_owned(),
        };
        let url = links.url(&grant);
        let token = url.strip_prefix("https://a.example/approve/").unwrap();
        assert_eq!(links.read(token), Some(grant.clone()));
        let other = Links::with(&Secret::new("0123456789abcdeF"), String::new());
        assert_eq!(other.read(token), None, "another secret");
        let (text, signature) = token.split_once('.').unwrap();
        let longer = Grant { expires_at: grant.expires_at + chrono::TimeDelta::days(1), ..grant };
        let forged = links.token(&longer);
        let forged = format!("{}.{signature}", forged.split_once('.').unwrap().0);
        for wrong in [forged.as_str(), text, "", ".", "a.b", &format!("{token}A")] {
            assert_eq!(links.read(wrong), None, "{wrong}");
        }
        assert!(!use_of(token).contains(text));
    }
}
