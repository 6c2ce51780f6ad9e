//! The forms in `docs/schemas/` mean what the program means: what it takes fits them, and what
//! it refuses for its form does not.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use domain::{config, event, schema};
use jsonschema::Validator;
use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory},
    target::Target,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// Returns what does not fit, in words.
fn misfits(validator: &Validator, value: &Value) -> Vec<String> {
    let tell = |it: jsonschema::ValidationError<'_>| format!("{}: {it}", it.instance_path());
    validator.iter_errors(value).map(tell).collect()
}

/// Reads YAML as an editor does.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Returns all files of a folder of the repository with this extension.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let paths = fs::read_dir(root().join(folder)).unwrap().map(|it| it.unwrap().path());
    let wanted = paths.filter(|it| it.extension().is_some_and(|it| it == extension));
    wanted.map(|it| (it.display().to_string(), fs::read_to_string(it).unwrap())).collect()
}

#[test]
fn every_configuration_and_runbook_of_the_repository_has_the_form() {
    let form = validator(&schema::config());
    let mut texts = files("deploy/examples", "yaml");
    for (path, text) in files("docs", "md").into_iter().chain(files(".", "md")) {
        let blocks = text.split("\n```yaml\n").skip(1).map(|rest| rest.split("\n```").next());
        let whole = blocks.flatten().filter(|it| it.starts_with("# selfheal.yaml"));
        texts.extend(whole.map(|it| (path.clone(), it.to_owned())));
    }
    assert!(7 <= texts.len(), "only {} were found: is the test blind?", texts.len());
    for (path, text) in texts {
        assert_eq!(misfits(&form, &yaml(&text)), Vec::<String>::new(), "{path}:\n{text}");
    }
    let form = validator(&schema::runbook());
    for (path, text) in files("runbooks", "yaml") {
        assert_eq!(misfits(&form, &yaml(&text)), Vec::<String>::new(), "{path}");
    }
}

const GOOD: &str = r#"
targets:
  - name: database
    docker: {container: db}
    checks: [{tcp: "127.0.0.1:5432", every: 1s, fail_after: 3}]
  - name: orders-api
    process: {command: [orders]}
    depends_on: [database]
    checks: [{http: "http://127.0.0.1:8081/health", every: 1s}, {disk: /, above: 90}, {prometheus: {url: "http://prom:9090", query: up, sick: "< 1"}}]
    select: [{app: orders}]
policy:
  autonomy: auto
  attempts: 2
  budget: {per_target: 3/h, fleet: 30/h, blast_radius: {percent: 20, count: 5}}
  freeze: [{from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: fair}]
  notify: [{log: true}]
watchdog: {url: "http://hc", every: 60s}
maintenance:
  - {name: nightly, match: ["target=database"], cron: "0 2 * * *", lasts: 1h}
notify:
  receivers:
    - {name: oncall, log: true, quiet: {from: "22:00", until: "07:00", time_zone: "Europe/Berlin"}}
runbooks:
  - {name: a, title: t, risk: low, when: {causes: [x]}, attempts: 1, steps: [{action: docker.start}]}
"#;

/// Replacements that spoil the form: a key, a word, a text, or something that is missing.
const SPOILED: [(&str, &str); 53] = [
    ("policy:", "polices:"),
    ("url: \"http://prom:9090\"", "url: prom"),
    ("query: up", "query: ' '"),
    ("sick: \"< 1\"", "sick: much"),
    ("target=database", "target"),
    ("lasts: 1h", "lasts: long"),
    ("22:00", "10 pm"),
    ("Europe/Berlin", "+2"),
    ("container: db", "container: db, colour: red"),
    ("container: db", "container: ''"),
    ("name: database", "nam: database"),
    ("name: database", "name: data base"),
    ("name: database", "name: 5.5.5/x"),
    ("name: orders-api", "name: orders-api\n    zone: a.b"),
    ("process: {command: [orders]}", "process: {command: []}"),
    (
        "process: {command: [orders]}",
        "process: {command: [orders]}\n    docker: {container: orders}",
    ),
    ("depends_on: [database]", "depends_on: database"),
    ("select: [{app: orders}]", "select: [{}]"),
    ("every: 1s, fail", "every: soon, fail"),
    ("every: 1s, fail", "every: 1.5s, fail"),
    ("every: 1s, fail", "every: 5, fail"),
    ("every: 1s, fail", "every: '', fail"),
    ("every: 1s, fail", "every: -1s, fail"),
    ("fail_after: 3", "fail_after: 0"),
    ("fail_after: 3", "fail_after: many"),
    ("tcp: \"127.0.0.1:5432\"", "tcp: 5432x"),
    ("tcp: \"127.0.0.1:5432\"", "tcp: \"127.0.0.1:5432\", http: \"http://a\""),
    ("tcp: \"127.0.0.1:5432\", ", ""),
    ("tcp: \"127.0.0.1:5432\"", "process: false"),
    ("http: \"http://127.0.0.1:8081/health\"", "http: ftp://a"),
    ("disk: /", "disk: var"),
    ("disk: /", "command: []"),
    ("above: 90", "above: 101"),
    ("above: 90", "above: 0"),
    ("above: 90", "event: a..b"),
    ("autonomy: auto", "autonomy: full"),
    ("  attempts: 2", "  attempts: 0"),
    ("per_target: 3/h", "per_target: often"),
    ("per_target: 3/h", "per_target: 3"),
    ("per_target: 3/h", "per_target: '3/h,'"),
    ("percent: 20", "percent: 120"),
    ("percent: 20, ", ""),
    ("reason: fair", "reason: [fair]"),
    ("from: 2026-01-01T00:00:00Z", "from: soon"),
    ("{log: true}", "{}"),
    ("{log: true}", "{webhook: hooks}"),
    ("url: \"http://hc\"", "url: hc"),
    ("when: {causes: [x]}", "when: {}"),
    ("when: {causes: [x]}, attempts: 1", "when: {causes: [x]}, attempts: 0"),
    ("risk: low", "risk: none"),
    ("steps: [{action: docker.start}]", "steps: []"),
    ("action: docker.start", "action: rm.rf"),
    ("action: docker.start", "action: command.run"),
];

