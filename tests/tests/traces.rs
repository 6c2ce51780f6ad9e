//! One trace for each incident, across all processes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tests::{
    eventually,
    fleet::Fleet,
    otlp::{Arrived, Collector},
    stack::directory,
    target::Target,
};

const POLICY: &str = "
policy:
  budget: {per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}
  soak: 500ms
  notify: [{log: true}]
";

/// How far clocks and roundings may lie apart, in nanoseconds: the broker's times of decisions
/// against those of the agents.
const CLOCKS: u64 = 50_000_000;

fn config(store: &Target) -> String {
    let (name, handle, address) = (store.name, store.handle(), store.address);
    format!(
        "targets:\n  - name: {name}\n    {handle}\n    checks: [{{tcp: \"{address}\", every: 200ms}}]\n{POLICY}"
    )
}

/// Waits until a trace has spans of all these names, and returns all that it has.
async fn trace_with(collector: &Collector, id: &str, names: &[&str]) -> Vec<Arrived> {
    eventually(&format!("trace {id} has {names:?}"), || async {
        let all = collector.spans();
        let own: Vec<_> = all.into_iter().filter(|it| it.trace_id == id).collect();
        let has = |name: &&str| own.iter().any(|it| it.name == **name);
        if names.iter().all(has) { Ok(own) } else { Err(format!("{own:#?}")) }
    })
    .await
}

#[tokio::test]
async fn a_healed_incident_is_one_trace_of_all_who_worked_on_it() {
    let dir = directory("traces");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let collector = Collector::start().await;
    let mut fleet = Fleet::start(&dir, &config(&store), &collector.variables()).await;
    assert!(store.kill());
    let incident = fleet.until("database", "resolved", 1).await;
    let id = incident["id"].as_str().unwrap().replace('-', "");
    let root = format!("incident {}", incident["type"].as_str().unwrap());
    let names = [
        root.as_str(),
        "opened",
        "diagnosing",
        "proposed",
        "fixing",
        "verifying",
        "diagnose",
        "gather evidence",
        "fix",
        "claim",
        "step process.restart",
        "verify",
        "decide analysis",
        "decide fix",
        "decide verification",
    ];
    let spans = trace_with(&collector, &id, &names).await;

    let by_id: BTreeMap<_, _> = spans.iter().map(|it| (it.span_id.as_str(), it)).collect();
    assert_eq!(by_id.len(), spans.len(), "no id is there twice: {spans:#?}");
    let one = |name: &str| spans.iter().find(|it| it.name == name).unwrap();
    let whole = one(&root);
    assert_eq!(whole.parent, "");
    assert_eq!(whole.attributes["selfheal.target"], "database");
    for span in spans.iter().filter(|it| it.name != root) {
        let above = by_id.get(span.parent.as_str());
        assert!(above.is_some(), "what is above {} is not there: {spans:#?}", span.name);
        assert!(span.from <= span.to, "{span:#?}");
        let in_time = whole.from <= span.from + CLOCKS;
        assert!(in_time, "{} began before the incident: {whole:#?} {span:#?}", span.name);
    }
    for (name, service, above) in [
        ("diagnose", "selfheal-analyzer", "diagnosing"),
        ("gather evidence", "selfheal-analyzer", "diagnose"),
        ("fix", "selfheal-fixer", "fixing"),
        ("claim", "selfheal-fixer", "fix"),
        ("step process.restart", "selfheal-fixer", "fix"),
        ("verify", "selfheal-monitor", "verifying"),
        ("decide analysis", "selfheal-supervisor", "diagnose"),
        ("decide fix", "selfheal-supervisor", "fix"),
        ("decide verification", "selfheal-supervisor", "verify"),
        ("fixing", "selfheal-supervisor", &root),
    ] {
        let span = one(name);
        assert_eq!(span.service, service, "{name}");
        assert_eq!(by_id[span.parent.as_str()].name, above, "{name}");
    }
    assert_eq!(fleet.stop("fixer").await, 0, "sending the last spans does not keep it");
}

#[tokio::test]
async fn a_senders_trace_leads_to_the_incident_and_back() {
    let dir = directory("sender");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let collector = Collector::start().await;
    let fleet = Fleet::start(&dir, &config(&store), &collector.variables()).await;
    let (theirs, above) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let odd = json!({"type": "odd", "payload": {"service": "nobody"}});
    let traceparent = format!("00-{theirs}-{above}-01");
    let answer = fleet.publish(&odd, &[("traceparent", &traceparent)]).await;
    let ours = answer["incident_id"].as_str().unwrap().replace('-', "");

    let request = ["POST /publish_event", "decide event"];
    let spans = trace_with(&collector, theirs, &request).await;
    let one = |name: &str| spans.iter().find(|it| it.name == name).unwrap();
    let (asked, decided) = (one(request[0]), one(request[1]));
    assert_eq!((asked.service.as_str(), asked.parent.as_str()), ("selfheal-gateway", above));
    assert_eq!(decided.parent, asked.span_id);
    assert_eq!(decided.links, [ours.as_str()]);

    // It is escalated, and the gateway tells somebody of it.
    let spans = trace_with(&collector, &ours, &["opened", "notify", "decide notice"]).await;
    let opened = spans.iter().find(|it| it.name == "opened").unwrap();
    assert_eq!(opened.links, [theirs]);

    // A sender that does not record its trace wants none from us; one without a trace gets none.
    let unsampled = format!("00-1{}-{above}-00", &theirs[1..]);
    let odd = json!({"type": "odd", "payload": {"service": "somebody"}});
    fleet.publish(&odd, &[("traceparent", &unsampled)]).await;
    fleet.publish(&json!({"type": "odd", "payload": {"service": "else"}}), &[]).await;
    fleet.until("else", "escalated", 1).await;
    let requests = collector.spans().into_iter().filter(|it| it.name == request[0]);
    let traces: BTreeSet<_> = requests.map(|it| it.trace_id).collect();
    assert_eq!(traces, [theirs.to_owned()].into());
}
