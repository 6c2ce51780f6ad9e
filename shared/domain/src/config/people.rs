//! What the part about notices must keep besides its form.

use std::collections::BTreeSet;

use super::validate::{Finding, finding, is_name, is_url, nearest};
use crate::{
    notify::{Email, Flood, Notify, Receiver, Route, Slack, Tls, Way, Webhook},
    secret::SecretRef,
    span::Span,
};

/// A receiver that may be told more often than this in one window needs no limit.
const RATE_COUNT_MAX: u32 = 1000;

/// The time of each is remembered.
const FLOOD_INCIDENTS_MAX: u32 = 10_000;
/// Shorter times would sum up a flood by another flood.
const FLOOD_SPAN_MIN: Span = Span::from_secs(60);
/// Longer ones would hide that it is over.
const FLOOD_SPAN_MAX: Span = Span::from_secs(24 * 3600);

/// Longest template: it is rendered for each notice.
const TEMPLATE_BYTES_MAX: usize = 16 * 1024;

pub(super) fn findings(notify: &Notify, found: &mut Vec<Finding>) {
    let mut say = |path: &str, message: &str, hint: &str| {
        found.push(finding(format!("notify.{path}"), message, hint));
    };
    if notify.public_url.as_ref().is_some_and(|url| !is_url(url)) {
        say("public_url", "must be a http or https URL", "such as https://selfheal.example.org");
    }
    if let Some(secret) = &notify.link_secret {
        secret_findings(secret, "notify.link_secret", found);
        if notify.public_url.is_none() {
            let hint = "add `public_url`, where people reach a gateway";
            let message = "approval links need a URL that leads to a gateway";
            found.push(finding("notify.link_secret", message, hint));
        }
    }
    if let Some(app) = &notify.slack {
        secret_findings(&app.signing_secret, "notify.slack.signing_secret", found);
        if app.approvers.is_empty() {
            let hint = "list ids of Slack users, such as `U012AB3CD`, or remove `slack`";
            let message = "no user may press the buttons";
            found.push(finding("notify.slack.approvers", message, hint));
        }
    }
    flood_findings(notify.flood, found);
    names(notify.receivers.iter().map(|it| it.name.as_str()), "receiver", found);
    names(notify.escalations.iter().map(|it| it.name.as_str()), "escalation", found);
    for (idx, receiver) in notify.receivers.iter().enumerate() {
        let path = format!("notify.receivers[{idx}]");
        receiver_findings(receiver, &path, found);
        if receiver.approval_links == Some(true) && !notify.decides_by_link(receiver) {
            let hint = "remove it: the buttons are for those in notify.slack.approvers alone";
            let message = "a link would let everybody in the channel decide";
            found.push(finding(format!("{path}.approval_links"), message, hint));
        }
    }
    for (idx, escalation) in notify.escalations.iter().enumerate() {
        let path = format!("notify.escalations[{idx}].steps");
        if escalation.steps.is_empty() {
            let hint = "name at least one step, such as `{tell: [oncall]}`";
            found.push(finding(path.clone(), "there is no step", hint));
        }
        for (idx, step) in escalation.steps.iter().enumerate() {
            if 0 < idx && step.after == Span::ZERO {
                let hint = "say how long to wait for somebody, such as `after: 10m`";
                let message = "a later step needs a time";
                found.push(finding(format!("{path}[{idx}].after"), message, hint));
            }
            told_findings(notify, &step.tell, &format!("{path}[{idx}].tell"), found);
        }
    }
    for (idx, route) in notify.routes.iter().enumerate() {
        route_findings(notify, route, &format!("notify.routes[{idx}]"), found);
    }
}

fn flood_findings(flood: Flood, found: &mut Vec<Finding>) {
    let mut say = |path: &str, message: &str, hint: &str| {
        found.push(finding(format!("notify.flood.{path}"), message, hint));
    };
    let Flood { incidents, within, summary } = flood;
    if incidents == 0 || FLOOD_INCIDENTS_MAX < incidents {
        let message = format!("must be from 1 to {FLOOD_INCIDENTS_MAX}");
        say("incidents", &message, "such as 50; more to be notified of each");
    }
    for (path, span) in [("within", within), ("summary", summary)] {
        if span < FLOOD_SPAN_MIN || FLOOD_SPAN_MAX < span {
            say(path, "must be from 1m to 1d", "such as 10m");
        }
    }
}