/// The same, of actions that want arguments.
const SPOILED_STEPS: [&str; 5] = [
    "action: http.request",
    "action: http.request, url: 'ftp://a'",
    "action: disk.clean, directories: [/tmp], patterns: ['*']",
    "action: disk.clean, directories: [tmp], patterns: ['*'], older_than: 1d",
    "action: disk.clean, directories: [/tmp/../etc], patterns: ['a/b'], older_than: 1d",
];

#[test]
fn what_is_refused_for_its_form_does_not_fit_the_form() {
    let form = validator(&schema::config());
    config::parse(GOOD).unwrap();
    assert_eq!(misfits(&form, &yaml(GOOD)), Vec::<String>::new());
    let steps = SPOILED_STEPS.map(|it| ("action: docker.start", it));
    for (from, to) in SPOILED.into_iter().chain(steps) {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from} is not there");
        assert!(config::parse(&text).is_err(), "the program takes `{to}`");
        assert_ne!(misfits(&form, &yaml(&text)), Vec::<String>::new(), "`{to}` fits");
    }
}

#[test]
fn what_is_refused_for_its_meaning_fits_the_form() {
    let form = validator(&schema::config());
    for (from, to) in [
        ("depends_on: [database]", "depends_on: [databse]"),
        ("Europe/Berlin", "Berlin"),
        ("name: orders-api", "name: database"),
        ("causes: [x]", "causes: [x], targets: [nobody]"),
        ("until: 2026-01-02T00:00:00Z", "until: 2025-01-02T00:00:00Z"),
    ] {
        let text = GOOD.replace(from, to);
        assert!(config::parse(&text).is_err(), "the program takes `{to}`");
        assert_eq!(misfits(&form, &yaml(&text)), Vec::<String>::new(), "`{to}`");
    }
}

#[test]
fn an_event_fits_its_form_exactly_when_it_is_taken() {
    let form = validator(&schema::event());
    let context =
        event::Context { id: "made-up".to_owned(), kind: None, at: chrono::DateTime::UNIX_EPOCH };
    let long = "x".repeat(1025);
    let kinds = ["a", "disk.full", "a-b_c.D.9", "", "a b", "a..b", ".a", "a.", "a.*", "ä", "a\n"];
    let mut bodies: Vec<_> = kinds.map(|kind| json!({"type": kind})).into();
    bodies.extend([
        json!([]),
        json!({}),
        json!(null),
        json!("a"),
        json!({"type": null}),
        json!({"type": 5}),
    ]);
    bodies.push(json!({"type": "a".repeat(128)}));
    bodies.push(json!({"type": "a".repeat(129)}));
    let values = [
        json!(null),
        json!(""),
        json!("x"),
        json!(long),
        json!(5),
        json!(true),
        json!([]),
        json!(["x"]),
        json!([1]),
        json!({}),
        json!({"a": "x"}),
        json!({"a": 1}),
        json!({"a": null}),
        json!({"a": []}),
        json!("resolved"),
        json!("firing"),
        json!("critical"),
        json!("2026-01-02T03:04:05Z"),
        json!("2026-01-02T03:04:05.123+01:00"),
        json!("2026-01-02T03:04:05+0000"),
        json!("2026-01-02"),
        json!("noon"),
    ];
    let fields = [
        "id",
        "source",
        "target",
        "fingerprint",
        "status",
        "severity",
        "labels",
        "annotations",
        "links",
        "starts_at",
        "ends_at",
        "payload",
        "colour",
    ];
    for field in fields {
        bodies.extend(values.iter().map(|value| json!({"type": "a", field: value})));
    }
    let (mut n_taken, mut n_refused) = (0, 0);
    for body in bodies {
        let taken = event::plain(body.clone(), &context);
        assert_eq!(taken.is_ok(), form.is_valid(&body), "{body}: {taken:?}");
        *if taken.is_ok() { &mut n_taken } else { &mut n_refused } += 1;
    }
    assert!(100 < n_taken && 100 < n_refused, "{n_taken} {n_refused}");
}

