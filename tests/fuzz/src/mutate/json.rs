//! Changes JSON by its nodes, mostly so that each stays of its kind.

use serde_json::{Number, Value, json};

use crate::chance::Chance;

/// Numbers at the ends of what types hold.
const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "100",
    "101",
    "255",
    "256",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "0.1",
    "-0.0",
    "1e-320",
    "1e308",
    "3.5e38",
    "1e39",
    "1.7976931348623157e308",
];

/// Texts of kinds that ours hold.
const TEXTS: [&str; 36] = [
    "",
    " ",
    ".",
    "..",
    "a.b",
    "*",
    ">",
    "a b",
    "A",
    "é",
    "🦀",
    "\u{0}",
    "\u{1b}[2J",
    "\n",
    "\"",
    "\\",
    "0",
    "1s",
    "0s",
    "500ms",
    "1h30m",
    "99999999999d",
    "-1s",
    "3/h",
    "0/h",
    "1/15m,20/d",
    "999999999999/s",
    "2025-08-18T12:34:56Z",
    "2025-08-18T12:34:60.999999999+23:59",
    "9999-12-31T23:59:59.999999999Z",
    "+262142-12-31T23:59:59Z",
    "-262143-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "01990000-0000-7000-8000-00000000000a",
    "00000000-0000-0000-0000-000000000000",
    "http://[::1]:80/%zz",
];

/// How deep and how long chance may make a document in one step.
const NEST_MAX: usize = 200;
const REPEAT_MAX: usize = 64;

/// Changes one node.
pub(super) fn change(
    chance: &mut Chance,
    value: &mut Value,
    other: Option<&Value>,
    words: &[String],
) {
    let n_nodes = count(value);
    let mut idx = chance.below(n_nodes);
    let Some(node) = find(value, &mut idx) else { return };
    match chance.below(12) {
        0 => *node = any(chance, words),
        1 => {
            // A part of another document, which may fit here.
            if let Some(other) = other {
                let mut idx = chance.below(count(other));
                let mut other = other.clone();
                if let Some(found) = find(&mut other, &mut idx) {
                    *node = found.take();
                }
            }
        }
        2 if chance.once_in(4) => {
            let inner = node.take();
            let depth = chance.below(NEST_MAX);
            *node = (0..depth)
                .fold(inner, |it, n| if n % 2 == 0 { json!([it]) } else { json!({"a": it}) });
        }
        _ => in_kind(chance, node, words),
    }
}

fn in_kind(chance: &mut Chance, node: &mut Value, words: &[String]) {
    match node {
        Value::Null => *node = any(chance, words),
        Value::Bool(it) => *it = !*it,
        Value::Number(it) => *it = number(chance),
        Value::String(it) => *it = text(chance, it, words),
        Value::Array(list) => match chance.below(4) {
            0 => {
                let idx = chance.below(list.len());
                if idx < list.len() {
                    drop(list.remove(idx));
                }
            }
            1 => {
                if let Some(one) = chance.pick(list).cloned() {
                    let times = chance.below(REPEAT_MAX);
                    list.extend(std::iter::repeat_n(one, times));
                }
            }
            2 => list.push(any(chance, words)),
            _ => list.reverse(),
        },
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = chance.pick(&keys).cloned().unwrap_or_default();
            match chance.below(4) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let new = text(chance, &key, words);
                    let value = fields.get(&key).cloned().unwrap_or_default();
                    drop(fields.insert(new, value));
                }
                2 => drop(fields.insert(text(chance, "", words), any(chance, words))),
                _ => {
                    let other = chance.pick(&keys).cloned().unwrap_or_default();
                    let value = fields.get(&other).cloned().unwrap_or_default();
                    drop(fields.insert(key, value));
                }
            }
        }
    }
}

fn any(chance: &mut Chance, words: &[String]) -> Value {
    match chance.below(7) {
        0 => Value::Null,
        1 => Value::Bool(chance.once_in(2)),
        2 => Value::Number(number(chance)),
        3 => json!([]),
        4 => json!({}),
        _ => Value::String(text(chance, "", words)),
    }
}

fn number(chance: &mut Chance) -> Number {
    let text = chance.pick(&NUMBERS).copied().unwrap_or("0");
    if chance.once_in(3) {
        return Number::from(chance.number() >> chance.below(64));
    }
    serde_json::from_str(text).unwrap_or_else(|_| Number::from(0))
}

fn text(chance: &mut Chance, now: &str, words: &[String]) -> String {
    match chance.below(6) {
        0 => now.repeat(chance.below(REPEAT_MAX)),
        1 => now.chars().rev().collect(),
        2 => now.chars().take(chance.below(now.len() + 1)).collect(),
        3 => chance.pick(words).cloned().unwrap_or_default(),
        4 => format!("{now}{}", chance.pick(&TEXTS).copied().unwrap_or_default()),
        _ => chance.pick(&TEXTS).copied().unwrap_or_default().to_owned(),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0_usize,
    }
}

/// Finds the node of a number, in the order of the text.
fn find<'a>(value: &'a mut Value, idx: &mut usize) -> Option<&'a mut Value> {
    if *idx == 0 {
        return Some(value);
    }
    *idx -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|it| find(it, idx)),
        Value::Object(fields) => fields.values_mut().find_map(|it| find(it, idx)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