/// Names are parts of subjects of the broker, so they have no dot.
fn names<'a>(all: impl Iterator<Item = &'a str>, what: &str, found: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for (idx, name) in all.enumerate() {
        let path = format!("notify.{what}s[{idx}].name");
        if !is_name(name) || name.contains('.') || name.starts_with("policy-notify-") {
            let message = format!("`{name}` is not a name of a {what}");
            found.push(finding(path, message, "use 1 to 64 letters, digits, `_` or `-`"));
        } else if !seen.insert(name) {
            let message = format!("{what} `{name}` is there twice");
            found.push(finding(path, message, "give each a name of its own"));
        }
    }
}

fn receiver_findings(receiver: &Receiver, path: &str, found: &mut Vec<Finding>) {
    match receiver.way() {
        Err(error) => found.push(finding(path, error.to_string(), "such as `log: true`")),
        Ok(Way::Slack(slack)) => slack_findings(slack, &format!("{path}.slack"), found),
        Ok(Way::Teams(teams)) => {
            secret_findings(&teams.webhook, &format!("{path}.teams.webhook"), found);
        }
        Ok(Way::PagerDuty(way)) => {
            secret_findings(&way.routing_key, &format!("{path}.pagerduty.routing_key"), found);
            url_findings(way.url.as_deref(), &format!("{path}.pagerduty.url"), found);
        }
        Ok(Way::Email(email)) => email_findings(email, &format!("{path}.email"), found),
        Ok(Way::Webhook(way)) => webhook_findings(way, &format!("{path}.webhook"), found),
        Ok(Way::Alertmanager(way)) => {
            url_findings(Some(&way.url), &format!("{path}.alertmanager.url"), found);
        }
        Ok(Way::Log) => {}
    }
    if receiver.quiet.is_some_and(|it| it.from == it.until) {
        let hint = "remove the receiver from the routes, or give it hours";
        let message = "the quiet hours end when they begin";
        found.push(finding(format!("{path}.quiet.until"), message, hint));
    }
    let rates = receiver.rate.iter().flat_map(|it| &it.0);
    if rates.clone().any(|it| it.count == 0 || RATE_COUNT_MAX < it.count) {
        let message = format!("a count must be from 1 to {RATE_COUNT_MAX}");
        found.push(finding(format!("{path}.rate"), message, "such as `30/h`"));
    }
}

fn slack_findings(slack: &Slack, path: &str, found: &mut Vec<Finding>) {
    match (&slack.webhook, &slack.token, &slack.channel) {
        (Some(secret), None, None) => secret_findings(secret, &format!("{path}.webhook"), found),
        (None, Some(secret), Some(channel)) => {
            secret_findings(secret, &format!("{path}.token"), found);
            if channel.trim().is_empty() {
                let hint = "the id of the channel, such as C012AB3CD";
                found.push(finding(format!("{path}.channel"), "the channel is empty", hint));
            }
        }
        (_, _, _) => {
            let hint = "such as `webhook: {env: SECRET_SLACK_URL}`";
            let message = "name a webhook, or a token and a channel";
            found.push(finding(path, message, hint));
        }
    }
    url_findings(slack.api_url.as_deref(), &format!("{path}.api_url"), found);
}

fn email_findings(email: &Email, path: &str, found: &mut Vec<Finding>) {
    let is_address = |text: &str| {
        let text = text.trim_end_matches('>');
        let address = text.rsplit('<').next().unwrap_or(text);
        address.split_once('@').is_some_and(|(who, at)| !who.is_empty() && !at.is_empty())
    };
    if email.server.trim().is_empty() {
        let hint = "name the mail server, such as smtp.example.org";
        found.push(finding(format!("{path}.server"), "there is no server", hint));
    }
    let hint = "such as selfheal@example.org";
    if !is_address(&email.from) {
        found.push(finding(format!("{path}.from"), "must be an address", hint));
    }
    if email.to.is_empty() || !email.to.iter().all(|it| is_address(it)) {
        found.push(finding(format!("{path}.to"), "must be one or more addresses", hint));
    }
    match (&email.username, &email.password) {
        (None, None) => {}
        (Some(_), Some(secret)) => {
            secret_findings(secret, &format!("{path}.password"), found);
            if email.tls == Tls::None {
                let hint = "use `tls: starttls` or `tls: tls`";
                let message = "a password is not sent in the clear";
                found.push(finding(format!("{path}.tls"), message, hint));
            }
        }
        (_, _) => {
            let hint = "give both or none";
            let message = "who logs in needs a username and a password";
            found.push(finding(path, message, hint));
        }
    }
}

