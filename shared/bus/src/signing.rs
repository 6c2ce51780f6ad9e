//! Who wrote a message that is believed: signatures of supervisors.
//!
//! The broker asks no permission for the subject that an answer goes to, so whoever may ask it
//! anything can make it store something anywhere. What counts is therefore not where a message
//! stands but who signed it, for which place.
//!
//! A signature is one by Ed25519 over these bytes: `selfheal/1`, the subject, the sequence in
//! decimal, each followed by a line feed, then the payload. The sequence binds it to one place:
//! a message that is stored again elsewhere is not valid there. In the ledger the SHA-256 of the
//! message before stands behind the subject, so nothing can be taken out in between.

use std::{fmt, path::Path, sync::Arc};

use async_nats::{HeaderMap, HeaderValue};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::{KeyPair, KeyPairType};

use crate::Error;

/// Names the key, and holds the signature, parted by a blank.
pub(crate) const SIGNATURE: &str = "Selfheal-Signature";

/// Names the SHA-256 of the message of the ledger before.
pub(crate) const PREVIOUS: &str = "Selfheal-Previous";

/// In place of a sequence, for what may stand anywhere: it holds what keeps it from being done
/// twice or too late.
pub(crate) const ANYWHERE: u64 = 0;

/// Begins what is signed, and tells the version of its form.
const CONTEXT: &str = "selfheal/1";

/// Keys to sign with and to check signatures by.
///
/// Without any, an installation does not sign: then everything counts that its writers mark as
/// theirs, as long as they are the only ones who may write there.
#[derive(Clone, Default)]
pub struct Keys {
    own: Option<Arc<KeyPair>>,
    trusted: Arc<[Trusted]>,
}

struct Trusted {
    name: String,
    key: KeyPair,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.trusted.iter().map(|it| it.name.as_str()).collect();
        f.debug_struct("Keys").field("signs", &self.own.is_some()).field("trusted", &names).finish()
    }
}

/// Why a message does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// It has nothing of what a supervisor writes with each append.
    #[error("no supervisor has written it")]
    NoAppend,
    /// It carries no signature.
    #[error("it is not signed")]
    Unsigned,
    /// Its writer is none of the supervisors that are trusted.
    #[error("it is signed with key {0}, which is not trusted")]
    Stranger(String),
    /// The signature is not one of this message in this place.
    #[error("its signature is not valid for its content and its place")]
    Invalid,
}

impl Keys {
    /// Reads the seed of our own key from a file, and takes the public keys of others, as the
    /// `nk` tool writes them. Our own is trusted.
    ///
    /// # Errors
    ///
    /// [`Error::Option`], when the file cannot be read or a key is none.
    pub fn new(own: Option<&Path>, trusted: &[String]) -> Result<Self, Error> {
        let own = own.map(read).transpose()?;
        let mut all = Vec::new();
        for name in trusted {
            let key = KeyPair::from_public_key(name).map_err(|error| Error::Option {
                option: "trusted-keys",
                reason: format!("`{name}` is no public key: {error}"),
            })?;
            all.push(Trusted { name: name.clone(), key });
        }
        if let Some(own) = &own
            && all.iter().all(|it| it.name != own.public_key())
            && let Ok(key) = KeyPair::from_public_key(&own.public_key())
        {
            all.push(Trusted { name: own.public_key(), key });
        }
        Ok(Self { own: own.map(Arc::new), trusted: all.into() })
    }

    /// Returns whether only what is signed counts.
    #[must_use]
    pub fn are_required(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// Returns whether we sign.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.own.is_some()
    }

    /// Returns the header's value for a message, if we sign.
    pub(crate) fn sign(&self, subject: &str, seq: u64, payload: &[u8]) -> Option<String> {
        let own = self.own.as_ref()?;
        let signature = own.sign(&signed(subject, seq, payload)).ok()?;
        Some(format!("{} {}", own.public_key(), URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns the header's value for a message that follows another, whose hash is given.
    pub(crate) fn sign_linked(
        &self,
        subject: &str,
        seq: u64,
        previous: &str,
        payload: &[u8],
    ) -> Option<String> {
        self.sign(&linked(subject, previous), seq, payload)
    }

    /// Judges a message that stands at `seq`. One that names the message before it has signed
    /// this, too.
    ///
    /// # Errors
    ///
    /// [`Unbelieved`].
    pub(crate) fn judge(
        &self,
        subject: &str,
        seq: u64,
        headers: Option<&HeaderMap>,
        payload: &[u8],
    ) -> Result<(), Unbelieved> {
        let header = |name: &str| headers.and_then(|it| it.get(name)).map(HeaderValue::as_str);
        let value = header(SIGNATURE);
        match header(PREVIOUS) {
            Some(before) => self.judge_value(&linked(subject, before), seq, value, payload),
            None => self.judge_value(subject, seq, value, payload),
        }
    }

    /// Judges the value of the header.
    ///
    /// # Errors
    ///
    /// [`Unbelieved`].
    pub(crate) fn judge_value(
        &self,
        subject: &str,
        seq: u64,
        value: Option<&str>,
        payload: &[u8],
    ) -> Result<(), Unbelieved> {
        if !self.are_required() {
            return Ok(());
        }
        let value = value.ok_or(Unbelieved::Unsigned)?;
        let (name, signature) = value.split_once(' ').ok_or(Unbelieved::Invalid)?;
        let trusted = self.trusted.iter().find(|it| it.name == name);
        let Some(trusted) = trusted else { return Err(Unbelieved::Stranger(shown(name))) };
        // Why it is not valid is no matter: what is forged says nothing.
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().ok_or(Unbelieved::Invalid)?;
        let judged = trusted.key.verify(&signed(subject, seq, payload), &signature);
        judged.ok().ok_or(Unbelieved::Invalid)
    }
}

/// What stands in place of the subject when something besides the place is signed, such as the
/// message before. No subject has a line feed, so it cannot be taken for one.
pub(crate) fn linked(subject: &str, previous: &str) -> String {
    format!("{subject}\n{previous}")
}

/// Makes a new key: its seed, which is a secret, and its public key.
///
/// # Errors
///
/// When the seed cannot be written.
pub fn new_key() -> Result<(String, String), Error> {
    let key = KeyPair::new(KeyPairType::User);
    let seed = key.seed().map_err(|error| bad(error.to_string()))?;
    Ok((seed, key.public_key()))
}

/// Returns the public key of a seed in a file.
///
/// # Errors
///
/// [`Error::Option`], when it cannot be read.
pub fn public_key(seed: &Path) -> Result<String, Error> {
    Ok(read(seed)?.public_key())
}

fn bad(reason: String) -> Error {
    Error::Option { option: "signing-key", reason }
}

fn read(path: &Path) -> Result<KeyPair, Error> {
    let at = |error: String| bad(format!("{}: {error}", path.display()));
    let seed = private::read_secret(path).map_err(|error| at(error.to_string()))?;
    KeyPair::from_seed(seed.trim()).map_err(|error| at(format!("it holds no seed: {error}")))
}

fn signed(subject: &str, seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{CONTEXT}\n{subject}\n{seq}\n").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A name of a stranger's choice, for people.
fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).take(60).collect()
}
