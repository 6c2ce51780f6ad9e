//! Signatures of what goes out and comes in: HMAC-SHA256.

use std::fmt::Write as _;

use ring::hmac;
use service::Secret;

/// Signs with one secret.
#[derive(Debug)]
pub(crate) struct Signer(hmac::Key);

impl Signer {
    /// Takes a secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// Returns the signature of a message that comes in parts.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().to_vec()
    }

    /// Returns whether this is the signature of the message. How long that takes tells
    /// nothing about the right one.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0, message, signature).is_ok()
    }
}

/// Returns bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Reads lower- or upper-case hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect();
    let digits = digits.filter(|it| it.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's own documentation of signed requests.
    #[test]
    fn the_signature_of_slacks_own_example_is_verified() {
        let signer = Signer::new(&Secret::new("8f742231b10e8888abcd99yyyzzz85a5"));
        let message: &[u8] = b"v0:1531420618:token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let right = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        assert_eq!(hex(&signer.sign(&[message])), right);
        assert!(signer.verifies(message, &unhex(right).unwrap()));
        assert!(!signer.verifies(message, &unhex(&right.replace('a', "b")).unwrap()));
        assert!(!signer.verifies(message, &[]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("abc"), None);
    }
}
