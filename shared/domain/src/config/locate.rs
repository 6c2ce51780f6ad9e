//! From a path such as `targets[1].name` to a line and a column.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{ConfigError, Finding};

/// Longest message, and most of a line that is shown: a line may be a whole document.
const MESSAGE_CHARS_MAX: usize = 500;
const SNIPPET_CHARS_MAX: usize = 160;

/// Where each value of a document stands.
pub(super) struct Places(BTreeMap<String, (u64, u64)>);

impl Places {
    pub(super) fn of(text: &str) -> Self {
        let mut places = BTreeMap::new();
        // The text was read before; one that cannot be read again has no places.
        if let Ok(root) = serde_saphyr::from_str::<Spanned<Node>>(text) {
            collect(&root, String::new(), &mut places);
        }
        Self(places)
    }

    pub(super) fn error(&self, text: &str, finding: &Finding) -> ConfigError {
        let mut path = finding.path.as_str();
        let (line, column) = loop {
            if let Some(place) = self.0.get(path) {
                break *place;
            }
            // A field that is absent is told at the value that lacks it.
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None if path.is_empty() => break (0, 0),
                None => path = "",
            }
        };
        ConfigError {
            file: None,
            line,
            column,
            message: cut(&format!("{}: {}", finding.path, finding.message)),
            hint: finding.hint.clone(),
            snippet: snippet(text, line, column),
        }
    }
}

/// Turns an error of the parser into one of ours.
pub(super) fn of_parser(text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let place = error.location().map(|it| (it.line(), it.column()));
    let (line, column) = place.unwrap_or((0, 0));
    let message = error.without_snippet().to_string();
    let message = cut(message.lines().next().unwrap_or_default());
    let hint = if message.contains("unknown field") || message.contains("unknown variant") {
        "check the spelling; the known names are listed in the message"
    } else if message.contains("missing field") {
        "add the field"
    } else {
        "see deploy/examples for files that work"
    };
    let snippet = snippet(text, line, column);
    ConfigError { file: None, line, column, message, hint: hint.to_owned(), snippet }
}

fn snippet(text: &str, line: u64, column: u64) -> String {
    let Some(idx) = usize::try_from(line).ok().and_then(|it| it.checked_sub(1)) else {
        return String::new();
    };
    let Some(source) = text.lines().nth(idx) else { return String::new() };
    let indent = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let indent = indent.min(source.chars().count());
    // The place is in the middle of what is shown of a long line.
    let from = indent.saturating_sub(SNIPPET_CHARS_MAX / 2);
    let shown: String = source.chars().skip(from).take(SNIPPET_CHARS_MAX).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    format!("{number} | {shown}\n{margin} | {}^", " ".repeat(indent - from))
}

