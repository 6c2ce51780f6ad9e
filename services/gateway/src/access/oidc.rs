//! Bearer tokens of a provider of OpenID Connect.
//!
//! The provider's keys are found by discovery (OpenID Connect Discovery 1.0, section 4), kept
//! for a while, and asked for again when a token names one that is not known: so a rotation is
//! followed at once. While the provider is away the keys that were known last count.

mod claims;
mod jwt;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::access::Oidc;
use serde::Deserialize;
use service::{
    BoxError, Chain,
    outgoing::{Client, Outgoing},
};
use tokio::sync::{Mutex, Semaphore};
use tracing::{info, warn};

use crate::problem::Problem;

pub(crate) use claims::Identity;
use jwt::{Key, Unproven};

/// Age at which the keys are asked for again: what the provider takes back counts no longer.
const KEYS_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// Age up to which they count while the provider does not answer.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest time between two questions: anybody can send tokens that name a key nobody has.
const PAUSE: Duration = Duration::from_secs(5);

/// Longest time for one question, of which there are two.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Callers who wait for the provider's answer at one time: anybody can send a token that looks
/// like one of its.
const WAITING_MAX: usize = 64;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not have the form.
    Malformed,
    /// It is not signed in a way that we take.
    Algorithm,
    /// No key of the provider proves it.
    Signature,
    /// Its time is over, or it names no end.
    Expired,
    /// Its time has not begun.
    NotYet,
    /// Another has issued it.
    Issuer,
    /// It is for others.
    Audience,
    /// It is no access token: it tells an application of a log-in or a log-out.
    Use,
    /// It would count for longer than any is taken.
    TooLong,
    /// It names nobody.
    NoName,
    /// None of the groups has a role.
    NoRole {
        /// Whose.
        name: String,
    },
    /// The provider's keys are not known.
    Away,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let hint = "get a new token from the provider; see `access.oidc` in the configuration";
        let wrong = |code, message| Self::new(StatusCode::UNAUTHORIZED, code, message, hint);
        match refusal {
            Refusal::Malformed => wrong("token_malformed", "this is no signed token"),
            Refusal::Algorithm => {
                wrong("token_algorithm", "only tokens signed with RS256, ES256 or EdDSA are taken")
            }
            Refusal::Signature => {
                wrong("token_signature", "no key of the provider proves this token")
            }
            Refusal::Expired => wrong("token_expired", "this token has expired"),
            Refusal::NotYet => wrong("token_not_yet", "this token does not count yet"),
            Refusal::Issuer => wrong("token_issuer", "this token is of another issuer"),
            Refusal::Audience => wrong("token_audience", "this token is for another audience"),
            Refusal::Use => {
                wrong("token_use", "this is not an access token, but one for a log-in or a log-out")
            }
            Refusal::TooLong => {
                wrong("token_too_long", "this token would count for more than 24 h")
            }
            Refusal::NoName => wrong("token_nameless", "this token has no subject"),
            Refusal::NoRole { name } => Self::new(
                StatusCode::FORBIDDEN,
                "no_role",
                format!("`oidc:{name}` is in no group that has a role here"),
                "ask an admin to give one of your groups a role in `access.oidc.roles`",
            ),
            Refusal::Away => Self::later(
                "provider_away",
                "the provider's keys cannot be had, so no token of it can be checked",
                "send it again after the time in Retry-After; see the gateway's log",
                5,
            ),
        }
    }
}

/// Returns whether a text has the form of a provider's token.
pub(crate) fn is_token(text: &str) -> bool {
    jwt::is_one(text)
}

