//! `GET /api/v2/alerts`: what there is, as an Alertmanager lists it, for `amtool` and others that
//! read one.
//!
//! Source: `api/v2/openapi.yaml` of prometheus/alertmanager, 0.25 to 0.28.

use std::collections::BTreeMap;

use axum::{Extension, Json, extract::State, http::HeaderMap, response::IntoResponse};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::IncidentId,
    matcher::Matcher,
    silence::Cause,
    view::{AlertView, Alerts, AlertsFrom, Query},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    access::Caller,
    alerts::fingerprint,
    app::App,
    incidents::{Parameters, TEXT_BYTES_MAX, parameters},
    problem::Problem,
    seen,
};

/// Alerts of one answer. Who wants to see more asks for less.
const SHOWN_MAX: usize = 10_000;

/// Pages that are asked for; so many incidents may be looked at for one answer.
const PAGES_MAX: usize = 2_000;

/// The end of an alert whose sender says none: an Alertmanager takes the time of the last word
/// and `resolve_timeout`.
const FIRING_FOR: TimeDelta = TimeDelta::minutes(5);

/// Matchers of one request.
pub(crate) const FILTERS_MAX: usize = 32;

/// Longest expression for receivers.
pub(crate) const RECEIVER_BYTES_MAX: usize = 1000;

/// What the names of receivers are matched as.
const RECEIVER: &str = "receiver";

const HINT: &str =
    "use active, silenced, inhibited, unprocessed, receiver, and filter with one matcher each";

/// An alert, as an Alertmanager shows it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedAlert {
    /// Labels of the sender; `alertname`, `severity`, `target` and `zone` where it gave none.
    labels: BTreeMap<String, String>,
    /// Texts of the sender, and what is known of the incident.
    annotations: BTreeMap<String, String>,
    /// When it began.
    starts_at: DateTime<Utc>,
    /// When it ends if nobody says another word.
    ends_at: DateTime<Utc>,
    /// When something was decided last.
    updated_at: DateTime<Utc>,
    /// Where to read more.
    #[serde(rename = "generatorURL")]
    generator_url: String,
    /// What Prometheus computes of the labels.
    fingerprint: String,
    /// Those who were called.
    receivers: Vec<Receiver>,
    /// Whether anything keeps it quiet.
    status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Receiver {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// `active` or `suppressed`.
    state: &'static str,
    /// Ids of silences.
    silenced_by: Vec<String>,
    /// Fingerprints of the alerts that are its cause.
    inhibited_by: Vec<String>,
    /// Names of maintenance windows; `flapping`.
    muted_by: Vec<String>,
}

/// Which alerts are wanted.
#[derive(Debug)]
struct Wanted {
    active: bool,
    silenced: bool,
    inhibited: bool,
    filter: Vec<Matcher>,
    receiver: Option<Matcher>,
}

/// `GET /api/v2/alerts`.
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    given: Parameters,
) -> Result<impl IntoResponse, Problem> {
    let wanted = wanted(&parameters(given, HINT)?)?;
    let now = Utc::now();
    let mut from = AlertsFrom::default();
    let (mut found, mut is_whole) = (Vec::new(), false);
    // A cause stands before its symptoms, but for one that was opened later.
    let mut known = BTreeMap::new();
    for _ in 0..PAGES_MAX {
        let page: Alerts = app.query(&Query::Alerts(from)).await?;
        for alert in &page.alerts {
            let labels = labels(alert);
            known.extend(alert.incident.map(|id| (id, fingerprint(&labels))));
            if found.len() < SHOWN_MAX && wanted.takes(alert, &labels) {
                found.push((alert.clone(), labels));
            }
        }
        match page.next {
            Some(next) if found.len() < SHOWN_MAX => from = next,
            next => {
                is_whole = next.is_none();
                break;
            }
        }
    }
    let link = app.notify().public_url.clone().unwrap_or_default();
    let listed = found.into_iter().map(|(alert, labels)| listed(alert, labels, &known, &link, now));
    let mut headers = HeaderMap::new();
    if !is_whole {
        headers.insert("x-selfheal-left-out", axum::http::HeaderValue::from_static("true"));
    }
    let listed = seen::value(&app, &caller, &listed.collect::<Vec<_>>())?;
    Ok((headers, Json(listed)))
}

