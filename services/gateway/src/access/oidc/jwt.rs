//! Signed tokens (JWS compact, RFC 7515 and 7519), and the keys that prove them (RFC 7517, 7518).
//!
//! Three algorithms are taken, each with a public key of its own kind: RS256, ES256 and EdDSA.
//! There is no code for `none` or for a shared secret, so no header can ask for them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::Refusal;

/// Longest token. Those with many groups have some kilobytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Most keys of a provider; during a rotation it has two or three.
pub(super) const KEYS_MAX: usize = 64;

/// An algorithm that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    fn read(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A public key, of one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point in the uncompressed form.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            // Keys of fewer than 2048 bits are refused by it.
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// A key as a provider publishes it.
#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Debug, Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// Reads a set of keys. Those of other kinds and for other purposes are left out.
pub(super) fn keys(text: &[u8]) -> Result<Vec<Key>, serde_json::Error> {
    let set: JwkSet = serde_json::from_slice(text)?;
    let keys = set.keys.into_iter().take(KEYS_MAX);
    Ok(keys.filter_map(|it| key(serde_json::from_value(it).ok()?)).collect())
}

fn key(jwk: Jwk) -> Option<Key> {
    if jwk.purpose.is_some_and(|it| it != "sig") {
        return None;
    }
    let bytes = |text: &Option<String>| {
        URL_SAFE_NO_PAD.decode(text.as_deref()?).ok().filter(|it| !it.is_empty())
    };
    let curve = jwk.crv.as_deref().unwrap_or_default();
    let material = match (jwk.kty.as_str(), curve) {
        ("RSA", _) => Material::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? },
        ("EC", "P-256") => {
            Material::P256([&[4], bytes(&jwk.x)?.as_slice(), bytes(&jwk.y)?.as_slice()].concat())
        }
        ("OKP", "Ed25519") => Material::Ed25519(bytes(&jwk.x)?),
        _ => return None,
    };
    let is_for = |name: &String| Algorithm::read(name) == Some(material.algorithm());
    if !jwk.alg.iter().all(is_for) {
        return None;
    }
    Some(Key { id: jwk.kid, material })
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What kind of token it is.
    typ: Option<String>,
    /// Extensions that must be understood; we know none.
    crit: Option<Value>,
}

/// A token taken apart, whose signature is not proven yet.
#[derive(Debug)]
pub(super) struct Unproven<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// Returns whether a token of this `typ` may be an access token (RFC 9068, section 4; `JWT` says
/// nothing). A log-out token is `logout+jwt`.
fn may_be_access(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// Returns whether a text has the form of such a token.
pub(super) fn is_one(text: &str) -> bool {
    text.starts_with("ey") && text.split('.').count() == 3
}

impl<'a> Unproven<'a> {
    /// Takes a token apart, and refuses what no key could prove.
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        if TOKEN_BYTES_MAX < text.len() {
            return Err(Refusal::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_form| Refusal::Malformed);
        let header: Header =
            serde_json::from_slice(&decoded(header)?).map_err(|_form| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let algorithm = Algorithm::read(&header.alg).ok_or(Refusal::Algorithm)?;
        if !header.typ.as_deref().is_none_or(may_be_access) {
            return Err(Refusal::Use);
        }
        Ok(Self { algorithm, key_id: header.kid, signed, payload, signature: decoded(signature)? })
    }

    /// Returns whether one of the keys could be the one that the token names.
    pub(super) fn has_key(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| self.may_be(key))
    }

    /// Returns whether the token leaves open which key proves it.
    pub(super) fn names_no_key(&self) -> bool {
        self.key_id.is_none()
    }

    fn may_be(&self, key: &Key) -> bool {
        let is_named = self.key_id.is_none() || self.key_id == key.id;
        is_named && key.material.algorithm() == self.algorithm
    }

    /// Proves the signature, and returns the claims.
    pub(super) fn prove(&self, keys: &[Key]) -> Result<Value, Refusal> {
        let mut could_be = keys.iter().filter(|key| self.may_be(key));
        if !could_be.any(|key| key.material.verify(self.signed.as_bytes(), &self.signature)) {
            return Err(Refusal::Signature);
        }
        let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_form| Refusal::Malformed)?;
        serde_json::from_slice(&payload).map_err(|_form| Refusal::Malformed)
    }
}
