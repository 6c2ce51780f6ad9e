//! What nobody may see who need not: credentials in texts and URLs, and for all but admins what is
//! sent in headers, environments and bodies, and the configuration.
//!
//! A reference to a secret is no secret, and stays. What stands in a configuration as it is and
//! looks like a credential is found by [`literals`], told as a warning, and taken out of every text.

mod literals;
mod patterns;

use std::borrow::Cow;

use serde_json::{Map, Value};

pub use self::literals::{Literal, literals};
pub use self::patterns::{is_secret_name, looks_secret, text};
use crate::config::Config;

/// Stands for what is left out.
pub const REDACTED: &str = "[redacted]";

/// A literal of fewer bytes is too common to be taken out of every text.
const LITERAL_BYTES_MIN: usize = 6;

/// Headers whose values tell nothing but a format.
const HARMLESS_HEADERS: [&str; 10] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-encoding",
    "content-type",
    "host",
    "user-agent",
];

/// For whom something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Who decides about a plan: sees what will be done, but for credentials.
    Approver,
    /// Everybody else who may look: sees nothing that is sent in headers, environments and bodies.
    Viewer,
}

/// Redacts with the credentials of a configuration in mind.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// The longest first, so that none is left over in part.
    literals: Vec<String>,
}

impl Redactor {
    /// Looks for the credentials that a configuration holds as they are.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let found = literals(config).into_iter().map(|it| it.text);
        // What has blanks may be anything that is said, but for keys.
        let is_secret = |it: &String| patterns::is_one_word(it) || it.starts_with("-----BEGIN ");
        let mut literals: Vec<_> =
            found.filter(|it| LITERAL_BYTES_MIN <= it.len() && is_secret(it)).collect();
        literals.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        literals.dedup();
        Self { literals }
    }

    /// Returns a text without credentials.
    #[must_use]
    pub fn text<'a>(&self, given: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(given);
        for literal in self.literals.iter().filter(|it| given.contains(it.as_str())) {
            shown = Cow::Owned(shown.replace(literal.as_str(), REDACTED));
        }
        match text(&shown) {
            Cow::Borrowed(_) => shown,
            Cow::Owned(shorter) => Cow::Owned(shorter),
        }
    }

    /// Takes out of an answer what its reader may not see.
    pub fn json(&self, value: &mut Value, reader: Reader) {
        match value {
            Value::String(given) => {
                if let Cow::Owned(shown) = self.text(given) {
                    *given = shown;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|it| self.json(it, reader)),
            Value::Object(fields) => self.object(fields, reader),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn object(&self, fields: &mut Map<String, Value>, reader: Reader) {
        let is_request = fields.contains_key("url") || fields.contains_key("action");
        let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
        let holds_config = ["configured", "configuration_part"].contains(&kind);
        for (name, value) in fields.iter_mut() {
            match (name.as_str(), value) {
                // What is configured is for admins; a line still says who changed it, and why.
                ("config" | "part", value @ Value::Object(_)) if holds_config => {
                    *value = Value::Object(Map::new());
                }
                ("headers", Value::Object(pairs)) => self.pairs(pairs, reader, is_secret_header),
                ("env", Value::Object(pairs)) => self.pairs(pairs, reader, is_secret_name),
                ("body", Value::String(body)) if is_request => *body = self.body(body, reader),
                ("command", Value::Array(words)) => self.command(words, reader),
                (name, Value::String(given)) if patterns::is_telling_name(name) => {
                    REDACTED.clone_into(given);
                }
                (_, value) => self.json(value, reader),
            }
        }
    }

    /// Redacts headers, or an environment. References to secrets stay.
    fn pairs(&self, pairs: &mut Map<String, Value>, reader: Reader, is_secret: fn(&str) -> bool) {
        for (name, value) in pairs.iter_mut() {
            let Value::String(given) = value else { continue };
            if reader == Reader::Viewer || is_secret(name) || looks_secret(given) {
                REDACTED.clone_into(given);
            } else {
                *given = self.text(given).into_owned();
            }
        }
    }

    fn body(&self, given: &str, reader: Reader) -> String {
        if reader == Reader::Viewer {
            return REDACTED.to_owned();
        }
        let Ok(mut value) = serde_json::from_str::<Value>(given) else {
            return self.text(given).into_owned();
        };
        let before = value.clone();
        secret_fields(&mut value);
        self.json(&mut value, reader);
        // What holds no credential is shown to the byte.
        if value == before { given.to_owned() } else { value.to_string() }
    }

    fn command(&self, words: &mut [Value], reader: Reader) {
        let (mut is_value_next, mut is_user_next) = (false, false);
        for word in words {
            let (is_value, is_user) = (is_value_next, is_user_next);
            let text = word.as_str().unwrap_or_default();
            is_value_next = patterns::is_secret_flag(text);
            is_user_next = patterns::is_user_flag(text);
            if is_value && !text.starts_with('-') && patterns::is_one_word(text) {
                *word = Value::from(REDACTED);
            } else if let Some((flag, _)) = patterns::secret_argument(text) {
                *word = Value::from(format!("{flag}={REDACTED}"));
            } else if let Some((user, _)) = text.split_once(':').filter(|_| is_user) {
                *word = Value::from(format!("{user}:{REDACTED}"));
            } else {
                self.json(word, reader);
            }
        }
    }
}

fn is_secret_header(name: &str) -> bool {
    !HARMLESS_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}

/// Redacts the fields of a body whose names say that they are secret.
fn secret_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if is_secret_name(name) && (value.is_string() || value.is_number()) {
                    *value = Value::from(REDACTED);
                } else {
                    secret_fields(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(secret_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(mut value: Value, reader: Reader) -> Value {
        Redactor::default().json(&mut value, reader);
        value
    }

    #[test]
    fn a_viewer_sees_no_header_environment_or_body_and_no_configuration() {
        let plan = json!({"steps": [
            {"action": "http.request", "url": "http://u:pw@h/x?token=abc&n=1", "body": "{\"a\":1}",
             "headers": {"authorization": {"env": "SECRET_A"}, "x-a": "b", "accept": "text/plain"}},
            {"action": "command.run", "command": ["a", "--token", "t0p", "-v"], "env": {"MODE": "x"}},
        ]});
        assert_eq!(
            shown(plan.clone(), Reader::Viewer),
            json!({"steps": [
                {"action": "http.request", "url": "http://[redacted]@h/x?token=[redacted]&n=1", "body": REDACTED,
                 "headers": {"authorization": {"env": "SECRET_A"}, "x-a": REDACTED, "accept": REDACTED}},
                {"action": "command.run", "command": ["a", "--token", REDACTED, "-v"], "env": {"MODE": REDACTED}},
            ]})
        );
        let approver = shown(plan, Reader::Approver);
        assert_eq!(approver["steps"][0]["body"], "{\"a\":1}");
        assert_eq!(approver["steps"][0]["headers"]["accept"], "text/plain");
        assert_eq!(approver["steps"][0]["headers"]["x-a"], REDACTED);
        assert_eq!(approver["steps"][1]["env"]["MODE"], "x");
        let line = json!({"decision": "configured", "detail": {"fact": {"kind": "configured",
            "by": "ann", "config": {"targets": [{"name": "a"}]}}}});
        for reader in [Reader::Viewer, Reader::Approver] {
            let fact = &shown(line.clone(), reader)["detail"]["fact"];
            assert_eq!((&fact["config"], &fact["by"]), (&json!({}), &json!("ann")));
        }
    }

    #[test]
    fn an_approver_sees_a_body_but_for_what_is_secret_in_it() {
        let body = |body: &str| {
            let value = shown(json!({"url": "http://h", "body": body}), Reader::Approver);
            value["body"].as_str().unwrap().to_owned()
        };
        assert_eq!(body("{\"delete\": \"everything\"}"), "{\"delete\": \"everything\"}");
        assert_eq!(body("{\"api_key\":\"abc\",\"n\":1}"), "{\"api_key\":\"[redacted]\",\"n\":1}");
        assert_eq!(body("a=1&password=x%20y&b=2"), "a=1&password=[redacted]&b=2");
        assert_eq!(body("drop table"), "drop table");
    }

    #[test]
    fn a_script_is_shown_but_for_the_values_in_it() {
        let word = "echo hi; X_TOKEN=s3cret rm -rf /srv";
        let command = json!({"command": ["sh", "-c", word, "--token", "rm -rf /", "--token", "x"]});
        let shown = shown(command, Reader::Approver);
        let wanted = [
            "sh",
            "-c",
            "echo hi; X_TOKEN=[redacted] rm -rf /srv",
            "--token",
            "rm -rf /",
            "--token",
            REDACTED,
        ];
        assert_eq!(shown["command"], json!(wanted));
    }

    #[test]
    fn who_did_something_and_what_we_call_a_token_stays() {
        for text in [
            "token:ann approved it",
            "token:ci (ann)",
            "approved by slack:U1 (ann)",
            "the secret is not there",
            "password of the broker is wrong",
            "http 127.0.0.1:8080 answered 503",
            "check `command curl -fsS http://127.0.0.1:8080/health` failed",
        ] {
            assert_eq!(shown(json!(text), Reader::Viewer), json!(text));
        }
        let proof = json!({"kind": "token", "name": "ann", "id": "0123456789abcdef"});
        assert_eq!(shown(proof.clone(), Reader::Viewer), proof);
    }

    /// The configuration with a credential in every kind and place.
    fn planted() -> Config {
        let text = include_str!("redact/planted.yaml");
        crate::config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn is_clean(what: &str) -> bool {
        !what.to_lowercase().contains("hunter")
    }

    #[test]
    fn planted_credentials_are_warned_of_one_by_one() {
        let config = planted();
        let found = literals(&config);
        for n in 1..=44 {
            let name = format!("hunter{n:02}");
            let is_it = |it: &Literal| it.text.to_lowercase().contains(&name);
            assert!(found.iter().any(is_it), "{name} is not among {found:#?}");
        }
        assert!(is_clean(&config.warnings().join("\n")), "{:?}", config.warnings());
    }

    #[test]
    fn planted_credentials_are_in_nothing_that_is_shown() {
        let config = planted();
        let redactor = Redactor::new(&config);
        let target = config.target("store").unwrap();
        let steps: Vec<_> = config.runbooks[0]
            .steps
            .iter()
            .map(|step| json!({"name": "a", "action": step.resolve(target).unwrap(),
                "pre_check": step.pre_check, "undo": step.undo.as_ref().map(|it| it.resolve(target).unwrap())}))
            .collect();
        let process = target.process.clone().unwrap();
        let labels: Vec<_> = target.checks.iter().map(crate::check::Check::label).collect();
        let told = json!({
            "plan": {"steps": steps, "restart": {"action": "process.restart", "process": process}},
            "line": {"fact": {"kind": "configured", "config": config}},
            "part": {"fact": {"kind": "configuration_part", "part": config}},
            "evidence": [{"source": "log", "summary": "said hunter05", "detail": {
                "lines": ["DB_PASSWORD=hunter04", "connected to amqp://u:hunter15@mq/x", "cookie hunter06"]}}],
            "event": {"payload": {"password": "hunter-of-a-sender", "text": "token=hunter-too"}},
            "checks": labels,
        });
        assert!(is_clean(&labels.join("\n")), "{labels:?}");
        for reader in [Reader::Viewer, Reader::Approver] {
            let mut shown = told.clone();
            redactor.json(&mut shown, reader);
            assert!(is_clean(&shown.to_string()), "{reader:?}: {shown:#}");
        }
        let rendered = crate::plan::render_value(&told["plan"]);
        assert!(is_clean(&rendered), "{rendered}");
    }
}
