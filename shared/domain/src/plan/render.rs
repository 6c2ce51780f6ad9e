//! The plan as a person reads it before deciding: everything that its hash covers, field by field,
//! so that nothing is approved unseen. All channels show this text.
//!
//! It is made from the plan as it is hashed, so a field that is added to a plan is shown, too.
//! Texts are written as JSON: an argument ends where it ends, and nothing in it is hidden. Of a
//! credential it is shown that it is there; of a secret, where it is.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::Plan;
use crate::{
    redact::{Reader, Redactor},
    visible,
};

/// Fields that come first, in this order; others follow by their names.
const FIRST: [&str; 27] = [
    "runbook",
    "title",
    "target",
    "zone",
    "cause",
    "risk",
    "autonomy",
    "steps",
    "success",
    "name",
    "action",
    "process",
    "container",
    "command",
    "dir",
    "env",
    "method",
    "url",
    "headers",
    "body",
    "status",
    "directories",
    "patterns",
    "older_than",
    "timeout",
    "pre_check",
    "undo",
];

/// Returns the whole plan as a person reads it.
#[must_use]
pub fn render(plan: &Plan) -> String {
    // Serialising plain data with string keys cannot fail.
    render_value(&serde_json::to_value(plan).unwrap_or_default())
}

/// Returns a plan as a person reads it that may come from a newer version.
#[must_use]
pub fn render_value(plan: &Value) -> String {
    let mut plan = plan.clone();
    Redactor::default().json(&mut plan, Reader::Approver);
    let mut text = String::new();
    if let Value::Object(fields) = &plan {
        put_fields(&mut text, fields, 0);
    }
    text.trim_end().to_owned()
}

fn put_fields(text: &mut String, fields: &Map<String, Value>, depth: usize) {
    let rank = |name: &str| FIRST.iter().position(|it| *it == name).unwrap_or(FIRST.len());
    let mut all: Vec<_> = fields.iter().collect();
    all.sort_by_key(|(name, _)| (rank(name), name.as_str()));
    for (name, value) in all {
        put(text, &visible::line(name), value, depth);
    }
}

fn put(text: &mut String, name: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !is_reference(fields) && !fields.is_empty() => {
            write(text, format_args!("{indent}{name}:\n"));
            put_fields(text, fields, depth + 1);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (idx, item) in items.iter().enumerate() {
                put(text, &format!("{name} {}", idx + 1), item, depth);
            }
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => write(text, format_args!("{indent}{name}: {}\n", json(value))),
    }
}

/// Returns whether this is a reference to a secret, which is shown on one line.
fn is_reference(fields: &Map<String, Value>) -> bool {
    let mut all = fields.iter();
    let first = all.next();
    let is_place =
        |(name, value): (&String, &Value)| (name == "env" || name == "file") && value.is_string();
    first.is_some_and(is_place) && all.next().is_none()
}

