//! A configuration that is larger than one value of the bucket, in parts.
//!
//! The value of a part is a list of targets, and its key is the hash of that list: it is never
//! overwritten. The manifest names the parts in their order, and has the rest. It is written
//! when all of its parts are stored, and read when all of them are there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::id::sha256_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{Error, topology::CONFIG_BYTES_MAX};

/// Bytes after which a part ends. A single target may give more.
const PART_BYTES: usize = 96 * 1024;
/// Bytes after which a part ends with the next name that says so, so that an edit changes few
/// of the parts.
const PART_BYTES_MIN: usize = 16 * 1024;
/// One name in so many ends a part.
const ENDS_ONE_IN: u32 = 64;
/// Form of the manifest.
const VERSION: u16 = 1;

/// The value of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    v: u16,
    /// The configuration without its targets, as text, so that nothing of it is lost on the way.
    rest: String,
    /// Hashes of the parts, in their order.
    pub(crate) parts: Vec<String>,
}

/// Splits the JSON of a configuration. Its parts are to be stored under their hashes.
///
/// # Errors
///
/// [`Error::TooLarge`] when one target, or all else, does not fit a value.
pub(crate) fn split(config: &[u8]) -> Result<(Manifest, BTreeMap<String, Bytes>), Error> {
    let unreadable = |source: serde_json::Error| Error::Unreadable {
        what: "the configuration",
        source: source.into(),
    };
    let mut rest: serde_json::Map<String, Value> =
        serde_json::from_slice(config).map_err(unreadable)?;
    #[derive(Deserialize)]
    struct Targets<'a> {
        #[serde(borrow, default)]
        targets: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: String,
    }
    rest.remove("targets");
    let rest = serde_json::to_string(&rest).map_err(unreadable)?;
    let targets: Targets<'_> = serde_json::from_slice(config).map_err(unreadable)?;
    let (mut names, mut parts) = (Vec::new(), BTreeMap::new());
    let mut group = String::new();
    let mut end = |group: &mut String| {
        if !group.is_empty() {
            let text = format!("[{group}]");
            let sha256 = sha256_hex(text.as_bytes());
            names.push(sha256.clone());
            parts.insert(sha256, Bytes::from(text));
            group.clear();
        }
    };
    for target in targets.targets {
        let text = target.get();
        fits("a target", text.len())?;
        if PART_BYTES < group.len() + text.len() {
            end(&mut group);
        }
        if !group.is_empty() {
            group.push(',');
        }
        group.push_str(text);
        let name = serde_json::from_str::<Named>(text).map_err(unreadable)?.name;
        if PART_BYTES_MIN <= group.len() && ends_part(&name) {
            end(&mut group);
        }
    }
    end(&mut group);
    fits("the configuration without its targets", rest.len())?;
    Ok((Manifest { v: VERSION, rest, parts: names }, parts))
}

fn ends_part(name: &str) -> bool {
    let digits = sha256_hex(name.as_bytes());
    let first = digits.get(..8).and_then(|it| u32::from_str_radix(it, 16).ok());
    first.is_some_and(|it| it % ENDS_ONE_IN == 0)
}

fn fits(what: &'static str, bytes: usize) -> Result<(), Error> {
    // The names of the parts share a value with the rest.
    let bytes_max = CONFIG_BYTES_MAX / 2;
    if bytes <= bytes_max { Ok(()) } else { Err(Error::TooLarge { what, bytes, bytes_max }) }
}

/// What is known of the bucket.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// The configuration in one value.
    whole: Option<(u64, Bytes)>,
    manifest: Option<(u64, Manifest)>,
    parts: BTreeMap<String, Bytes>,
    /// The revision that was returned last.
    told: u64,
}

impl Shelf {
    /// Takes the value of the key that holds a whole configuration.
    pub(crate) fn whole(&mut self, seq: u64, value: Bytes) {
        self.whole = Some((seq, value));
    }

    /// Takes the value of the manifest's key.
    ///
    /// # Errors
    ///
    /// When it is none; what was known before stays.
    pub(crate) fn manifest(&mut self, seq: u64, value: &[u8]) -> Result<(), serde_json::Error> {
        self.manifest = Some((seq, serde_json::from_slice(value)?));
        Ok(())
    }

