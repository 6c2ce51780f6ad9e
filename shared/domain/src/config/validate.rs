//! What a configuration must keep besides its form.

use std::collections::BTreeSet;

use super::{Config, Watchdog, handles, people};
use crate::{
    autonomy::Risk,
    check::{self, Check},
    measure::MEASURES_MAX,
    policy::{Limit, Policy},
    redact,
    runbook::Runbook,
    span::Span,
    target::Target,
};

/// A mistake, at a path such as `targets[1].depends_on[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

pub(super) fn finding(path: impl Into<String>, message: impl Into<String>, hint: &str) -> Finding {
    Finding { path: path.into(), message: message.into(), hint: hint.to_owned() }
}

/// Names of the built-in runbooks, so that a policy about one is not a mistake.
/// The catalogue is the truth; a test over there compares.
#[must_use]
pub fn known_runbooks() -> &'static [&'static str] {
    &[
        "restart-process",
        "restart-after-main-process-exit",
        "restart-hung-process",
        "start-container",
        "restart-container",
        "restart-unhealthy-container",
        "restart-out-of-memory-process",
        "restart-out-of-memory-container",
    ]
}

/// Returns the risk of a built-in runbook; a test of the catalogue compares.
#[must_use]
pub fn built_in_risk(name: &str) -> Option<Risk> {
    match name {
        "restart-after-main-process-exit" | "restart-hung-process" | "restart-container" => {
            Some(Risk::Medium)
        }
        "restart-process"
        | "start-container"
        | "restart-unhealthy-container"
        | "restart-out-of-memory-process"
        | "restart-out-of-memory-container" => Some(Risk::Low),
        _ => None,
    }
}

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(too_large) = config.split() {
        let hint = "shorten its texts, or name a file in place of what it holds";
        found.push(finding("", too_large.to_string(), hint));
    }
    let mut names = BTreeSet::new();
    for (idx, target) in config.targets.iter().enumerate() {
        let path = format!("targets[{idx}]");
        if !names.insert(target.name.as_str()) {
            found.push(finding(
                format!("{path}.name"),
                format!("target `{}` is there twice", target.name),
                "give each target a name of its own",
            ));
        }
        target_findings(config, target, &path, &mut found);
    }
    found.extend(cycle(config));
    let mut runbooks = BTreeSet::new();
    for (idx, runbook) in config.runbooks.iter().enumerate() {
        let path = format!("runbooks[{idx}]");
        if !runbooks.insert(runbook.name.as_str()) {
            found.push(finding(
                format!("{path}.name"),
                format!("runbook `{}` is there twice", runbook.name),
                "give each runbook a name of its own",
            ));
        }
        let inner = runbook_findings(runbook, &config.targets);
        found.extend(inner.into_iter().map(|it| Finding { path: join(&path, &it.path), ..it }));
    }
    policy_findings(config, &config.policy, &mut found);
    people::findings(&config.notify, &mut found);
    if let Some(watchdog) = &config.watchdog {
        watchdog_findings(watchdog, &mut found);
    }
    super::quiet::findings(config, &mut found);
    found.extend(config.access.findings());
    super::integration::findings(&config.integrations, &mut found);
    found
}

/// Most systems that wait for a sign of life count in whole seconds.
/// Most people whose approval one plan may need.
const APPROVALS_MAX: u8 = 5;

const WATCHDOG_LEAST: Span = Span::from_secs(1);

fn watchdog_findings(watchdog: &Watchdog, found: &mut Vec<Finding>) {
    if !is_url(&watchdog.url) {
        let hint = "give the URL that the outside system shows for this check";
        found.push(finding("watchdog.url", "must be a http or https URL", hint));
    }
    if watchdog.every < WATCHDOG_LEAST {
        let hint = "such as `60s`; give the outside system a few times as long";
        found.push(finding("watchdog.every", "must be at least 1s", hint));
    }
}

fn join(path: &str, inner: &str) -> String {
    if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") }
}

pub(super) fn is_name(text: &str) -> bool {
    let legal = |it: char| it.is_ascii_alphanumeric() || "_-.".contains(it);
    (1..=64).contains(&text.len()) && text.chars().all(legal)
}

const NAME_HINT: &str = "use 1 to 64 letters, digits, `_`, `-` or `.`";

