//! References to secrets: a configuration says where a secret is, never what it is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the process that needs a secret finds it: `{env: SLACK_URL}` or `{file: /run/secrets/slack}`.
/// Exactly one of the two is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::schema::one_place)]
pub struct SecretRef {
    /// Name of a variable of the process's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of a file; one line end at its end does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Where exactly, once the reference is known to be well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A variable of the environment.
    Env(&'a str),
    /// A file.
    File(&'a str),
}

/// Why a reference is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is referred to by exactly one of `env` and `file`, which is not empty")]
pub struct NotOnePlace;

impl SecretRef {
    /// Refers to a variable of the environment.
    #[must_use]
    pub fn env(name: &str) -> Self {
        Self { env: Some(name.to_owned()), file: None }
    }

    /// Refers to a file.
    #[must_use]
    pub fn file(path: &str) -> Self {
        Self { env: None, file: Some(path.to_owned()) }
    }

    /// Returns where the secret is.
    ///
    /// # Errors
    ///
    /// When not exactly one place is named.
    pub fn place(&self) -> Result<Place<'_>, NotOnePlace> {
        match (self.env.as_deref(), self.file.as_deref()) {
            (Some(name), None) if !name.is_empty() => Ok(Place::Env(name)),
            (None, Some(path)) if !path.is_empty() => Ok(Place::File(path)),
            (_, _) => Err(NotOnePlace),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Ok(Place::Env(name)) => write!(f, "the variable {name}"),
            Ok(Place::File(path)) => write!(f, "the file {path}"),
            Err(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_place_is_a_reference() {
        assert_eq!(SecretRef::env("A").place(), Ok(Place::Env("A")));
        assert_eq!(SecretRef::file("/a").place(), Ok(Place::File("/a")));
        let both = SecretRef { env: Some("A".to_owned()), file: Some("/a".to_owned()) };
        for none in [both, SecretRef { env: None, file: None }, SecretRef::env("")] {
            assert_eq!(none.place(), Err(NotOnePlace), "{none:?}");
        }
    }
}
