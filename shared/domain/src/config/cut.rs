//! What a configuration looks like whose text was cut: a copy that ended early, or one that is
//! still being written. Such a text may well be valid.
//!
//! The text cannot be told from one that a person has shortened, so a person is asked. Cut
//! texts lack their end, and have nothing that the former one did not have.

use serde_json::Value;

use super::Config;
use crate::target::Target;

/// Names what the end of the list of targets lacks.
pub(super) fn targets(old: &[Target], new: &[Target], found: &mut Vec<String>) {
    let Some(last) = old.last() else { return };
    if new.len() < old.len() && new.iter().all(|it| it.name != last.name) {
        found.push(format!(
            "the last target, `{}`, is removed, as in a text that was cut",
            last.name
        ));
        return;
    }
    let Some(end) = new.last() else { return };
    let Some(former) = old.iter().find(|it| it.name == end.name) else { return };
    if former != end && is_part(&shortest(end), &shortest(former)) {
        let name = &end.name;
        found.push(format!("target `{name}` has less than before, as in a text that was cut"));
    }
}

/// Names sections that are removed, or have less than before and nothing else.
///
/// `policy`, `maintenance`, `inhibit` and `flapping` are compared field by field elsewhere;
/// here they count when nothing else about them is said.
pub(super) fn sections(old: &Config, new: &Config, found: &mut Vec<String>) {
    let sections = [
        ("runbooks", json(&old.runbooks), json(&new.runbooks)),
        ("notify", json(&old.notify), json(&new.notify)),
        ("policy.notify", json(&old.policy.notify), json(&new.policy.notify)),
        ("watchdog", json(&old.watchdog), json(&new.watchdog)),
        ("access", json(&old.access), json(&new.access)),
        ("integrations", json(&old.integrations), json(&new.integrations)),
    ];
    for (name, old, new) in sections {
        if is_empty(&old) || old == new {
            continue;
        }
        if is_empty(&new) {
            found.push(format!("the section `{name}` is removed"));
        } else if is_part(&new, &old) {
            found.push(format!("the section `{name}` has less than before"));
        }
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Returns whether a text for `new` may be the beginning of one for `old`: lists begin alike,
/// objects have no field that the other does not have, and a text or number may end early.
/// Only the last item of a list may have less.
fn is_part(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Null, _) => true,
        (Value::Array(new), Value::Array(old)) => {
            let last = new.len().saturating_sub(1);
            new.len() <= old.len()
                && new.iter().zip(old).enumerate().all(|(idx, (new, old))| {
                    if idx == last { is_part(new, old) } else { new == old }
                })
        }
        (Value::Object(new), Value::Object(old)) => {
            new.iter().all(|(key, new)| old.get(key).is_some_and(|old| is_part(new, old)))
        }
        (Value::String(new), Value::String(old)) => old.starts_with(new),
        (Value::Number(new), Value::Number(old)) => old.to_string().starts_with(&new.to_string()),
        (
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => new == old,
    }
}

/// Returns a target without the fields that say what holds anyway: a text that was cut does
/// not name them.
fn shortest(target: &Target) -> Value {
    let mut whole = json(target);
    for path in fields(&whole) {
        let mut without = whole.clone();
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let Some(fields) = without.pointer_mut(parent).and_then(Value::as_object_mut) else {
            continue;
        };
        fields.remove(&unescaped(name));
        if serde_json::from_value::<Target>(without.clone()).is_ok_and(|it| it == *target) {
            whole = without;
        }
    }
    whole
}

/// Returns the JSON pointers of all fields, the inner ones first.
fn fields(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                    walk(inner, &at, found);
                    found.push(at);
                }
            }
            Value::Array(items) => {
                for (idx, inner) in items.iter().enumerate() {
                    walk(inner, &format!("{at}/{idx}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}