fn target_findings(config: &Config, target: &Target, path: &str, found: &mut Vec<Finding>) {
    if !is_name(&target.name) {
        let message = format!("`{}` is not a name of a target", target.name);
        found.push(finding(format!("{path}.name"), message, NAME_HINT));
    }
    if !is_name(&target.zone) || target.zone.contains('.') {
        let message = format!("`{}` is not a name of a zone", target.zone);
        found.push(finding(format!("{path}.zone"), message, "use letters, digits, `_` or `-`"));
    }
    for (idx, name) in target.depends_on.iter().enumerate() {
        if config.target(name).is_none() {
            found.push(finding(
                format!("{path}.depends_on[{idx}]"),
                format!("there is no target `{name}`"),
                &nearest(name, config.targets.iter().map(|it| it.name.as_str())),
            ));
        }
    }
    for (idx, check) in target.checks.iter().enumerate() {
        check_findings(check, target, &format!("{path}.checks[{idx}]"), found);
    }
    measure_findings(target, path, found);
    for (idx, selector) in target.select.iter().enumerate() {
        if selector.is_empty() {
            found.push(finding(
                format!("{path}.select[{idx}]"),
                "an empty selector matches nothing",
                "name at least one label and its value, or remove the selector",
            ));
        }
    }
    if target.process.is_some() && target.docker.is_some() {
        found.push(finding(
            format!("{path}.docker"),
            "a target has one handle, this one has `process` and `docker`",
            "make two targets of it",
        ));
    }
    let env = target.process.iter().flat_map(|it| &it.env);
    for (name, error) in env.filter_map(|(name, text)| Some((name, text.mistake()?))) {
        let hint = "such as `{env: SECRET_TOKEN}` or `{file: /etc/selfheal/secrets/token}`";
        found.push(finding(format!("{path}.process.env.{name}"), error.to_string(), hint));
    }
    if let Some(process) = &target.process {
        handles::process_findings(process, &format!("{path}.process"), found);
    }
    if target.docker.as_ref().is_some_and(|it| it.container.is_empty()) {
        let hint = "give the container's name, or `project/service` for compose";
        found.push(finding(format!("{path}.docker.container"), "the name is empty", hint));
    }
    if check::START_PERIOD_MAX < target.start_period {
        let hint = "such as `30s`; what takes longer to start is a failed start";
        let message = format!("must be at most {}", check::START_PERIOD_MAX);
        found.push(finding(format!("{path}.start_period"), message, hint));
    }
    if target.handle().is_none() && target.checks.is_empty() {
        found.push(finding(
            path,
            format!("target `{}` has neither a handle nor a check", target.name),
            "add `process: {command: [...]}`, `docker: {container: ...}` or `checks: [...]`",
        ));
    }
}

fn measure_findings(target: &Target, path: &str, found: &mut Vec<Finding>) {
    let mut names = BTreeSet::new();
    for (idx, measure) in target.evidence.iter().enumerate() {
        let path = format!("{path}.evidence[{idx}]");
        if let Some((field, why)) = measure.mistake() {
            let hint = "such as `{name: error rate, prometheus: {url: \"http://127.0.0.1:9090\", query: ...}}`";
            found.push(finding(format!("{path}.{field}"), why, hint));
        }
        if !names.insert(measure.name.trim()) {
            found.push(finding(
                format!("{path}.name"),
                format!("`{}` is there twice", measure.name),
                "give each a name of its own: people tell them apart by it",
            ));
        }
    }
    if MEASURES_MAX < target.evidence.len() {
        found.push(finding(
            format!("{path}.evidence"),
            format!("more than {MEASURES_MAX} are measured for each diagnosis"),
            "keep those that help to decide",
        ));
    }
}

