//! Who is told of one occasion.

use std::collections::BTreeMap;

use super::{Match, Notify, Occasion, Route};
use crate::event::Severity;

/// What routes look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// Type of the event that opened the incident.
    pub kind: &'a str,
    /// The target, or what the sender called it.
    pub target: Option<&'a str>,
    /// Labels of the event.
    pub labels: &'a BTreeMap<String, String>,
    /// Labels of the configured target.
    pub target_labels: Option<&'a BTreeMap<String, String>>,
}

/// Who is told of one occasion; each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Names of receivers that are told at once.
    pub receivers: Vec<String>,
    /// Names of escalations that begin.
    pub escalations: Vec<String>,
}

impl Match {
    /// Returns whether an incident is meant.
    #[must_use]
    pub fn fits(&self, subject: &Subject<'_>) -> bool {
        let has = |key: &String, value: &String| {
            let own = subject.labels.get(key);
            own.or_else(|| subject.target_labels?.get(key)) == Some(value)
        };
        self.severity.is_none_or(|least| least <= subject.severity)
            && self.labels.iter().all(|(key, value)| has(key, value))
            && (self.targets.is_empty()
                || self.targets.iter().any(|it| Some(it.as_str()) == subject.target))
            && (self.types.is_empty() || self.types.iter().any(|it| it == subject.kind))
    }
}

impl Route {
    fn is_for(&self, occasion: Occasion) -> bool {
        let on = self.on.as_deref().unwrap_or(&Occasion::BY_DEFAULT);
        on.contains(&occasion)
    }
}

impl Notify {
    /// Returns whether anybody may be told of such a thing, whatever the incident is like.
    #[must_use]
    pub fn tells_of(&self, occasion: Occasion) -> bool {
        self.routes.iter().any(|it| it.is_for(occasion))
    }

    /// Returns who is told. What calls nobody goes to all whom the routes can reach, the
    /// later steps of escalations included: the caller knows which of them were called.
    #[must_use]
    pub fn audience(&self, occasion: Occasion, subject: &Subject<'_>) -> Audience {
        let mut found = Audience::default();
        let fits = |it: &&Route| it.matches.as_ref().is_none_or(|it| it.fits(subject));
        for route in self.routes.iter().filter(fits) {
            if route.is_for(occasion) {
                found.add(&route.tell);
                let escalation = route.escalation.as_deref().and_then(|it| self.escalation(it));
                if let Some(escalation) = escalation {
                    if occasion.calls() {
                        push(&mut found.escalations, &escalation.name);
                    } else {
                        escalation.steps.iter().for_each(|step| found.add(&step.tell));
                    }
                }
            }
            if !route.r#continue {
                break;
            }
        }
        found
    }
}

impl Audience {
    fn add(&mut self, names: &[String]) {
        names.iter().for_each(|name| push(&mut self.receivers, name));
    }
}

fn push(names: &mut Vec<String>, name: &str) {
    if names.iter().all(|it| it != name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notify::{Escalation, EscalationStep},
        span::Span,
    };

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn tell(names: &[&str]) -> Vec<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    fn notify() -> Notify {
        let step =
            |after, names| EscalationStep { after: Span::from_secs(after), tell: tell(names) };
        let fits = |it: Match| Some(it);
        Notify {
            escalations: vec![Escalation {
                name: "night".to_owned(),
                steps: vec![step(0, &["chat"]), step(600, &["pager"])],
            }],
            routes: vec![
                Route {
                    matches: fits(Match { labels: labels(&[("team", "db")]), ..Match::default() }),
                    tell: tell(&["dba", "chat"]),
                    r#continue: true,
                    ..Route::default()
                },
                Route {
                    matches: fits(Match { severity: Some(Severity::Error), ..Match::default() }),
                    escalation: Some("night".to_owned()),
                    tell: tell(&["chat"]),
                    ..Route::default()
                },
                Route {
                    on: Some(vec![Occasion::Opened]),
                    tell: tell(&["log"]),
                    ..Route::default()
                },
            ],
            ..Notify::default()
        }
    }

    #[test]
    fn the_first_route_that_fits_counts_and_each_receiver_is_told_once() {
        let notify = notify();
        let (none, db) = (labels(&[]), labels(&[("team", "db")]));
        let subject = |severity, labels, target_labels| Subject {
            severity,
            kind: "service_down",
            target: Some("db"),
            labels,
            target_labels,
        };
        let error = subject(Severity::Error, &none, Some(&db));
        let told = notify.audience(Occasion::Escalated, &error);
        assert_eq!(told.receivers, ["dba", "chat"], "by the target's label, and on");
        assert_eq!(told.escalations, ["night"]);
        let over = notify.audience(Occasion::Resolved, &error);
        assert_eq!((over.receivers.len(), over.escalations.len()), (3, 0), "the pager, too");
        let info = subject(Severity::Info, &none, None);
        assert_eq!(notify.audience(Occasion::Escalated, &info), Audience::default());
        assert_eq!(notify.audience(Occasion::Opened, &info).receivers, ["log"]);
        let own = subject(Severity::Info, &db, None);
        assert_eq!(notify.audience(Occasion::Escalated, &own).receivers, ["dba", "chat"]);
    }
}