/// Writes a value as JSON on one line, with what is hidden written out.
fn json(value: &Value) -> String {
    let mut shown = String::new();
    for c in value.to_string().chars() {
        if visible::is_hidden(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write(&mut shown, format_args!("\\u{unit:04x}"));
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Writing to a string cannot fail.
fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        action::Action,
        autonomy::{Autonomy, Risk},
        check::Check,
        plan::{Parts, Step, Success},
        secret::{SecretRef, Text},
        span::Span,
        target::ProcessHandle,
    };

    fn texts() -> BTreeMap<String, Text> {
        BTreeMap::from([
            ("MODE".to_owned(), "fast".into()),
            ("DB_PASSWORD".to_owned(), "hunter22".into()),
            ("API_TOKEN".to_owned(), SecretRef::env("SECRET_API").into()),
        ])
    }

    fn full_check() -> Check {
        Check {
            name: Some("named".to_owned()),
            http: Some("http://u:hunter22@shop/health?token=hunter22".to_owned()),
            command: Some(vec!["probe".to_owned(), "a b".to_owned()]),
            above: Some(91),
            clear: Some(71),
            status: vec![299],
            contains: Some("well \u{202e}".to_owned()),
            headers: texts(),
            start_period: Span::from_secs(17),
            ..Check::blank()
        }
    }

    /// Every kind of action, as the step and as its undo.
    fn actions() -> Vec<Action> {
        let process = ProcessHandle {
            command: vec!["/bin/db".to_owned(), "a b".to_owned(), "--token=hunter22".to_owned()],
            dir: Some("/srv".to_owned()),
            env: texts(),
            pid_file: Some("/run/db.pid".to_owned()),
            log: Some("/var/log/db".to_owned()),
            stop_timeout: Span::from_secs(13),
            user: Some("shop".to_owned()),
            group: Some("shops".to_owned()),
        };
        let container = || "shop/db".to_owned();
        vec![
            Action::ProcessRestart { target: "db".to_owned(), process },
            Action::DockerRestart { container: container() },
            Action::DockerStart { container: container() },
            Action::DockerStop { container: container() },
            Action::CommandRun {
                command: vec!["env".to_owned(), "true; rm\n-rf".to_owned()],
                dir: Some("/tmp/x y".to_owned()),
                env: texts(),
            },
            Action::HttpRequest {
                method: "POST".to_owned(),
                url: "https://shop/x".to_owned(),
                headers: BTreeMap::from([
                    ("Accept".to_owned(), "text/plain".into()),
                    ("X-Key".to_owned(), "hunter22".into()),
                    ("Authorization".to_owned(), SecretRef::file("/etc/selfheal/secrets/a").into()),
                ]),
                body: Some("{\"delete\": \"everything\"}".into()),
                status: vec![204],
            },
            Action::DiskClean {
                directories: vec!["/var/log".to_owned()],
                patterns: vec!["*.gz".to_owned()],
                older_than: Span::from_secs(7 * 86_400),
                dry_run: true,
            },
        ]
    }

    fn full_plan() -> Plan {
        let step = |action: Action| Step {
            name: "a step".to_owned(),
            undo: Some(action.clone()),
            action,
            timeout: Span::from_secs(31),
            pre_check: Some(full_check()),
        };
        Plan::new(Parts {
            runbook: "shop-restart".to_owned(),
            title: "restarts it".to_owned(),
            cause: "process_exited".to_owned(),
            target: "db".to_owned(),
            zone: "north".to_owned(),
            risk: Risk::High,
            autonomy: Some(Autonomy::Approve),
            steps: actions().into_iter().map(step).collect(),
            success: Success {
                checks: vec![full_check()],
                soak: Span::from_secs(41),
                within: Span::from_secs(43),
            },
        })
        .unwrap()
    }

    /// Returns all fields of a value, as `name: value` for each that is no object.
    fn walk(value: &Value, name: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(value, name, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|it| walk(it, name, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                found.push((name.to_owned(), value.clone()));
            }
        }
    }

    #[test]
    fn everything_that_the_hash_covers_is_shown_or_said_to_be_left_out() {
        let plan = full_plan();
        let shown = render(&plan);
        let mut fields = Vec::new();
        walk(&serde_json::to_value(&plan).unwrap(), "", &mut fields);
        assert!(200 < fields.len(), "{}", fields.len());
        for (name, value) in fields {
            let is_secret = value.as_str().is_some_and(|it| it.contains("hunter22"));
            let wanted = if is_secret { "[redacted]".to_owned() } else { json(&value) };
            let of_name = |line: &&str| line.contains(&name);
            assert!(
                shown.lines().filter(of_name).any(|it| it.contains(&wanted)),
                "{name}: {value} is not shown in\n{shown}"
            );
        }
        assert!(!shown.contains("hunter22"), "{shown}");
        for words in [
            r#"command: ["/bin/db","a b","--token=[redacted]"]"#,
            r#"command: ["env","true; rm\n-rf"]"#,
            r#"body: "{\"delete\": \"everything\"}""#,
            r#"Authorization: {"file":"/etc/selfheal/secrets/a"}"#,
            r#"X-Key: "[redacted]""#,
            r#"MODE: "fast""#,
            "undo:",
            "pre_check:",
            r"\u202e",
        ] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
    }

    #[test]
    fn a_field_that_is_not_known_here_is_shown_too() {
        let shown = render_value(
            &json!({"runbook": "a", "steps": [{"action": "vm.move", "to": [1, "b"]}]}),
        );
        assert_eq!(shown, "runbook: \"a\"\nsteps 1:\n  action: \"vm.move\"\n  to: [1,\"b\"]");
    }

    #[test]
    fn no_text_of_a_plan_begins_a_line_of_its_own() {
        let shown =
            render_value(&json!({"title": "a\nrisk: \"low\"\r\u{1b}[2K\u{2028}b", "risk": "high"}));
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{2028}'));
    }
}
