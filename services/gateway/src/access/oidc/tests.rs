//! Tokens of all kinds, signed here with real keys, and what must never be taken for one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{
    Refusal,
    jwt::{self, Unproven},
};

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", part(header), part(&json!({"sub": "ann"})));
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// Two keys with the set that publishes them.
struct Keys {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    set: Value,
}

impl Keys {
    fn new() -> Self {
        let chance = SystemRandom::new();
        let of_p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let text = EcdsaKeyPair::generate_pkcs8(of_p256, &chance).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(of_p256, text.as_ref(), &chance).unwrap();
        let text = Ed25519KeyPair::generate_pkcs8(&chance).unwrap();
        let ed25519 = Ed25519KeyPair::from_pkcs8(text.as_ref()).unwrap();
        let point = p256.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..]);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": text(x), "y": text(y)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": text(ed25519.public_key().as_ref())},
            {"kty": "oct", "kid": "shared", "k": text(b"secret")},
            {"kty": "EC", "crv": "P-521", "kid": "other"},
        ]});
        Self { p256, ed25519, set }
    }

    fn ec(&self, bytes: &[u8]) -> Vec<u8> {
        self.p256.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
    }

    fn prove(&self, token: &str) -> Result<Value, Refusal> {
        let keys = jwt::keys(self.set.to_string().as_bytes()).unwrap();
        Unproven::read(token)?.prove(&keys)
    }
}

#[test]
fn tokens_of_both_curves_are_proven_by_their_own_key_alone() {
    let (keys, others) = (Keys::new(), Keys::new());
    let ec = signed(&json!({"alg": "ES256", "kid": "ec"}), |it| keys.ec(it));
    let ed =
        signed(&json!({"alg": "EdDSA", "kid": "ed"}), |it| keys.ed25519.sign(it).as_ref().to_vec());
    for token in [&ec, &ed] {
        assert_eq!(keys.prove(token).unwrap()["sub"], "ann");
        assert_eq!(others.prove(token), Err(Refusal::Signature), "keys of the same names");
        let forged = {
            let mut parts: Vec<&str> = token.split('.').collect();
            let root = part(&json!({"sub": "root"}));
            parts[1] = &root;
            parts.join(".")
        };
        assert_eq!(keys.prove(&forged), Err(Refusal::Signature));
    }
    let unnamed = signed(&json!({"alg": "ES256"}), |it| keys.ec(it));
    assert!(keys.prove(&unnamed).is_ok(), "a token need not name its key");
    let misnamed = signed(&json!({"alg": "ES256", "kid": "ed"}), |it| keys.ec(it));
    assert_eq!(keys.prove(&misnamed), Err(Refusal::Signature));
}

#[test]
fn no_header_can_ask_for_no_signature_or_for_a_shared_secret() {
    let keys = Keys::new();
    for alg in ["none", "None", "NONE", "HS256", "HS512", "RS512", "PS256", "ES384", "es256", ""] {
        let token = signed(&json!({"alg": alg, "kid": "ec"}), |it| keys.ec(it));
        assert_eq!(keys.prove(&token), Err(Refusal::Algorithm), "{alg}");
    }
    // The public key as the secret of a shared-secret algorithm: the classic confusion.
    let public = keys.p256.public_key().as_ref().to_vec();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &public);
    let by_hmac = |alg: &str| {
        signed(&json!({"alg": alg, "kid": "ec"}), |it| hmac::sign(&secret, it).as_ref().to_vec())
    };
    assert_eq!(keys.prove(&by_hmac("HS256")), Err(Refusal::Algorithm));
    assert_eq!(keys.prove(&by_hmac("ES256")), Err(Refusal::Signature));
    // A key of one algorithm proves nothing for another.
    for alg in ["RS256", "EdDSA"] {
        let token = signed(&json!({"alg": alg, "kid": "ec"}), |it| keys.ec(it));
        assert_eq!(keys.prove(&token), Err(Refusal::Signature), "{alg}");
    }
}

#[test]
fn a_token_that_says_it_is_of_another_kind_is_refused_before_any_key_is_asked_for() {
    let keys = Keys::new();
    let of = |typ: &str| {
        keys.prove(&signed(&json!({"alg": "ES256", "kid": "ec", "typ": typ}), |it| keys.ec(it)))
    };
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(of(typ).is_ok(), "{typ}");
    }
    for typ in ["logout+jwt", "application/logout+jwt", "secevent+jwt", "id+jwt", "dpop+jwt", ""] {
        assert_eq!(of(typ), Err(Refusal::Use), "{typ}");
    }
}

#[test]
fn what_has_not_the_form_is_refused_before_any_key_is_asked_for() {
    let keys = Keys::new();
    let good = signed(&json!({"alg": "ES256", "kid": "ec"}), |it| keys.ec(it));
    let critical =
        signed(&json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false}), |it| {
            keys.ec(it)
        });
    let padded = format!("{good}=");
    for token in
        ["", "a", "a.b", "a.b.c", "..", &good[1..], &padded, &critical, &"e".repeat(20_000)]
    {
        assert_eq!(keys.prove(token), Err(Refusal::Malformed), "{token:.80}");
    }
    let (head, _) = good.rsplit_once('.').unwrap();
    assert_eq!(keys.prove(&format!("{head}.")), Err(Refusal::Signature), "an empty signature");
    assert!(jwt::is_one(&good) && !jwt::is_one("sht_00") && !jwt::is_one("a.b.c"));
}

#[test]
fn keys_for_other_purposes_are_left_out() {
    let mut keys = Keys::new();
    let token = signed(&json!({"alg": "ES256", "kid": "ec"}), |it| keys.ec(it));
    keys.set["keys"][0]["use"] = json!("enc");
    assert_eq!(keys.prove(&token), Err(Refusal::Signature));
    keys.set["keys"][0]["use"] = json!("sig");
    keys.set["keys"][0]["alg"] = json!("RS256");
    assert_eq!(keys.prove(&token), Err(Refusal::Signature));
    keys.set["keys"][0]["alg"] = json!("ES256");
    assert!(keys.prove(&token).is_ok());
    assert!(jwt::keys(b"{}").is_err() && jwt::keys(b"{\"keys\": [1, {}]}").unwrap().is_empty());
}
