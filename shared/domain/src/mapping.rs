//! From a message of any form to events, by templates that the configuration gives.
//!
//! Templates are compiled when the configuration is read and rendered with a limited amount of
//! work. What cannot be rendered is noted at the event and never loses it.

mod presets;
mod render;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

use crate::config::Mapping;

pub use presets::{preset, presets};
pub use render::Message;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4096;
/// Templates of one mapping.
const TEMPLATES_MAX: usize = 100;
/// Steps of one rendering; a template of a hundred words with a loop over a thousand items
/// needs a tenth.
const FUEL: u64 = 100_000;
/// How deep templates may call each other.
const RECURSION_MAX: usize = 20;

/// Why a mapping cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct MappingError {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A mapping that is ready for use.
#[derive(Debug)]
pub struct Mapper {
    name: String,
    mapping: Mapping,
    templates: Environment<'static>,
}

impl Mapper {
    /// Compiles a mapping. `name` is that of the integration.
    ///
    /// # Errors
    ///
    /// [`MappingError`] for the first template that cannot be read, or is too long.
    pub fn new(name: &str, mapping: &Mapping) -> Result<Self, MappingError> {
        let mut templates = Environment::new();
        templates.set_fuel(Some(FUEL));
        templates.set_recursion_limit(RECURSION_MAX);
        templates.set_auto_escape_callback(|_| AutoEscape::None);
        // Senders leave fields out, and what is not there is nothing.
        templates.set_undefined_behavior(UndefinedBehavior::Chainable);
        let fields = fields(mapping);
        if TEMPLATES_MAX < fields.len() {
            let message = format!("a mapping has at most {TEMPLATES_MAX} templates");
            return Err(MappingError { field: "labels".to_owned(), message });
        }
        for (field, source) in fields {
            let wrong = |message: String| MappingError { field: field.clone(), message };
            if TEMPLATE_BYTES_MAX < source.len() {
                return Err(wrong(format!("is longer than {TEMPLATE_BYTES_MAX} bytes")));
            }
            templates.add_template_owned(field.clone(), source.to_owned()).map_err(|error| {
                let detail = error.detail().unwrap_or("it cannot be read");
                wrong(format!("is no template: {}: {detail}", error.kind()))
            })?;
        }
        for path in mapping.labels_from.iter().chain(&mapping.each) {
            let is_root = |it| matches!(it, "body" | "item");
            if !path.split('.').next().is_some_and(is_root) || path.split('.').any(str::is_empty) {
                let message = format!("`{path}` is no path, such as body.alerts");
                let field =
                    if mapping.each.as_ref() == Some(path) { "each" } else { "labels_from" };
                return Err(MappingError { field: field.to_owned(), message });
            }
        }
        Ok(Self { name: name.to_owned(), mapping: mapping.clone(), templates })
    }

    /// Returns what it was made of.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// Returns all templates by the name of their field.
fn fields(mapping: &Mapping) -> Vec<(String, &str)> {
    let single = [
        ("skip", &mapping.skip),
        ("type", &mapping.kind),
        ("id", &mapping.id),
        ("source", &mapping.source),
        ("target", &mapping.target),
        ("fingerprint", &mapping.fingerprint),
        ("status", &mapping.status),
        ("severity", &mapping.severity),
        ("starts_at", &mapping.starts_at),
        ("ends_at", &mapping.ends_at),
    ];
    let single =
        single.into_iter().filter_map(|(field, it)| Some((field.to_owned(), it.as_deref()?)));
    let of = |kind: &str, key: &str| format!("{kind}.{key}");
    let labels = mapping.labels.iter().map(|(key, it)| (of("labels", key), it.as_str()));
    let notes = mapping.annotations.iter().map(|(key, it)| (of("annotations", key), it.as_str()));
    let links = mapping.links.iter().enumerate();
    let links = links.map(|(idx, it)| (format!("links[{idx}]"), it.as_str()));
    single.chain(labels).chain(notes).chain(links).collect()
}

/// Follows a path such as `body.data.items` from the roots.
fn at_path<'a>(roots: &BTreeMap<&str, &'a Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let root = *roots.get(parts.next()?)?;
    parts.try_fold(root, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            value.get(part)
        }
    })
}
