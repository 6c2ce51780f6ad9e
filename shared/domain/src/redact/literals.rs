//! Credentials that a configuration holds as they are.

use std::collections::BTreeMap;

use super::patterns::{
    credentials, is_one_word, is_secret_flag, is_secret_name, is_user_flag, secret_argument,
};
use crate::{
    action::StepSpec, check::Check, config::Config, measure::Measure, notify::Receiver,
    secret::Text, target::Target,
};

/// Something in a configuration that looks like a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Where it is, such as `targets[0].process.env.DB_PASSWORD`.
    pub path: String,
    /// What it is.
    pub text: String,
}

/// Returns what looks like a credential in a configuration, in its order.
#[must_use]
pub fn literals(config: &Config) -> Vec<Literal> {
    let mut found = Found::default();
    for (idx, target) in config.targets.iter().enumerate() {
        found.target(&format!("targets[{idx}]"), target);
    }
    for (idx, runbook) in config.runbooks.iter().enumerate() {
        let path = format!("runbooks[{idx}]");
        for (idx, step) in runbook.steps.iter().enumerate() {
            found.step(&format!("{path}.steps[{idx}]"), step);
        }
        found.checks(&format!("{path}.verify.checks"), &runbook.verify.checks);
    }
    for (idx, receiver) in config.notify.receivers.iter().enumerate() {
        found.receiver(&format!("notify.receivers[{idx}]"), receiver);
    }
    for (idx, notifier) in config.policy.notify.iter().enumerate() {
        found.url(&format!("policy.notify[{idx}].webhook"), notifier.webhook.as_deref());
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Literal>);

impl Found {
    fn push(&mut self, path: &str, text: &str) {
        let is_known = self.0.iter().any(|it| it.path == path && it.text == text);
        if !text.is_empty() && !is_known {
            self.0.push(Literal { path: path.to_owned(), text: text.to_owned() });
        }
    }

    fn target(&mut self, path: &str, target: &Target) {
        if let Some(process) = &target.process {
            self.texts(&format!("{path}.process.env"), &process.env);
            self.command(&format!("{path}.process.command"), Some(&process.command));
        }
        self.checks(&format!("{path}.checks"), &target.checks);
        for (idx, Measure { prometheus, headers, .. }) in target.evidence.iter().enumerate() {
            let path = format!("{path}.evidence[{idx}]");
            self.texts(&format!("{path}.headers"), headers);
            self.url(&format!("{path}.prometheus.url"), Some(&prometheus.url));
        }
    }

    fn checks(&mut self, path: &str, checks: &[Check]) {
        for (idx, check) in checks.iter().enumerate() {
            self.check(&format!("{path}[{idx}]"), check);
        }
    }

    fn check(&mut self, path: &str, check: &Check) {
        self.url(&format!("{path}.http"), check.http.as_deref());
        self.texts(&format!("{path}.headers"), &check.headers);
        self.command(&format!("{path}.command"), check.command.as_deref());
        if let Some(asked) = &check.prometheus {
            self.url(&format!("{path}.prometheus.url"), Some(&asked.url));
        }
    }

    fn step(&mut self, path: &str, step: &StepSpec) {
        self.command(&format!("{path}.command"), step.command.as_deref());
        self.texts(&format!("{path}.env"), &step.env);
        self.url(&format!("{path}.url"), step.url.as_deref());
        self.texts(&format!("{path}.headers"), &step.headers);
        if let Some(body) = step.body.as_ref().and_then(Text::plain) {
            self.parts(&format!("{path}.body"), body);
        }
        if let Some(check) = &step.pre_check {
            self.check(&format!("{path}.pre_check"), check);
        }
        if let Some(undo) = &step.undo {
            self.step(&format!("{path}.undo"), undo);
        }
    }

    fn receiver(&mut self, path: &str, receiver: &Receiver) {
        let webhook = receiver.webhook.as_ref().and_then(|it| it.url.as_deref());
        self.url(&format!("{path}.webhook.url"), webhook);
        let url = receiver.alertmanager.as_ref().map(|it| it.url.as_str());
        self.url(&format!("{path}.alertmanager.url"), url);
        let url = receiver.pagerduty.as_ref().and_then(|it| it.url.as_deref());
        self.url(&format!("{path}.pagerduty.url"), url);
    }

    fn texts(&mut self, path: &str, texts: &BTreeMap<String, Text>) {
        for (name, text) in texts.iter().filter_map(|(name, it)| Some((name, it.plain()?))) {
            let path = format!("{path}.{name}");
            if is_secret_name(name) {
                // `Bearer x` is said whole, and `x` alone.
                self.push(&path, text);
                self.push(&path, text.rsplit(' ').next().unwrap_or_default());
            } else {
                self.parts(&path, text);
            }
        }
    }

    fn command(&mut self, path: &str, words: Option<&[String]>) {
        let words = words.unwrap_or_default();
        for (idx, word) in words.iter().enumerate() {
            let path = format!("{path}[{idx}]");
            let before = idx.checked_sub(1).and_then(|idx| words.get(idx));
            let is_value = before.is_some_and(|it| is_secret_flag(it)) && !word.starts_with('-');
            let is_user = before.is_some_and(|it| is_user_flag(it));
            match (secret_argument(word), word.split_once(':')) {
                (Some((_, value)), _) => self.push(&path, value),
                (None, _) if is_value && is_one_word(word) => self.push(&path, word),
                (None, Some((_, password))) if is_user => self.push(&path, password),
                (None, _) => self.parts(&path, word),
            }
        }
    }

    fn url(&mut self, path: &str, url: Option<&str>) {
        self.parts(path, url.unwrap_or_default());
    }

    /// Takes the parts of a text that look like credentials: the rest of it is none.
    fn parts(&mut self, path: &str, text: &str) {
        for part in credentials(text) {
            self.push(path, &part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn literals_are_found_with_their_places_and_references_are_none() {
        let text = "
targets:
  - name: a
    process:
      command: [serve, --password, hunter22, --port=1, --api-key=k3y]
      env: {DB_PASSWORD: hunter33, MODE: fast, TOKEN: {env: SECRET_TOKEN}}
    checks:
      - {http: 'http://u:hunter44@h/', headers: {Authorization: Bearer hunter55, Accept: text/plain}}
runbooks:
  - name: call
    title: calls
    risk: low
    when: {causes: [process_exited]}
    steps:
      - action: http.request
        url: http://h/?token=hunter66
        headers: {X-Api-Key: {file: /etc/selfheal/secrets/key}}
        body: '{\"password\": \"hunter77\"}'
notify:
  receivers: [{name: hook, webhook: {url: 'https://hooks.slack.com/services/T0/B0/hunter88'}}]
";
        let config = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut found: Vec<_> = literals(&config).into_iter().map(|it| it.path).collect();
        found.dedup();
        assert_eq!(
            found,
            [
                "targets[0].process.env.DB_PASSWORD",
                "targets[0].process.command[2]",
                "targets[0].process.command[4]",
                "targets[0].checks[0].http",
                "targets[0].checks[0].headers.Authorization",
                "runbooks[0].steps[0].url",
                "runbooks[0].steps[0].body",
                "notify.receivers[0].webhook.url",
            ]
        );
        let warnings = config.warnings().join("\n");
        assert!(warnings.contains("targets[0].process.env.DB_PASSWORD"), "{warnings}");
        assert!(!warnings.contains("hunter"), "{warnings}");
    }
}