/// A provider, with its keys as they were last known.
#[derive(Debug)]
pub(crate) struct Provider {
    settings: Oidc,
    http: Client,
    known: RwLock<Option<Known>>,
    /// When it was asked last; held while it is asked, so that others wait for that answer.
    asked: Mutex<Option<Instant>>,
    waiting: Semaphore,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Arc<[Key]>,
    at: Instant,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    /// Prepares to ask a provider.
    pub(crate) fn new(settings: Oidc, outgoing: &Outgoing) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .timeout(ASK_TIME_MAX)
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")));
        let http = outgoing.client(builder)?;
        let (known, asked) = (RwLock::new(None), Mutex::new(None));
        Ok(Self { settings, http, known, asked, waiting: Semaphore::new(WAITING_MAX) })
    }

    /// Returns what was configured.
    pub(crate) fn settings(&self) -> &Oidc {
        &self.settings
    }

    /// Returns whose token this is.
    pub(crate) async fn identify(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Identity, Refusal> {
        let unproven = Unproven::read(token)?;
        let keys = self.keys(&unproven, false).await?;
        let claims = match unproven.prove(&keys) {
            // Without a name nothing tells that the key is a new one.
            Err(Refusal::Signature) if unproven.names_no_key() => {
                let keys = self.keys(&unproven, true).await?;
                unproven.prove(&keys)?
            }
            proven => proven?,
        };
        claims::judge(&self.settings, &claims, now)
    }

    /// Returns the keys, asked for anew when they are old or the token's is not among them.
    ///
    /// With `anew` they are asked for although a key could be the one, if that was not just done.
    async fn keys(&self, unproven: &Unproven<'_>, anew: bool) -> Result<Arc<[Key]>, Refusal> {
        let has_key = |known: &Known| unproven.has_key(&known.keys);
        let good = |known: &Known| !anew && known.at.elapsed() < KEYS_AGE_MAX && has_key(known);
        if let Some(known) = self.known().filter(good) {
            return Ok(known.keys);
        }
        let mut asked = match (self.asked.try_lock(), self.known().filter(has_key)) {
            (Ok(asked), _) => asked,
            // Another asks for newer ones: nobody whose key is known waits for that.
            (Err(_busy), Some(known)) if known.at.elapsed() < KEYS_KEPT => return Ok(known.keys),
            (Err(_busy), Some(_) | None) => {
                let Ok(_one_of_few) = self.waiting.try_acquire() else { return Err(Refusal::Away) };
                self.asked.lock().await
            }
        };
        // Another may have asked while we waited.
        let may_ask = asked.is_none_or(|at| PAUSE <= at.elapsed());
        if may_ask && self.known().is_none_or(|known| !good(&known)) {
            let answer = self.ask().await;
            *asked = Some(Instant::now());
            match answer {
                Ok(keys) => {
                    info!(
                        issuer = self.settings.issuer,
                        n_keys = keys.len(),
                        "the provider's keys are known"
                    );
                    let known = Known { keys: keys.into(), at: Instant::now() };
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
                }
                Err(error) => warn!(
                    issuer = self.settings.issuer,
                    error = %Chain(&*error),
                    hint = "see whether this host reaches the issuer, and trusts its certificate (SSL_CERT_FILE)",
                    "cannot get the provider's keys"
                ),
            }
        }
        let known = self.known().filter(|known| known.at.elapsed() < KEYS_KEPT);
        known.map(|known| known.keys).ok_or(Refusal::Away)
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self) -> Result<Vec<Key>, BoxError> {
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Discovery = serde_json::from_slice(&self.get(&url).await?)?;
        if found.issuer != *issuer {
            return Err(format!("the provider calls itself `{}`", found.issuer).into());
        }
        if issuer.starts_with("https://") && !found.jwks_uri.starts_with("https://") {
            return Err(
                "the provider's keys would come over a wire that anybody can write to".into()
            );
        }
        let keys = jwt::keys(&self.get(&found.jwks_uri).await?)?;
        if keys.is_empty() {
            return Err("the provider has no key for RS256, ES256 or EdDSA".into());
        }
        Ok(keys)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, BoxError> {
        let mut answer = self.http.get(url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if ANSWER_BYTES_MAX < body.len() + part.len() {
                return Err(format!("{url} answers with more than {ANSWER_BYTES_MAX} bytes").into());
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