fn check_findings(check: &Check, target: &Target, path: &str, found: &mut Vec<Finding>) {
    match check.probe() {
        Ok(_) => {}
        Err(check::Error::Field { field, why }) => {
            let hint = "correct it: a check that cannot be asked says nothing about its target";
            found.push(finding(format!("{path}.{field}"), why, hint));
        }
        Err(error @ check::Error::NotOneProbe(_)) => {
            let hint = "see the list of checks in the documentation";
            found.push(finding(path, error.to_string(), hint));
        }
    }
    if check.process == Some(true) && target.process.is_none() {
        let message = "a `process` check needs a target with a `process` handle";
        found.push(finding(
            format!("{path}.process"),
            message,
            "add the handle, or use tcp or http",
        ));
    }
    if check.docker == Some(true) && target.docker.is_none() {
        let message = "a `docker` check needs a target with a `docker` handle";
        found.push(finding(
            format!("{path}.docker"),
            message,
            "add the handle, or use tcp or http",
        ));
    }
}

/// Finds one cycle in `depends_on`, if there is one. Each target is looked into once.
fn cycle(config: &Config) -> Option<Finding> {
    let mut done = BTreeSet::new();
    for (idx, target) in config.targets.iter().enumerate() {
        let mut path = vec![target.name.as_str()];
        if let Some(path) = walk(config, target, &mut path, &mut done) {
            return Some(finding(
                format!("targets[{idx}].depends_on"),
                format!("depends_on goes round in a circle: {}", path.join(" -> ")),
                "remove one of these dependencies: the cause could not be told from the symptom",
            ));
        }
    }
    None
}

/// Returns the circle that is met first on the way down from `target`. `path` leads to it,
/// and `done` are those from which no circle can be reached.
fn walk<'a>(
    config: &'a Config,
    target: &'a Target,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    for name in &target.depends_on {
        if let Some(from) = path.iter().position(|it| it == name) {
            let circle = path.iter().skip(from).copied().chain([name.as_str()]);
            return Some(circle.map(str::to_owned).collect());
        }
        let Some(next) = config.target(name).filter(|_| !done.contains(name.as_str())) else {
            continue;
        };
        path.push(name);
        if let Some(found) = walk(config, next, path, done) {
            return Some(found);
        }
        path.pop();
    }
    done.insert(target.name.as_str());
    None
}

/// Returns the mistakes of one runbook, with paths inside of it. `targets` may be empty:
/// then nothing is said about selectors.
pub(super) fn runbook_findings(runbook: &Runbook, targets: &[Target]) -> Vec<Finding> {
    let mut found = Vec::new();
    if !is_name(&runbook.name) {
        let message = format!("`{}` is not a name of a runbook", runbook.name);
        found.push(finding("name", message, NAME_HINT));
    }
    if runbook.when.is_empty() {
        found.push(finding(
            "when",
            "the condition names neither a cause nor an event type, so it matches nothing",
            "add `causes: [process_exited]` or `events: [service_down]`",
        ));
    }
    for (idx, pattern) in runbook.when.sources.iter().enumerate() {
        if pattern.is_empty() {
            let hint = "such as `integration:grafana`; without `sources`, every source counts";
            found.push(finding(
                format!("when.sources[{idx}]"),
                "an empty name matches no source",
                hint,
            ));
        }
    }
    if runbook.steps.is_empty() {
        found.push(finding("steps", "there is no step", "name at least one action"));
    }
    if runbook.attempts == 0 {
        found.push(finding("attempts", "must be at least 1", "remove the runbook instead"));
    }
    for (idx, step) in runbook.steps.iter().enumerate() {
        if let Err(error) = step.validate() {
            let hint = "see the list of actions in the documentation";
            found.push(finding(format!("steps[{idx}]"), error.to_string(), hint));
        }
        if let Some(Err(error)) = step.pre_check.as_ref().map(Check::probe) {
            let path = format!("steps[{idx}].pre_check");
            found.push(finding(path, error.to_string(), "name one probe"));
        }
    }
    for (idx, check) in runbook.verify.checks.iter().enumerate() {
        if let Err(error) = check.probe() {
            found.push(finding(
                format!("verify.checks[{idx}]"),
                error.to_string(),
                "name one probe",
            ));
        }
    }
    if !targets.is_empty() {
        selector_findings(runbook, targets, &mut found);
    }
    found
}

