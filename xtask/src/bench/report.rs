//! Figures in `docs/performance.md`: the part between two markers is replaced.

use std::fmt::Write as _;

use anyhow::Context;
use serde_json::Value;

use crate::workspace::Workspace;

/// Where the figures are.
const FILE: &str = "docs/performance.md";

/// Replaces the figures of one measurement.
pub(super) fn write(
    workspace: &Workspace,
    name: &str,
    machine: &Value,
    result: &Value,
) -> anyhow::Result<()> {
    let path = workspace.root.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let text = replaced(&text, name, &section(machine, result))
        .with_context(|| format!("{FILE} has no place for {name}"))?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {FILE}"))
}

/// Puts `figures` between the markers of `name`; none without them.
fn replaced(text: &str, name: &str, figures: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let (before, rest) = text.split_once(&begin)?;
    let (_old, after) = rest.split_once(&end)?;
    Some([before, &begin, figures, &end, after].concat())
}

fn section(machine: &Value, result: &Value) -> String {
    let text = |name: &str| match machine.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut out = format!(
        "Measured on {} cores, `{}` profile, nats-server {}.\n\n| figure | value |\n|---|---|\n",
        text("cores"),
        text("profile"),
        text("nats_server"),
    );
    rows(&mut out, "", result);
    out
}

/// One row for each figure; an object of plain figures alone is one row.
fn rows(out: &mut String, path: &str, value: &Value) {
    let Some(object) = value.as_object() else {
        let list = value.as_array();
        if let Some(list) = list.filter(|list| list.iter().any(Value::is_object)) {
            for entry in list {
                let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
                rows(out, &joined(path, name), entry);
            }
            return;
        }
        line(out, path, &shown(value));
        return;
    };
    let plain: Vec<String> = object
        .iter()
        .filter(|(name, value)| !value.is_object() && !value.is_array() && *name != "name")
        .map(|(name, value)| format!("{} {}", worded(name), shown(value)))
        .collect();
    if !plain.is_empty() {
        line(out, path, &plain.join(", "));
    }
    for (name, value) in object {
        if value.is_object() || value.is_array() {
            rows(out, &joined(path, name), value);
        }
    }
}

fn line(out: &mut String, path: &str, value: &str) {
    let path = if path.is_empty() { "all" } else { path };
    // Writing into a text does not fail.
    writeln!(out, "| {path} | {value} |").ok();
}

fn joined(path: &str, name: &str) -> String {
    let name = worded(name);
    if path.is_empty() { name } else { format!("{path}, {name}") }
}

fn worded(name: &str) -> String {
    name.replace('_', " ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{}", (float * 100.0).round() / 100.0),
            Some(_) | None => number.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_part_between_the_markers_changes() {
        let text = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n";
        let wanted = "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n";
        assert_eq!(replaced(text, "a", "new\n").as_deref(), Some(wanted));
        assert_eq!(replaced(text, "b", "new\n"), None);
    }

    #[test]
    fn figures_are_rows_with_their_path() {
        let result = json!({"at_64": {"per_s": 2.71, "ms": {"p50": 1, "p99": 2}}, "list": [{"name": "x", "rss": 1.5}]});
        let text =
            section(&json!({"cores": 2, "profile": "release", "nats_server": "2.15"}), &result);
        assert!(text.starts_with("Measured on 2 cores, `release` profile, nats-server 2.15.\n"));
        assert!(text.contains("| at 64 | per s 2.71 |\n| at 64, ms | p50 1, p99 2 |\n"), "{text}");
        assert!(text.contains("| list, x | rss 1.5 |\n"), "{text}");
    }
}
