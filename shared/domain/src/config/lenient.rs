//! Reading what a newer version has stored: fields that we do not know are kept and named,
//! not refused. A text that a person wrote is read strictly, by [`super::parse`].

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use super::Config;

/// Unknown fields that are told; a configuration with more is refused.
const UNKNOWN_MAX: usize = 1000;
/// Longest message of a refusal.
const TOLD_CHARS_MAX: usize = 1000;

/// What a newer version has written and this one does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Where the fields are, such as `targets[1].systemd`.
    pub fields: Vec<String>,
    /// The whole configuration, to be stored as it was.
    whole: Value,
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.unknown {
            Some(unknown) => unknown.whole.serialize(serializer),
            None => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let mut known = whole.clone();
        let mut fields = Vec::new();
        loop {
            let mut track = Track::new();
            let path_of = serde_path_to_error::Deserializer::new(&known, &mut track);
            let error = match Self::deserialize(path_of) {
                Ok(read) => {
                    let unknown = (!fields.is_empty()).then(|| Box::new(Unknown { fields, whole }));
                    return Ok(Self { unknown, ..read });
                }
                Err(error) => error,
            };
            let name = unknown_field(&error.to_string()).map(str::to_owned);
            let path = track.path();
            let taken = name.filter(|_| fields.len() < UNKNOWN_MAX).and_then(|name| {
                let at = take_out(&mut known, &path, &name)?;
                Some(at)
            });
            match taken {
                Some(at) => fields.push(at),
                None => return Err(de::Error::custom(cut(format!("{path}: {error}")))),
            }
        }
    }
}

/// Cuts what quotes a long value: it is told to people, and to the log.
fn cut(text: String) -> String {
    match text.char_indices().nth(TOLD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Returns the name in the message that serde gives for an unknown field.
fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// Takes a field out of the object at `path`, and returns where it was.
fn take_out(whole: &mut Value, path: &Path, name: &str) -> Option<String> {
    let mut at = String::new();
    let mut value = whole;
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                value = value.get_mut(*index)?;
                at = format!("{at}[{index}]");
            }
            // The field itself may be the end of the path.
            Segment::Map { key } if key == name && value.get(key).is_some() => break,
            Segment::Map { key } => {
                value = value.get_mut(key)?;
                at.push_str(if at.is_empty() { "" } else { "." });
                at.push_str(key);
            }
            Segment::Enum { .. } | Segment::Unknown => return None,
        }
    }
    value.as_object_mut()?.remove(name)?;
    let dot = if at.is_empty() { "" } else { "." };
    Some(format!("{at}{dot}{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn newer() -> Value {
        json!({
            "targets": [
                {"name": "db", "labels": {"region": "eu"}, "checks": [{"tcp": "a:1", "icmp": true}]},
                {"name": "api", "systemd": {"unit": "api.service"}, "region": "eu"},
            ],
            "policy": {"attempts": 2, "maintenance": []},
            "region": "eu",
        })
    }

    #[test]
    fn what_a_newer_version_has_stored_is_read_named_and_kept() {
        let config: Config = serde_json::from_value(newer()).unwrap();
        assert_eq!((config.targets.len(), config.policy.attempts), (2, 2));
        assert_eq!(config.targets[0].labels["region"], "eu", "a label is no unknown field");
        let mut unknown = config.unknown.clone().unwrap().fields;
        unknown.sort();
        let named = [
            "policy.maintenance",
            "region",
            "targets[0].checks[0].icmp",
            "targets[1].region",
            "targets[1].systemd",
        ];
        assert_eq!(unknown, named);
        assert_eq!(serde_json::to_value(&config).unwrap(), newer(), "stored as it was");
    }

    #[test]
    fn what_is_wrong_in_another_way_is_refused_with_its_place() {
        let config = json!({"new": 1, "targets": [{"name": 5}]});
        let refused = serde_json::from_value::<Config>(config).unwrap_err().to_string();
        assert!(refused.contains("targets[0].name"), "{refused}");
    }
}