fn selector_findings(runbook: &Runbook, targets: &[Target], found: &mut Vec<Finding>) {
    for (idx, name) in runbook.when.targets.iter().enumerate() {
        if targets.iter().all(|it| it.name != *name) {
            found.push(finding(
                format!("when.targets[{idx}]"),
                format!("there is no target `{name}`"),
                &nearest(name, targets.iter().map(|it| it.name.as_str())),
            ));
        }
    }
    let labels = &runbook.when.labels;
    let has_all = |it: &Target| labels.iter().all(|(key, value)| it.labels.get(key) == Some(value));
    if !labels.is_empty() && !targets.iter().any(has_all) {
        found.push(finding(
            "when.labels",
            "the selector matches no target",
            "compare it with the `labels` of the targets",
        ));
    }
}

fn policy_findings(config: &Config, policy: &Policy, found: &mut Vec<Finding>) {
    for (idx, freeze) in policy.freeze.iter().enumerate() {
        if freeze.until <= freeze.from {
            let hint = "swap `from` and `until`";
            let message = "the freeze ends before it begins";
            found.push(finding(format!("policy.freeze[{idx}].until"), message, hint));
        }
    }
    for (field, Limit { percent, .. }) in
        [("budget.blast_radius", policy.budget.blast_radius), ("storm", policy.storm)]
    {
        if 100 < percent {
            let path = format!("policy.{field}.percent");
            found.push(finding(path, "must be at most 100", "write a percentage"));
        }
    }
    if policy.attempts == 0 {
        let hint = "use `autonomy: suggest` to run nothing";
        found.push(finding("policy.attempts", "must be at least 1", hint));
    }
    let stated = policy.runbooks.iter().filter_map(|(name, it)| {
        Some((format!("policy.runbooks.{name}.approvals"), it.approvals?))
    });
    for (path, n) in stated.chain([("policy.approvals".to_owned(), policy.approvals)]) {
        if !(1..=APPROVALS_MAX).contains(&n) {
            let hint = "1 is one person; 2 are two different people";
            found.push(finding(path, format!("must be 1 to {APPROVALS_MAX}"), hint));
        }
    }
    for name in policy.runbooks.keys() {
        let own = config.runbooks.iter().map(|it| it.name.as_str());
        let known: Vec<_> = own.chain(known_runbooks().iter().copied()).collect();
        if !known.contains(&name.as_str()) {
            found.push(finding(
                format!("policy.runbooks.{name}"),
                format!("there is no runbook `{name}`"),
                &nearest(name, known.into_iter()),
            ));
        }
    }
    for (idx, notifier) in policy.notify.iter().enumerate() {
        let path = format!("policy.notify[{idx}]");
        match (&notifier.webhook, notifier.log) {
            (Some(url), None) if is_url(url) => {}
            (Some(_), None) => {
                let hint = "such as https://hooks.example.org/x";
                found.push(finding(path, "webhook must be a http or https URL", hint));
            }
            (None, Some(true)) => {}
            (Some(_), Some(_)) | (None, Some(false) | None) => {
                found.push(finding(path, "name one of webhook, log", "such as `log: true`"));
            }
        }
    }
}

pub(super) fn is_url(text: &str) -> bool {
    check::url_mistake(text).is_none()
}

/// Says which of the known names may have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let close = known.iter().min_by_key(|it| distance(name, it));
    match close {
        Some(close) if distance(name, close) <= 3 => format!("did you mean `{close}`?"),
        _ if known.is_empty() => "there are none yet".to_owned(),
        _ => format!("known are: {}", known.join(", ")),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (idx, x) in a.chars().enumerate() {
        let mut next = vec![idx + 1];
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != *y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.targets.is_empty() {
        warnings.push("there is no target, so nothing is watched".to_owned());
    }
    for target in &config.targets {
        if target.handle().is_none() {
            warnings.push(format!(
                "target `{}` has no handle: it is watched, but the built-in runbooks cannot heal it",
                target.name
            ));
        }
    }
    let blast = config.policy.budget.blast_radius;
    if blast.of(config.targets.len()) == 0 {
        warnings.push("the blast radius is 0, so no fix will ever be started".to_owned());
    }
    let mut places: Vec<_> = redact::literals(config).into_iter().map(|it| it.path).collect();
    places.dedup();
    warnings.extend(places.iter().map(|place| {
        format!(
            "{place} looks like a credential: name where it is, `{{env: SECRET_NAME}}` or `{{file: PATH}}`, as a configuration is stored and logged whole"
        )
    }));
    warnings
}