/// Follows the stream of the gateway; what it has told so far grows.
async fn follow(stack: &Stack) -> Arc<Mutex<String>> {
    let url = format!("{}/api/v1/stream", stack.url());
    let mut answer =
        reqwest::Client::new().get(url).bearer_auth(stack.token()).send().await.unwrap();
    let first = answer.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: hello\n"), "{first:?}");
    let told = Arc::new(Mutex::new(String::new()));
    let growing = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok(Some(part)) = answer.chunk().await {
            growing.lock().unwrap().push_str(&String::from_utf8_lossy(&part));
        }
    });
    told
}

#[tokio::test]
async fn lines_of_a_healed_system_have_the_form() {
    let dir = directory("schemas");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let targets = format!(
        "targets:\n  - name: database\n    {}\n    checks: [{{tcp: \"{}\"}}]\npolicy: {{soak: 500ms}}",
        store.handle(),
        store.address
    );
    let stack = Stack::up(&dir, &targets);
    let told = follow(&stack).await;
    assert!(store.kill());
    let incident = stack.until("database", &["resolved"]).await;
    // A person, and an event about nothing that is known, are lines too.
    let unknown = json!({"type": "disk.full", "target": "nobody", "source": "docs"});
    assert_eq!(stack.post("/publish_event", &unknown).await.unwrap().0, 200);
    let why = json!({"by": "ada", "reason": "fair"});
    assert_eq!(stack.post("/api/v1/pause", &why).await.unwrap().0, 200);
    assert_eq!(stack.post("/api/v1/resume", &why).await.unwrap().0, 200);
    stack.until("nobody", &["escalated"]).await;
    let form = validator(&schema::log_line());
    let lines = eventually("the log says what was asked for", || async {
        let lines = stack.log();
        if lines.iter().any(|it| it["decision"] == "resumed") {
            Ok(lines)
        } else {
            Err(lines.len())
        }
    })
    .await;
    for line in &lines {
        assert_eq!(misfits(&form, line), Vec::<String>::new(), "{line:#}");
    }
    assert!(8 <= lines.len(), "{lines:#?}");
    let decisions = eventually("all lines are told live", || async {
        let told = told.lock().unwrap().clone();
        let decisions = told.split("event: decision\n").skip(1);
        let data = decisions.filter_map(|it| it.split_once("data: ")?.1.split_once("\n\n"));
        let decisions: Vec<_> = data.map(|(line, _)| line.to_owned()).collect();
        if decisions.iter().any(|it| it.contains("\"resumed\"")) {
            Ok(decisions)
        } else {
            Err(told)
        }
    })
    .await;
    assert!(8 <= decisions.len(), "{decisions:#?}");
    for line in decisions {
        let line = serde_json::from_str(&line).unwrap();
        assert_eq!(misfits(&form, &line), Vec::<String>::new(), "{line:#}");
    }
    // What the interface tells of it has the form that the document says.
    let document = stack.get("/openapi.json").await.unwrap();
    let form_of = |name: &str| {
        let reference = format!("#/components/schemas/{name}");
        validator(&json!({"$ref": reference, "components": document["components"]}))
    };
    let id = incident["id"].as_str().unwrap();
    for (path, name) in [
        (format!("/api/v1/incidents/{id}"), "IncidentDetail"),
        ("/api/v1/incidents".to_owned(), "Page"),
        ("/api/v1/status".to_owned(), "SystemStatus"),
    ] {
        let answer = stack.get(&path).await.unwrap();
        assert_eq!(misfits(&form_of(name), &answer), Vec::<String>::new(), "{path}: {answer:#}");
    }
    assert_eq!(stack.stop(), 0);
}

#[test]
fn the_document_about_the_broker_is_what_its_specification_wants() {
    let specification = fs::read_to_string(root().join("tests/tests/partners/asyncapi-3.0.0.json"));
    let form = validator(&serde_json::from_str(&specification.unwrap()).unwrap());
    let mut document: Value = serde_json::from_str(&bus::asyncapi()).unwrap();
    assert_eq!(misfits(&form, &document), Vec::<String>::new());
    let mut references = Vec::new();
    all_references(&document, &mut references);
    assert!(100 < references.len(), "is the test blind?");
    for reference in references {
        let place = document.pointer(reference.trim_start_matches('#'));
        assert!(place.is_some(), "{reference} leads nowhere");
    }
    document["operations"]["event.send"]["action"] = json!("shout");
    assert_ne!(misfits(&form, &document), Vec::<String>::new(), "is the specification blind?");
}

fn all_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|it| all_references(it, found));
        }
        Value::Array(list) => list.iter().for_each(|it| all_references(it, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