    /// Takes a part. One that is not what its name says is none.
    pub(crate) fn part(&mut self, sha256: &str, value: Bytes) {
        if sha256_hex(&value) == sha256 {
            self.parts.insert(sha256.to_owned(), value);
        }
    }

    /// Returns the newest configuration with its revision, unless it was returned before; `None`
    /// while there is none, or while some of its parts are missing.
    pub(crate) fn newest(&mut self) -> Option<(u64, Bytes)> {
        let of_whole = self.whole.as_ref().map_or(0, |(seq, _)| *seq);
        let Some((seq, manifest)) = self.manifest.as_ref().filter(|it| of_whole < it.0) else {
            let (seq, value) = self.whole.clone().filter(|(seq, _)| *seq != self.told)?;
            self.told = seq;
            return Some((seq, value));
        };
        if *seq == self.told {
            return None;
        }
        let mut text = String::from("{\"targets\":[");
        for (idx, name) in manifest.parts.iter().enumerate() {
            let part = std::str::from_utf8(self.parts.get(name)?).ok()?;
            let inner = part.strip_prefix('[')?.strip_suffix(']')?;
            if 0 < idx {
                text.push(',');
            }
            text.push_str(inner);
        }
        text.push(']');
        let rest = manifest.rest.trim().strip_prefix('{')?;
        if rest.trim_start() != "}" {
            text.push(',');
        }
        text.push_str(rest);
        let seq = *seq;
        self.told = seq;
        // Those that come from now on belong to the next manifest.
        let named: BTreeSet<&String> = manifest.parts.iter().collect();
        self.parts.retain(|name, _| named.contains(name));
        Some((seq, Bytes::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(n: usize) -> Value {
        let targets: Vec<_> = (0..n)
            .map(|it| json!({"name": format!("shop-{it}"), "docker": {"container": format!("shop-{it}")}}))
            .collect();
        json!({"targets": targets, "policy": {"attempts": 2, "new": [1.50]}})
    }

    #[test]
    fn a_configuration_in_parts_is_read_when_all_parts_are_there() {
        for n in [0, 1, 10_000] {
            let text = config(n).to_string();
            let (manifest, parts) = split(text.as_bytes()).unwrap();
            let mut shelf = Shelf::default();
            shelf.whole(1, Bytes::from_static(b"{}"));
            shelf.manifest(9, &serde_json::to_vec(&manifest).unwrap()).unwrap();
            for (name, part) in parts {
                assert_eq!(shelf.newest(), None, "a part is missing");
                shelf.part(&name, part);
            }
            let (seq, whole) = shelf.newest().unwrap();
            assert_eq!(seq, 9);
            assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap(), config(n));
            shelf.whole(10, Bytes::from_static(b"{}"));
            assert_eq!(shelf.newest().unwrap().0, 10, "the newest counts");
        }
    }

    #[test]
    fn a_part_that_is_not_what_its_name_says_is_none() {
        let text = config(1).to_string();
        let (manifest, parts) = split(text.as_bytes()).unwrap();
        let mut shelf = Shelf::default();
        shelf.manifest(1, &serde_json::to_vec(&manifest).unwrap()).unwrap();
        let name = parts.keys().next().unwrap();
        shelf.part(name, Bytes::from_static(b"[]"));
        assert_eq!(shelf.newest(), None);
    }

    #[test]
    fn an_edit_changes_few_parts_and_what_fits_no_value_is_refused() {
        let names = |config: &Value| split(config.to_string().as_bytes()).unwrap().1;
        let (before, mut after) = (config(10_000), config(10_000));
        after["targets"][5_000]["soak"] = json!("9s");
        let (before, after) = (names(&before), names(&after));
        let n_new = after.keys().filter(|it| !before.contains_key(*it)).count();
        assert!(n_new == 1 && 20 < after.len(), "{n_new} of {}", after.len());
        let mut large = config(1);
        large["targets"][0]["labels"] = json!({"x": "x".repeat(CONFIG_BYTES_MAX)});
        assert!(matches!(split(large.to_string().as_bytes()), Err(Error::TooLarge { .. })));
    }
}