fn wanted(parameters: &[(String, String)]) -> Result<Wanted, Problem> {
    let mut wanted = Wanted {
        active: true,
        silenced: true,
        inhibited: true,
        filter: Vec::new(),
        receiver: None,
    };
    for (name, text) in parameters {
        let wrong = |why: &str| {
            let name: String = name.chars().take(64).collect();
            Problem::bad("invalid_query", format!("parameter `{name}` {why}"), HINT)
        };
        if TEXT_BYTES_MAX < text.len() {
            return Err(wrong(&format!("is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let yes = || text.parse::<bool>().map_err(|_none| wrong("must be true or false"));
        match name.as_str() {
            "active" => wanted.active = yes()?,
            "silenced" => wanted.silenced = yes()?,
            "inhibited" => wanted.inhibited = yes()?,
            // An alert is here when it has been processed.
            "unprocessed" => drop(yes()?),
            "filter" if FILTERS_MAX <= wanted.filter.len() => {
                return Err(wrong(&format!("is there more than {FILTERS_MAX} times")));
            }
            "filter" => {
                let matcher = unquoted(text).parse();
                let matcher = matcher.map_err(|error| wrong(&format!("is none: {error}")))?;
                wanted.filter.push(matcher);
            }
            RECEIVER if RECEIVER_BYTES_MAX < text.len() => {
                return Err(wrong(&format!("is longer than {RECEIVER_BYTES_MAX} bytes")));
            }
            RECEIVER if !text.is_empty() => {
                let matcher = format!("{RECEIVER}=~\"{text}\"").parse();
                let matcher = matcher.map_err(|error| wrong(&format!("is none: {error}")))?;
                wanted.receiver = Some(matcher);
            }
            // Clients of newer versions ask for more.
            _ => {}
        }
    }
    Ok(wanted)
}

/// Takes the signs out of a value in quotes that clients of Alertmanager put in.
fn unquoted(text: &str) -> String {
    let Some((start, value)) = text.split_once('"') else { return text.to_owned() };
    let Some(value) = value.trim_end().strip_suffix('"') else { return text.to_owned() };
    let mut plain = String::with_capacity(text.len());
    let mut signs = value.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => match signs.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some(other @ ('\\' | '"')) => plain.push(other),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    // The reader of matchers takes off these two, and nothing else.
    format!("{start}\"{plain}\"")
}

impl Wanted {
    fn takes(&self, alert: &AlertView, labels: &BTreeMap<String, String>) -> bool {
        let is_inhibited = is_inhibited(alert);
        let is_silenced = !is_inhibited && alert.quiet.is_some();
        let by_state = match (is_inhibited, is_silenced) {
            (true, _) => self.inhibited,
            (_, true) => self.silenced,
            (false, false) => self.active,
        };
        let receiver = |name: &String| BTreeMap::from([(RECEIVER.to_owned(), name.clone())]);
        let named =
            |it: &Matcher| alert.receivers.iter().any(|name| it.fits_labels(&receiver(name)));
        by_state
            && self.receiver.as_ref().is_none_or(named)
            && self.filter.iter().all(|it| it.fits_labels(labels))
    }
}

/// A symptom waits for its cause, as an alert that another one inhibits.
fn is_inhibited(alert: &AlertView) -> bool {
    alert.symptom_of.is_some() || matches!(alert.quiet, Some(Cause::Inhibition { .. }))
}

/// Returns the labels that name an alert.
fn labels(alert: &AlertView) -> BTreeMap<String, String> {
    let mut labels = alert.labels.clone();
    let own = [
        ("alertname", alert.kind.as_str()),
        ("severity", alert.severity.as_str()),
        ("target", alert.target.as_deref().unwrap_or_default()),
        ("zone", &alert.zone),
    ];
    for (name, text) in own.into_iter().filter(|(_, text)| !text.is_empty()) {
        labels.entry(name.to_owned()).or_insert_with(|| text.to_owned());
    }
    labels
}

fn listed(
    alert: AlertView,
    labels: BTreeMap<String, String>,
    known: &BTreeMap<IncidentId, String>,
    public_url: &str,
    now: DateTime<Utc>,
) -> ListedAlert {
    let status = status(&alert, known);
    let mut annotations = alert.annotations;
    let about = alert.target.as_deref().map(|it| format!(" on {it}")).unwrap_or_default();
    let own = [
        ("summary", Some(format!("{}{about}", alert.kind))),
        ("incident", alert.incident.map(|it| it.to_string())),
        ("incident_status", alert.status.map(|it| it.as_str().to_owned())),
        ("analysis", alert.analysis),
        ("acknowledged_by", alert.acknowledged_by),
    ];
    for (name, text) in own.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        annotations.entry(name.to_owned()).or_insert(text);
    }
    ListedAlert {
        fingerprint: fingerprint(&labels),
        labels,
        annotations,
        starts_at: alert.starts_at,
        ends_at: alert.ends_at.filter(|it| now < *it).unwrap_or(now + FIRING_FOR),
        updated_at: alert.updated_at,
        generator_url: alert.links.into_iter().next().unwrap_or_else(|| public_url.to_owned()),
        receivers: alert.receivers.into_iter().map(|name| Receiver { name }).collect(),
        status,
    }
}

fn status(alert: &AlertView, known: &BTreeMap<IncidentId, String>) -> Status {
    // One that is not listed is named by its incident.
    let of = |id: &IncidentId| known.get(id).cloned().unwrap_or_else(|| id.to_string());
    let mut status = Status {
        state: "active",
        silenced_by: Vec::new(),
        inhibited_by: alert.symptom_of.iter().map(of).collect(),
        muted_by: Vec::new(),
    };
    match &alert.quiet {
        None => {}
        Some(Cause::Silence { id }) => status.silenced_by.push(id.0.clone()),
        Some(Cause::Inhibition { by }) => status.inhibited_by.push(of(by)),
        Some(Cause::Maintenance { name }) => status.muted_by.push(name.clone()),
        Some(Cause::Flapping) => status.muted_by.push("flapping".to_owned()),
    }
    if alert.quiet.is_some() || alert.symptom_of.is_some() {
        status.state = "suppressed";
    }
    status
}

#[cfg(test)]
mod tests {
    use domain::{event::Severity, silence::SilenceId};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_322_800, 0).unwrap()
    }

    fn id(n: u8) -> IncidentId {
        format!("00000000-0000-7000-8000-0000000000{n:02}").parse().unwrap()
    }

    fn alert(labels: &[(&str, &str)]) -> AlertView {
        AlertView {
            incident: Some(id(1)),
            status: Some(domain::view::Status::Escalated),
            kind: "service_down".to_owned(),
            source: "test".to_owned(),
            severity: Severity::Critical,
            target: Some("db".to_owned()),
            zone: "default".to_owned(),
            labels: labels.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            annotations: BTreeMap::new(),
            links: vec!["http://prometheus/graph".to_owned()],
            starts_at: now(),
            ends_at: None,
            updated_at: now(),
            analysis: Some("it is dead".to_owned()),
            acknowledged_by: None,
            symptom_of: None,
            quiet: None,
            receivers: vec!["ops".to_owned()],
        }
    }

    fn takes(parameters: &[(&str, &str)], alert: &AlertView) -> bool {
        let given = parameters.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        wanted(&given.collect::<Vec<_>>()).unwrap().takes(alert, &labels(alert))
    }

    #[test]
    fn matchers_and_receivers_choose_as_those_of_an_alertmanager() {
        let alert = alert(&[("instance", "a.b:9100"), ("alertname", "Down")]);
        for (name, text, taken) in [
            ("filter", "alertname=\"Down\"", true),
            ("filter", "alertname=Down", true),
            ("filter", "alertname=\"service_down\"", false),
            ("filter", "severity=\"critical\"", true),
            ("filter", "target!=\"db\"", false),
            ("filter", r#"instance=~"a\\.b:.*""#, true),
            ("filter", r#"instance=~"a\\..:1.*""#, false),
            ("filter", "rack=\"\"", true),
            ("filter", "rack!~\".+\"", true),
            ("receiver", "op.", true),
            ("receiver", "op", false),
            ("receiver", "", true),
            ("muted", "whatever a newer client asks", true),
        ] {
            assert_eq!(takes(&[(name, text)], &alert), taken, "{name} {text}");
        }
        assert!(!takes(&[("filter", "zone=default"), ("filter", "zone=other")], &alert));
    }

    #[test]
    fn states_choose_and_say_what_keeps_an_alert_quiet() {
        let quiet = |cause| AlertView { quiet: Some(cause), ..alert(&[]) };
        let silenced = quiet(Cause::Silence { id: SilenceId("s1".to_owned()) });
        let window = quiet(Cause::Maintenance { name: "nightly".to_owned() });
        let inhibited = quiet(Cause::Inhibition { by: id(2) });
        let symptom = AlertView { symptom_of: Some(id(3)), ..alert(&[]) };
        for (alert, parameter, status) in [
            (alert(&[]), "active", ("active", vec![], vec![], vec![])),
            (silenced, "silenced", ("suppressed", vec!["s1"], vec![], vec![])),
            (window, "silenced", ("suppressed", vec![], vec![], vec!["nightly"])),
            (inhibited, "inhibited", ("suppressed", vec![], vec!["f2"], vec![])),
            (symptom, "inhibited", ("suppressed", vec![], vec!["f3"], vec![])),
        ] {
            assert!(takes(&[], &alert) && takes(&[(parameter, "true")], &alert));
            for name in ["active", "silenced", "inhibited"] {
                assert_eq!(takes(&[(name, "false")], &alert), name != parameter, "{name}");
            }
            let known = BTreeMap::from([(id(2), "f2".to_owned()), (id(3), "f3".to_owned())]);
            let told = super::status(&alert, &known);
            let texts = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let (state, silenced_by, inhibited_by, muted_by) = status;
            let wanted = Status {
                state,
                silenced_by: texts(silenced_by),
                inhibited_by: texts(inhibited_by),
                muted_by: texts(muted_by),
            };
            assert_eq!(told, wanted);
        }
    }

    #[test]
    fn an_alert_has_all_that_clients_ask_for_and_keeps_what_its_sender_gave() {
        let sent = alert(&[("alertname", "Down"), ("zone", "rack 7")]);
        let labels = labels(&sent);
        let listed = listed(sent, labels.clone(), &BTreeMap::new(), "http://selfheal", now());
        let value = serde_json::to_value(&listed).unwrap();
        let labels_wanted = serde_json::json!({
            "alertname": "Down", "severity": "critical", "target": "db", "zone": "rack 7",
        });
        assert_eq!(value["labels"], labels_wanted);
        assert_eq!(value["annotations"]["incident"], id(1).to_string());
        assert_eq!(value["annotations"]["incident_status"], "escalated");
        assert_eq!(value["generatorURL"], "http://prometheus/graph");
        assert_eq!(value["fingerprint"], fingerprint(&labels));
        assert_eq!(value["receivers"][0]["name"], "ops");
        assert_eq!(listed.ends_at, now() + FIRING_FOR, "it does not end by itself");
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (name, text) in [
            ("active", "perhaps"),
            ("filter", "alertname"),
            ("filter", "a=~\"(\""),
            ("receiver", "("),
            ("receiver", "a{1000}{1000}"),
        ] {
            assert!(wanted(&[(name.to_owned(), text.to_owned())]).is_err(), "{name} {text}");
        }
        let many = vec![("filter".to_owned(), "a=b".to_owned()); FILTERS_MAX + 1];
        assert!(wanted(&many).is_err());
    }
}
