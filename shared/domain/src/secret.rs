//! References to secrets: a configuration says where a secret is, never what it is.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Where the process that needs a secret finds it: `{env: SECRET_SLACK_URL}` or `{file: /etc/selfheal/secrets/slack}`.
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

/// A text as it is, or where the process that needs it finds it. Only that process ever reads the
/// secret: what is stored, shown, hashed and approved is the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "TextOrSecret")]
pub enum Text {
    /// As it is.
    Plain(String),
    /// Where it is.
    Secret(SecretRef),
}

impl Text {
    /// Returns the text, unless it is a secret.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Secret(_) => None,
        }
    }

    /// Returns the reference, if it is a secret.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(reference) => Some(reference),
        }
    }

    /// Changes the text; a reference stays.
    #[must_use]
    pub fn map(&self, change: impl FnOnce(&String) -> String) -> Self {
        match self {
            Self::Plain(text) => Self::Plain(change(text)),
            Self::Secret(_) => self.clone(),
        }
    }

    /// Returns why it cannot be read, if it is a reference that names no place.
    #[must_use]
    pub fn mistake(&self) -> Option<NotOnePlace> {
        self.secret().and_then(|it| it.place().err())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(reference) => reference.fmt(f),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<SecretRef> for Text {
    fn from(reference: SecretRef) -> Self {
        Self::Secret(reference)
    }
}

/// Returns texts with the name of its place for each secret: for what only looks at names.
#[must_use]
pub fn without_secrets(texts: &BTreeMap<String, Text>) -> BTreeMap<String, String> {
    texts.iter().map(|(name, text)| (name.clone(), text.to_string())).collect()
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a secret such as {env: SECRET_TOKEN} or {file: PATH}")
    }
    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text::from(text))
    }
    fn visit_string<E>(self, text: String) -> Result<Text, E> {
        Ok(Text::Plain(text))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
        Ok(Text::Plain(value.to_string()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
        // `1.10` would become `1.1`.
        Err(E::custom(format!("write {value} in quotes: it is read as a text")))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Err(E::custom("write \"\" for an empty text"))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
        SecretRef::deserialize(MapAccessDeserializer::new(map)).map(Text::Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_as_it_is_or_as_a_reference() {
        let read = |text: &str| serde_json::from_str::<Text>(text);
        assert_eq!(read(r#""a""#).unwrap(), Text::from("a"));
        assert_eq!(read(r#"{"env":"A"}"#).unwrap(), Text::from(SecretRef::env("A")));
        assert_eq!(read("8080").unwrap(), Text::from("8080"));
        assert!(read("1.10").unwrap_err().to_string().contains("quotes"));
        assert!(read(r#"{"vault":"A"}"#).is_err());
        let both = read(r#"{"env":"A","file":"/a"}"#).unwrap();
        assert_eq!(both.mistake(), Some(NotOnePlace));
        for text in [Text::from("a"), Text::from(SecretRef::file("/a"))] {
            let written = serde_json::to_string(&text).unwrap();
            assert_eq!(read(&written).unwrap(), text, "{written}");
        }
    }

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
