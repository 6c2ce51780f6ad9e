//! Each ready mapping with what its sender sends, and what odd senders do.

use std::{collections::BTreeMap, fs, path::Path};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Mapper, Message, preset};
use crate::{
    config::{Mapping, Wrapping},
    event::{Event, Severity, Severity as S, Status, Status as T},
};

fn at() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z").unwrap().to_utc()
}

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integrations").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn mapped(mapper: &Mapper, body: &Value, headers: &[(&str, &str)]) -> Vec<Event> {
    let headers = headers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let query = BTreeMap::new();
    mapper.events(&Message { body, headers: &headers, query: &query, at: at() })
}

/// What one fixture means: type, target, fingerprint, status, severity.
type Meaning<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Status, Severity);

/// Each ready mapping, a message, and what it means; none when it is no event.
#[rustfmt::skip]
const TABLE: [(&str, &str, Option<Meaning<'static>>); 61] = [
    ("uptime-kuma", "uptime-kuma-down.json", Some(("service_down", Some("shop"), Some("3"), T::Firing, S::Critical))),
    ("uptime-kuma", "uptime-kuma-up.json", Some(("service_down", Some("shop"), Some("3"), T::Resolved, S::Critical))),
    ("uptime-kuma", "uptime-kuma-1-down.json", Some(("service_down", Some("gate"), Some("10"), T::Firing, S::Critical))),
    ("uptime-kuma", "uptime-kuma-test.json", None),
    ("uptime-kuma", "uptime-kuma-maintenance.json", None),
    ("uptime-kuma", "uptime-kuma-certificate.json", Some(("certificate_expires", Some("shop"), Some("[shop][https://shop.example.org/health] server certificate shop.example.org"), T::Firing, S::Warning))),
    ("uptime-kuma", "uptime-kuma-domain.json", Some(("domain_expires", Some("example.org"), Some("Domain name example.org"), T::Firing, S::Warning))),
    ("gatus", "gatus.json", Some(("service_down", Some("website"), Some("core/website"), T::Firing, S::Critical))),
    ("gatus", "gatus-resolved.json", Some(("service_down", Some("website"), Some("core/website"), T::Resolved, S::Critical))),
    ("healthchecks", "healthchecks.json", Some(("heartbeat_missed", Some("Nightly backup"), Some("9b0b0f4e-0b1c-4f0e-9c1d-6a1b2c3d4e5f"), T::Firing, S::Error))),
    ("healthchecks", "healthchecks-up.json", Some(("heartbeat_missed", Some("Nightly backup"), Some("9b0b0f4e-0b1c-4f0e-9c1d-6a1b2c3d4e5f"), T::Resolved, S::Error))),
    ("healthchecks", "healthchecks-check.json", Some(("heartbeat_missed", Some("Nightly \"backup\""), Some("9b0b0f4e-0b1c-4f0e-9c1d-6a1b2c3d4e5f"), T::Firing, S::Error))),
    ("zabbix", "zabbix-problem.json", Some(("Zabbix_agent_is_not_available_for_3m", Some("db-1"), Some("16199"), T::Firing, S::Error))),
    ("zabbix", "zabbix-recovery.json", Some(("Zabbix_agent_is_not_available_for_3m", Some("db-1"), Some("16199"), T::Resolved, S::Error))),
    ("zabbix", "zabbix-acknowledgement.json", Some(("Zabbix_agent_is_not_available_for_3m", Some("db-1"), Some("16199"), T::Acknowledged, S::Error))),
    ("zabbix", "zabbix-service.json", Some(("Status_of_service_Shop_changed_to_High", None, Some("99"), T::Firing, S::Critical))),
    ("zabbix", "zabbix-test.json", None),
    ("nagios", "nagios-service.json", Some(("HTTP", Some("web-1"), Some("web-1/HTTP"), T::Firing, S::Critical))),
    ("nagios", "nagios-host.json", Some(("host_down", Some("web-1"), Some("web-1/"), T::Resolved, S::Info))),
    ("nagios", "nagios-flapping.json", None),
    ("icinga", "icinga-problem.json", Some(("disk", Some("web-1"), Some("web-1/disk"), T::Firing, S::Critical))),
    ("icinga", "icinga-acknowledgement.json", Some(("disk", Some("web-1"), Some("web-1/disk"), T::Acknowledged, S::Warning))),
    ("icinga", "icinga-recovery.json", Some(("disk", Some("web-1"), Some("web-1/disk"), T::Resolved, S::Info))),
    ("datadog", "datadog.json", Some(("CPU_high_on_host", Some("web-1"), Some("12345/9bd4ac313a4d1e8fae2482df7b77628"), T::Firing, S::Error))),
    ("datadog", "datadog-recovered.json", Some(("CPU_high_on_host", Some("web-1"), Some("12345/9bd4ac313a4d1e8fae2482df7b77628"), T::Resolved, S::Info))),
    ("datadog", "datadog-no-data.json", Some(("no_requests", Some("shop"), Some("777/77aa"), T::Firing, S::Error))),
    ("datadog", "datadog-default-triggered.json", Some(("CPU_high_on_host", Some("web-1"), Some("CPU high on host/host:web-1"), T::Firing, S::Error))),
    ("datadog", "datadog-default.json", Some(("CPU_high_on_host", Some("web-1"), Some("CPU high on host/host:web-1"), T::Resolved, S::Error))),
    ("cloudwatch", "cloudwatch-alarm.json", Some(("High_CPU", Some("i-0123456789abcdef0"), Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:High CPU"), T::Firing, S::Error))),
    ("cloudwatch", "cloudwatch-ok.json", Some(("High_CPU", Some("i-0123456789abcdef0"), Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:High CPU"), T::Resolved, S::Error))),
    ("cloudwatch", "cloudwatch-insufficient.json", Some(("High_CPU", Some("i-0123456789abcdef0"), Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:High CPU"), T::Firing, S::Warning))),
    ("cloudwatch", "cloudwatch-created.json", None),
    ("cloudwatch", "cloudwatch-eventbridge.json", Some(("High_CPU", Some("i-0123456789abcdef0"), Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:High CPU"), T::Firing, S::Error))),
    ("cloudwatch", "cloudwatch-configuration.json", None),
    ("cloudwatch", "cloudwatch-text.json", None),
    ("cloudwatch", "cloudwatch-old.json", Some(("bucket_size", Some("backups.example.org"), Some("123456789012/EU (Ireland)/bucket size"), T::Firing, S::Error))),
    ("cloudwatch", "cloudwatch-composite.json", Some(("shop-unhealthy", None, Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:shop-unhealthy"), T::Firing, S::Error))),
    ("cloudwatch", "cloudwatch-metrics.json", Some(("error_rate", Some("checkout"), Some("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:error rate"), T::Firing, S::Error))),
    ("azure-monitor", "azure-monitor-fired.json", Some(("WCUS-R2-Gen2", Some("wcus-r2-gen2"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/b9569717-bc32-442f-add5-83a997729330"), T::Firing, S::Info))),
    ("azure-monitor", "azure-monitor-resolved.json", Some(("WCUS-R2-Gen2", Some("wcus-r2-gen2"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/b9569717-bc32-442f-add5-83a997729330"), T::Resolved, S::Info))),
    ("azure-monitor", "azure-monitor-log-v2.json", Some(("no_heartbeat", Some("logs"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/22222222-2222-2222-2222-222222222222"), T::Firing, S::Error))),
    ("azure-monitor", "azure-monitor-prometheus.json", Some(("SqlDown", Some("shop-aks"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/22222222-2222-2222-2222-222222222222"), T::Firing, S::Critical))),
    ("azure-monitor", "azure-monitor-budget.json", Some(("shop-costs", Some("budgets"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.CostManagement/alerts/shop-costs"), T::Firing, S::Warning))),
    ("azure-monitor", "azure-monitor-service-health.json", Some(("service_health", Some("Storage"), Some("service health/ABCD-1T0"), T::Firing, S::Info))),
    ("azure-monitor", "azure-monitor-service-health-over.json", Some(("service_health", Some("Storage"), Some("service health/ABCD-1T0"), T::Resolved, S::Info))),
    ("azure-monitor", "azure-monitor-resource-health.json", Some(("vm_health", Some("shop-vm"), Some("vm health//subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/shop-rg/providers/microsoft.compute/virtualmachines/shop-vm"), T::Firing, S::Info))),
    ("azure-monitor", "azure-monitor-resource-health-over.json", Some(("vm_health", Some("shop-vm"), Some("vm health//subscriptions/11111111-1111-1111-1111-111111111111/resourcegroups/shop-rg/providers/microsoft.compute/virtualmachines/shop-vm"), T::Resolved, S::Info))),
    ("azure-monitor", "azure-monitor-classic.json", Some(("cpu", Some("shop-vm"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop-rg/providers/microsoft.insights/metricAlerts/cpu"), T::Firing, S::Warning))),
    ("azure-monitor", "azure-monitor-classic-over.json", Some(("cpu", Some("shop-vm"), Some("/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop-rg/providers/microsoft.insights/metricAlerts/cpu"), T::Resolved, S::Warning))),
    ("gcp-monitoring", "gcp-monitoring-open.json", Some(("Test_Alert_Policy", Some("demo-vm"), Some("0.opqiw61fsv7p"), T::Firing, S::Critical))),
    ("gcp-monitoring", "gcp-monitoring-closed.json", Some(("Test_Alert_Policy", Some("demo-vm"), Some("0.opqiw61fsv7p"), T::Resolved, S::Critical))),
    ("gcp-monitoring", "gcp-monitoring-old.json", Some(("CPU", Some("shop appserver"), Some("0.lj2va6zdkemq"), T::Firing, S::Error))),
    ("gcp-monitoring", "gcp-monitoring-log.json", Some(("errors_in_the_log", Some("checkout"), Some("0.n8yzsdx6jcd1"), T::Firing, S::Error))),
    ("gcp-monitoring", "gcp-monitoring-test.json", None),
    ("github", "github-deployment.json", Some(("deployment", Some("Hello-World"), None, T::Change, S::Info))),
    ("github", "github-deployment-status.json", Some(("deployment", Some("Hello-World"), None, T::Change, S::Info))),
    ("github", "github-ping.json", None),
    ("github", "github-push.json", None),
    ("github", "github-release.json", None),
    ("argocd", "argocd.json", Some(("deployment", Some("guestbook"), None, T::Change, S::Info))),
    ("argocd", "argocd-failed.json", Some(("deployment", Some("guestbook"), None, T::Change, S::Info))),
];

/// Messages that do not say since when.
const UNTIMED: [&str; 5] = [
    "gatus.json",
    "gatus-resolved.json",
    "uptime-kuma-certificate.json",
    "uptime-kuma-domain.json",
    "zabbix-acknowledgement.json",
];

#[test]
fn every_ready_mapping_reads_what_its_sender_sends() {
    for (name, file, meaning) in TABLE {
        let mapper = Mapper::new(name, &preset(name).unwrap()).unwrap();
        let (body, kind) = (fixture(file), file.strip_prefix("github-").unwrap_or_default());
        let kind = kind.trim_end_matches(".json").replace('-', "_");
        let headers = [("x-github-event", kind.as_str()), ("x-github-delivery", "72d3162e")];
        let events = mapped(&mapper, &body, &headers);
        let seen: Vec<Meaning<'_>> = events
            .iter()
            .map(|it| {
                let (target, key) = (it.target.as_deref(), it.fingerprint.as_deref());
                (it.kind.as_str(), target, key, it.status, it.severity)
            })
            .collect();
        assert_eq!(seen, Vec::from_iter(meaning), "{file}");
        for event in &events {
            assert_eq!(event.annotations.get("selfheal.mapping"), None, "{file}: {event:?}");
            assert!(!event.annotations["summary"].is_empty(), "{file}");
            assert_eq!(event.starts_at.is_none(), UNTIMED.contains(&file), "{file}");
            assert!(name == "gatus" || !event.id.is_empty(), "{file}");
            assert_eq!(event.source, name);
            assert_eq!(event.payload, body, "all of it is kept");
            let texts = event.labels.values().chain(event.annotations.values());
            let is_nothing = |it: &String| it.eq_ignore_ascii_case("none") || it.starts_with('{');
            assert!(!texts.chain(&event.links).any(is_nothing), "{file}: {event:?}");
        }
    }
}

#[test]
fn every_message_that_is_kept_here_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integrations");
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    let mut files: Vec<_> = files.map(|it| it.into_string().unwrap()).collect();
    let mut listed: Vec<_> = TABLE.iter().map(|(_, file, _)| (*file).to_owned()).collect();
    files.sort();
    listed.sort();
    assert_eq!(listed, files);
}

#[test]
fn a_field_that_is_null_is_nothing_and_not_a_word() {
    let text = |it: &str| Some(it.to_owned());
    let mapping = Mapping {
        kind: text("{{ body.kind }}"),
        target: text("{{ body.deep.er.name or body.host }}"),
        fingerprint: text("{{ body.list[3] or body.text }}"),
        labels: BTreeMap::from([("a".to_owned(), "{{ body.kind }}".to_owned())]),
        ..Mapping::default()
    };
    let mapper = Mapper::new("nulls", &mapping).unwrap();
    let body =
        json!({"kind": null, "deep": null, "host": "db", "list": null, "text": "<no value>"});
    let event = mapped(&mapper, &body, &[]).remove(0);
    assert_eq!((event.kind.as_str(), event.target.as_deref()), ("alert", Some("db")));
    assert_eq!((event.fingerprint, event.labels.len()), (None, 0), "nothing of Go is nothing too");
    assert_eq!(event.annotations.get("selfheal.mapping"), None);
}

#[test]
fn what_cannot_be_rendered_is_noted_and_the_alert_is_not_lost() {
    let mapping = Mapping {
        kind: Some("{{ body.n + 'x' }}".to_owned()),
        severity: Some("purple".to_owned()),
        status: Some("broken".to_owned()),
        starts_at: Some("yesterday".to_owned()),
        target: Some(
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
                .to_owned(),
        ),
        ..Mapping::default()
    };
    let mapper = Mapper::new("odd", &mapping).unwrap();
    let events = mapped(&mapper, &json!({"n": 1}), &[]);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.kind.as_str(), event.status), ("alert", Status::Firing));
    assert_eq!((event.severity, &event.target), (Severity::Error, &None));
    for field in ["`type`", "`severity`", "`status`", "`starts_at`", "`target`"] {
        assert!(event.annotations["selfheal.mapping"].contains(field), "{event:?}");
    }
}

#[test]
fn a_list_becomes_many_events_and_what_is_not_there_none() {
    let mapping = Mapping {
        each: Some("body.data.alerts".to_owned()),
        skip: Some("{{ item.muted }}".to_owned()),
        kind: Some("{{ item.name }} of {{ body.from }}".to_owned()),
        labels_from: vec!["item.tags".to_owned()],
        labels: BTreeMap::from([("name".to_owned(), "{{ item.name }}".to_owned())]),
        ..Mapping::default()
    };
    let mapper = Mapper::new("many", &mapping).unwrap();
    let body = json!({"from": "x", "data": {"alerts": [
        {"name": "a", "tags": {"service": "db", "n": 1, "deep": {}}},
        {"name": "b", "muted": true},
        {"name": "c", "muted": false},
    ]}});
    let events = mapped(&mapper, &body, &[]);
    let kinds: Vec<_> = events.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["a_of_x", "c_of_x"]);
    assert_eq!(events[0].target.as_deref(), Some("db"));
    let labels = [("n", "1"), ("name", "a"), ("service", "db")];
    let labels = labels.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(events[0].labels, BTreeMap::from(labels));
    for none in [json!({}), json!({"data": null}), json!({"data": {"alerts": []}}), json!(7)] {
        assert_eq!(mapped(&mapper, &none, &[]), [], "{none}");
    }
}

#[test]
fn a_message_without_the_wanted_header_means_nothing() {
    let when = BTreeMap::from([("X-Kind".to_owned(), "alert".to_owned())]);
    let mapper = Mapper::new("x", &Mapping { when, ..Mapping::default() }).unwrap();
    assert_eq!(mapped(&mapper, &json!({}), &[("x-kind", "alert")]).len(), 1);
    assert_eq!(mapped(&mapper, &json!({}), &[("x-kind", "other")]), []);
    assert_eq!(mapped(&mapper, &json!({}), &[]), []);
}

#[test]
fn mistakes_in_a_mapping_are_found_where_they_are() {
    let text = |it: &str| Some(it.to_owned());
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(1500), ")".repeat(1500));
    for (field, mapping) in [
        ("type", Mapping { kind: text("{{ body."), ..Mapping::default() }),
        ("target", Mapping { target: text("{% if %}"), ..Mapping::default() }),
        ("status", Mapping { status: Some("x".repeat(5000)), ..Mapping::default() }),
        ("severity", Mapping { severity: Some(deep), ..Mapping::default() }),
        ("each", Mapping { each: text("alerts"), ..Mapping::default() }),
        ("labels_from", Mapping { labels_from: vec!["body..a".to_owned()], ..Mapping::default() }),
        ("links[1]", Mapping { links: vec![String::new(), "{{".to_owned()], ..Mapping::default() }),
        (
            "labels.a",
            Mapping {
                labels: BTreeMap::from([("a".to_owned(), "{{ 1".to_owned())]),
                ..Mapping::default()
            },
        ),
    ] {
        assert_eq!(Mapper::new("x", &mapping).unwrap_err().field, field);
    }
}

#[test]
fn mistakes_of_an_integration_are_told_with_their_place() {
    let mistakes = |text: &str| -> Vec<String> {
        let read = crate::config::parse(&format!("integrations:\n  - {text}\n"));
        read.err().unwrap_or_default().iter().map(|it| it.message.clone()).collect()
    };
    for good in [
        "{name: uptime-kuma}",
        "{name: kuma-2, preset: uptime-kuma, secret: {bearer: {env: A}}}",
        "{name: own, mapping: {type: \"{{ body.kind }}\", each: body.list}}",
        "{name: grafana, secret: {hmac: {secret: {env: A}}}}",
        "{name: pagerduty, secret: {routing_keys: [{env: A}, {file: /b}]}}",
        "{name: aws, preset: cloudwatch, topics: [\"arn:aws:sns:eu-west-1:1:a\"]}",
    ] {
        assert_eq!(mistakes(good), Vec::<String>::new(), "{good}");
    }
    for (bad, told) in [
        ("{name: \"a/b\", preset: gatus}", "not a name"),
        ("{name: nobody}", "nothing says what"),
        ("{name: a, preset: nobody}", "no preset"),
        ("{name: grafana, preset: gatus}", "takes no mapping"),
        ("{name: a, preset: gatus, mapping: {}}", "`preset` and a `mapping`"),
        ("{name: a, mapping: {type: \"{{\"}}", "no template"),
        ("{name: gatus, secret: {}}", "exactly one"),
        (
            "{name: gatus, secret: {bearer: {env: A}, query: {name: t, value: {env: B}}}}",
            "exactly one",
        ),
        ("{name: gatus, secret: {bearer: {}}}", "exactly one of `env` and `file`"),
        ("{name: gatus, secret: {routing_keys: [{env: A}]}}", "only `pagerduty`"),
        ("{name: gatus, topics: [a]}", "SNS"),
    ] {
        let all = mistakes(bad);
        assert!(all.iter().any(|it| it.contains(told)), "{bad}: {all:?}");
    }
    assert_eq!(preset("cloudwatch").unwrap().envelope, Some(Wrapping::Sns));
}