fn webhook_findings(webhook: &Webhook, path: &str, found: &mut Vec<Finding>) {
    match (&webhook.url, &webhook.url_from) {
        (Some(_), None) => url_findings(webhook.url.as_deref(), &format!("{path}.url"), found),
        (None, Some(secret)) => secret_findings(secret, &format!("{path}.url_from"), found),
        (_, _) => {
            let hint =
                "such as `url: https://hooks.example.org/x`, or `url_from: {env: SECRET_HOOK_URL}`";
            found.push(finding(path, "name one of url, url_from", hint));
        }
    }
    if let Some(secret) = &webhook.secret {
        secret_findings(secret, &format!("{path}.secret"), found);
    }
    if webhook.template.as_ref().is_some_and(|it| TEMPLATE_BYTES_MAX < it.len()) {
        let message = format!("is longer than {TEMPLATE_BYTES_MAX} bytes");
        found.push(finding(format!("{path}.template"), message, "say it in fewer words"));
    }
}

fn route_findings(notify: &Notify, route: &Route, path: &str, found: &mut Vec<Finding>) {
    if route.matches.as_ref().is_some_and(crate::notify::Match::is_empty) {
        let hint = "name what must fit, or remove `match` to mean every incident";
        found.push(finding(format!("{path}.match"), "says nothing", hint));
    }
    if let Some(name) = route.escalation.as_ref().filter(|it| notify.escalation(it).is_none()) {
        let known = notify.escalations.iter().map(|it| it.name.as_str());
        let message = format!("there is no escalation `{name}`");
        found.push(finding(format!("{path}.escalation"), message, &nearest(name, known)));
    }
    if !route.tell.is_empty() {
        told_findings(notify, &route.tell, &format!("{path}.tell"), found);
    }
}

fn told_findings(notify: &Notify, tell: &[String], path: &str, found: &mut Vec<Finding>) {
    if tell.is_empty() {
        found.push(finding(path, "nobody is told", "name at least one receiver"));
    }
    for (idx, name) in tell.iter().enumerate() {
        if notify.receiver(name).is_none() {
            let known = notify.receivers.iter().map(|it| it.name.as_str());
            let message = format!("there is no receiver `{name}`");
            found.push(finding(format!("{path}[{idx}]"), message, &nearest(name, known)));
        }
    }
}

fn secret_findings(secret: &SecretRef, path: &str, found: &mut Vec<Finding>) {
    if let Err(error) = secret.place() {
        let hint = "such as `{env: SECRET_SLACK_URL}` or `{file: /etc/selfheal/secrets/slack}`";
        found.push(finding(path, error.to_string(), hint));
    }
}