/// Cuts what may repeat a whole document.
fn cut(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

/// Any value, with the places of its parts.
enum Node {
    Leaf,
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

fn collect(node: &Spanned<Node>, path: String, places: &mut BTreeMap<String, (u64, u64)>) {
    match &node.value {
        Node::Leaf => {}
        Node::List(items) => {
            for (idx, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{idx}]"), places);
            }
        }
        Node::Map(pairs) => {
            for (key, value) in pairs {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(value, inner, places);
            }
        }
    }
    places.insert(path, (node.referenced.line(), node.referenced.column()));
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<Option<String>>()? {
            match key {
                Some(key) => pairs.push((key, map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const GOOD: &str = r#"
targets:
  - name: database
    docker: {container: db}
    checks: [{tcp: "127.0.0.1:5432", every: 1s, fail_after: 3}]
  - name: orders-api
    docker: {container: orders}
    depends_on: [database]
    checks: [{http: "http://127.0.0.1:8081/health", every: 1s}]
policy:
  autonomy: auto
  budget: {per_target: 3/h, fleet: 30/h, blast_radius: {percent: 20, count: 5}}
"#;

    #[test]
    fn the_documented_example_is_a_configuration() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.targets.len(), 2);
        assert_eq!(config.dependencies("orders-api")[0].name, "database");
        assert_eq!(config.dependents("database")[0].name, "orders-api");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<crate::config::Config>(&text).unwrap(), config);
    }

    #[test]
    fn an_empty_text_is_an_empty_configuration() {
        assert!(parse("").unwrap().targets.is_empty());
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_a_hint() {
        for (from, to, line, named) in [
            ("depends_on: [database]", "depends_on: [databse]", 8, "did you mean `database`"),
            ("name: orders-api", "name: database", 6, "twice"),
            ("every: 1s}]\npolicy", "every: soon}]\npolicy", 9, "duration"),
            ("autonomy: auto", "autonomy: full", 11, "full"),
            ("tcp: \"127.0.0.1:5432\"", "tcp: 5432x", 5, "host:port"),
            ("policy:", "polices:", 10, "polices"),
            ("3/h, fleet", "often, fleet", 12, "rate"),
            ("percent: 20", "percent: 120", 12, "100"),
            ("container: db", "container: db, colour: red", 4, "colour"),
            ("policy:", "watchdog: {url: hc}\npolicy:", 10, "watchdog.url"),
            ("policy:", "watchdog: {url: 'http://hc', every: 1ms}\npolicy:", 10, "at least 1s"),
        ] {
            let errors = parse(&GOOD.replace(from, to)).unwrap_err();
            let error = &errors[0];
            let whole = format!("{error} hint: {}", error.hint);
            assert_eq!(error.line, line, "{whole}");
            assert!(0 < error.column, "{whole}");
            assert!(whole.contains(named), "{whole}");
            assert!(!error.hint.is_empty(), "{whole}");
            assert!(error.snippet.contains('^'), "{whole}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_told_with_its_place() {
        let with = |evidence: &str| {
            let of_db = "docker: {container: db}";
            GOOD.replace(of_db, &format!("{of_db}\n    evidence: [{evidence}]"))
        };
        let good = "{name: errors, prometheus: {url: 'http://p', query: up}}";
        assert_eq!(parse(&with(good)).unwrap().targets[0].evidence.len(), 1);
        let many = vec![good; 17].join(", ");
        for (evidence, named) in [
            (good.replace("http:", "ftp:"), "targets[0].evidence[0].prometheus.url"),
            (good.replace("query: up", "query: ' '"), "targets[0].evidence[0].prometheus.query"),
            (good.replace("}}", "}, timeout: 1m}"), "at most 5s"),
            (format!("{good}, {good}"), "`errors` is there twice"),
            (many, "more than 16"),
            (good.replace("query", "promql"), "promql"),
        ] {
            let errors = parse(&with(&evidence)).unwrap_err();
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|it| it.contains(named)), "{named}: {told:#?}");
            assert!(errors.iter().all(|it| it.line == 5 && !it.hint.is_empty()), "{errors:#?}");
        }
    }

    #[test]
    fn a_circle_of_dependencies_is_shown_whole() {
        let text = GOOD.replace(
            "docker: {container: db}",
            "docker: {container: db}\n    depends_on: [orders-api]",
        );
        let errors = parse(&text).unwrap_err();
        assert!(errors[0].message.contains("database -> orders-api -> database"), "{}", errors[0]);
    }

    #[test]
    fn many_ways_through_the_dependencies_take_no_time() {
        use std::fmt::Write as _;
        // 30 layers of 3, each on all of the layer below: 3^30 ways, and no circle.
        let mut text = "targets:\n".to_owned();
        for layer in 0..30 {
            for one in 0..3 {
                let below: Vec<_> = (0..3).map(|it| format!("t{}-{it}", layer - 1)).collect();
                let needs = if layer == 0 { String::new() } else { below.join(", ") };
                writeln!(text, "  - {{name: t{layer}-{one}, depends_on: [{needs}], checks: [{{tcp: \"a:1\"}}]}}").unwrap();
            }
        }
        assert_eq!(parse(&text).unwrap().targets.len(), 90);
    }

    #[test]
    fn runbooks_with_mistakes_are_refused() {
        let with = |runbook: &str| format!("{GOOD}runbooks:\n  - {runbook}\n");
        for (runbook, named) in [
            (
                "{name: a, title: t, risk: low, when: {causes: [x]}, steps: [{action: rm.rf}]}",
                "rm.rf",
            ),
            (
                "{name: a, title: t, risk: low, when: {}, steps: [{action: process.restart}]}",
                "matches nothing",
            ),
            ("{name: a, title: t, risk: low, when: {causes: [x]}, steps: []}", "no step"),
            (
                "{name: a, title: t, risk: low, when: {causes: [x]}, steps: [{action: command.run}]}",
                "command",
            ),
            (
                "{name: a, title: t, risk: low, when: {causes: [x], labels: {tier: web}}, steps: [{action: docker.start}]}",
                "matches no target",
            ),
            (
                "{name: a, title: t, risk: low, when: {causes: [x], targets: [nobody]}, steps: [{action: docker.start}]}",
                "nobody",
            ),
            (
                "{name: a, title: t, risk: low, when: {causes: [x]}, steps: [{action: disk.clean, directories: [tmp], patterns: ['*'], older_than: 1d}]}",
                "absolute",
            ),
        ] {
            let errors = parse(&with(runbook)).unwrap_err();
            assert!(errors[0].to_string().contains(named), "{}", errors[0]);
            assert_eq!(errors[0].line, 14, "{}", errors[0]);
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let error = &parse("targets: [\n").unwrap_err()[0];
        assert!(0 < error.line, "{error}");
    }
}
