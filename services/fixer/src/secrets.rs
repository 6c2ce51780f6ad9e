//! Secrets that a plan refers to, read on this host when a step needs them.

use std::collections::BTreeMap;

use domain::{redact::REDACTED, secret::Text};
use service::{SecretError, read_text, read_texts};

use crate::actions::Failure;

/// Returns a text, read from its place if it is a secret.
pub(crate) fn read(text: &Text) -> Result<String, Failure> {
    read_text(text).map_err(|error| failure(&error))
}

/// Returns texts, those that are secrets read from their places.
pub(crate) fn read_all(
    texts: &BTreeMap<String, Text>,
) -> Result<BTreeMap<String, String>, Failure> {
    read_texts(texts).map_err(|error| failure(&error))
}

/// Returns the secrets among texts.
pub(crate) fn of(texts: &BTreeMap<String, Text>) -> Result<Vec<(String, String)>, Failure> {
    let secrets = texts.iter().filter(|(_, text)| text.secret().is_some());
    secrets.map(|(name, text)| Ok((name.clone(), read(text)?))).collect()
}

/// Returns what was printed without the secrets that were given for it.
pub(crate) fn hidden(printed: String, secrets: &[(String, String)]) -> String {
    let hide = |text: String, (_, secret): &(String, String)| text.replace(secret, REDACTED);
    secrets.iter().fold(printed, hide)
}

fn failure(error: &SecretError) -> Failure {
    Failure::of(error, error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_of_its_secrets_is_hidden() {
        let secrets = [("TOKEN".to_owned(), "s3cret".to_owned())];
        assert_eq!(hidden("TOKEN is s3cret".to_owned(), &secrets), "TOKEN is [redacted]");
        assert!(read(&Text::from(domain::secret::SecretRef::env("HOME"))).is_err());
    }
}
