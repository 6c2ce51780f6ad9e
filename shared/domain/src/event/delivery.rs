//! What makes two deliveries the same event.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::digest;

/// Stands for the source and the id of an event: half of a SHA-256, so that hundreds of
/// thousands can be remembered. Two events that differ never met on one in practice
/// (2^-90 for a million of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery(pub(super) u128);

/// Why a text is no delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery is written with 32 hexadecimal digits")]
pub struct NotADelivery;

impl Delivery {
    /// Derives it from an event's source and id.
    #[must_use]
    pub fn of(source: &str, id: &str) -> Self {
        Self(digest(&[source, id]))
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Delivery {
    type Err = NotADelivery;

    fn from_str(text: &str) -> Result<Self, NotADelivery> {
        // Logs of version 0.1 hold the source and the id themselves, on two lines.
        if let Some((source, id)) = text.split_once('\n') {
            return Ok(Self::of(source, id));
        }
        if text.len() != 32 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(NotADelivery);
        }
        u128::from_str_radix(text, 16).map(Self).or(Err(NotADelivery))
    }
}

impl Serialize for Delivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Delivery {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Delivery".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

impl<'de> Deserialize<'de> for Delivery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Reads one delivery, as logs of version 0.1 hold it, or a list.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Delivery>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Delivery),
        Many(Vec<Delivery>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_as_it_is_written_and_as_it_was_written() {
        let delivery = Delivery::of("prometheus", "7");
        assert_eq!(delivery.to_string().len(), 32);
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        assert_eq!("prometheus\n7".parse(), Ok(delivery));
        assert_ne!(delivery, Delivery::of("prometheus7", ""));
        assert_eq!("7".parse::<Delivery>(), Err(NotADelivery));
    }

    #[test]
    fn a_leading_plus_is_no_digit() {
        assert_eq!("+0000000000000000000000000000000".parse::<Delivery>(), Err(NotADelivery));
    }
}