fn url_findings(url: Option<&str>, path: &str, found: &mut Vec<Finding>) {
    if url.is_some_and(|url| !is_url(url)) {
        found.push(finding(path, "must be a http or https URL", "such as https://example.org/x"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn told(text: &str) -> Vec<String> {
        let text = format!("targets: [{{name: db, docker: {{container: db}}}}]\nnotify:\n{text}");
        match parse(&text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|it| format!("{it} ({})", it.hint)).collect(),
        }
    }

    #[test]
    fn a_whole_example_is_valid() {
        let text = "
  public_url: https://selfheal.example.org
  link_secret: {file: /run/secrets/links}
  slack: {signing_secret: {env: SLACK_SIGNING_SECRET}, approvers: [U012AB3CD]}
  receivers:
    - name: chat
      slack: {token: {env: SLACK_TOKEN}, channel: C012AB3CD}
      quiet: {from: '22:00', until: '06:30', time_zone: '+02:00'}
      rate: 30/h
    - {name: hook, slack: {webhook: {env: SLACK_URL}}}
    - {name: teams, teams: {webhook: {env: TEAMS_URL}}}
    - {name: pager, pagerduty: {routing_key: {env: PD_KEY}}}
    - name: mail
      email: {server: smtp.example.org, from: a@example.org, to: [b@example.org], username: a, password: {env: MAIL}}
    - {name: own, webhook: {url: 'https://example.org/x', secret: {env: HOOK}, template: '{{ title }}'}}
    - {name: am, alertmanager: {url: 'http://127.0.0.1:9093'}}
    - {name: log, log: true}
  escalations:
    - {name: night, steps: [{tell: [chat]}, {after: 10m, tell: [pager, mail]}]}
  routes:
    - {match: {severity: critical, labels: {team: db}}, escalation: night, continue: true}
    - {on: [opened, resolved], tell: [log]}
    - {tell: [chat]}
";
        assert_eq!(told(text), [""; 0]);
    }

    #[test]
    fn each_mistake_is_told_with_its_line_and_a_hint() {
        for (text, part) in [
            ("  public_url: selfheal.example.org", "http or https URL"),
            ("  link_secret: {env: A}", "`public_url`"),
            ("  link_secret: {}\n  public_url: http://a", "exactly one of `env` and `file`"),
            ("  slack: {signing_secret: {env: A}}", "no user may press"),
            ("  receivers: [{name: a}]", "exactly one way"),
            (
                "  slack: {signing_secret: {env: A}, approvers: [U1]}\n  receivers: [{name: a, slack: {webhook: {env: A}}, approval_links: true}]",
                "everybody in the channel",
            ),
            ("  flood: {incidents: 0}", "from 1 to 10000"),
            ("  flood: {incidents: 10001}", "from 1 to 10000"),
            ("  flood: {within: 1s}", "from 1m to 1d"),
            ("  flood: {summary: 2d}", "from 1m to 1d"),
            ("  receivers: [{name: a, log: true, teams: {webhook: {env: A}}}]", "exactly one way"),
            ("  receivers: [{name: a.b, log: true}]", "is not a name"),
            ("  receivers: [{name: a, log: true}, {name: a, log: true}]", "twice"),
            ("  receivers: [{name: a, slack: {token: {env: A}}}]", "a token and a channel"),
            ("  receivers: [{name: a, webhook: {}}]", "one of url, url_from"),
            ("  receivers: [{name: a, webhook: {url: a}}]", "http or https URL"),
            ("  receivers: [{name: a, pagerduty: {}}]", "routing_key"),
            (
                "  receivers: [{name: a, email: {server: a, from: a, to: [b@c]}}]",
                "must be an address",
            ),
            (
                "  receivers: [{name: a, email: {server: a, from: a@b, to: [b@c], tls: none, username: u, password: {env: A}}}]",
                "not sent in the clear",
            ),
            (
                "  receivers: [{name: a, log: true, quiet: {from: '9', until: '10:00'}}]",
                "time of the day",
            ),
            (
                "  receivers: [{name: a, log: true, quiet: {from: '09:00', until: '09:00'}}]",
                "end when they begin",
            ),
            ("  receivers: [{name: a, log: true, rate: 5000/h}]", "from 1 to 1000"),
            ("  escalations: [{name: a, steps: []}]", "no step"),
            (
                "  receivers: [{name: a, log: true}]\n  escalations: [{name: e, steps: [{tell: [a]}, {tell: [a]}]}]",
                "needs a time",
            ),
            ("  receivers: [{name: chat, log: true}]\n  routes: [{tell: [chta]}]", "`chat`?"),
            ("  routes: [{escalation: night}]", "no escalation `night`"),
            ("  routes: [{match: {}, escalation: night}]", "says nothing"),
            ("  routes: [{on: [exploded]}]", "exploded"),
        ] {
            let told = told(text);
            let line = told.iter().find(|it| it.contains(part));
            assert!(line.is_some_and(|it| it.contains("selfheal.yaml:")), "{text}: {told:?}");
        }
    }
}
