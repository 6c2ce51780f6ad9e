//! The rules of the house that a machine can check: which crate may need which, and
//! whether the documents say what is true of links, flags, exit codes, metrics and examples.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tests::stack::binary;

/// Crates, and which others of the house each may need: dependencies run one way.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("domain", &[]),
    ("private", &[]),
    ("bus", &["domain", "private"]),
    ("host", &["domain", "private"]),
    ("service", &["domain", "private", "bus"]),
    ("supervisor", SHARED),
    ("monitor", WITH_HOST),
    ("analyzer", SHARED),
    ("fixer", WITH_HOST),
    ("gateway", SHARED),
    ("cli", SHARED),
    ("demo", &[]),
    ("xtask", &[]),
    ("tests", EVERYTHING),
    ("simulation", EVERYTHING),
    ("chaos", EVERYTHING),
    ("fuzz", EVERYTHING),
    ("bench", EVERYTHING),
];
const SHARED: &[&str] = &["domain", "private", "bus", "service"];
/// What reaches processes and containers of its host.
const WITH_HOST: &[&str] = &["domain", "private", "bus", "service", "host"];
#[rustfmt::skip]
const EVERYTHING: &[&str] = &[
    "domain", "private", "bus", "service", "host", "supervisor", "monitor", "analyzer", "fixer", "gateway", "cli",
    "demo", "tests",
];

/// What the pure core may need: nothing that reaches a disk, a network or another thread.
#[rustfmt::skip]
const PURE: [&str; 15] = [
    "base64", "chrono", "chrono-tz", "croner", "minijinja", "regex", "schemars", "serde", "serde-saphyr", "serde_json",
    "serde_path_to_error", "sha2", "thiserror", "url", "uuid",
];

/// What would make the pure core look at a clock, at chance or at the world.
const IMPURE: [&str; 9] = [
    "Utc::now",
    "Local::now",
    "SystemTime",
    "Instant",
    "new_v4",
    "now_v7",
    "std::fs",
    "std::net",
    "std::env",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns all files below a directory with this extension, sorted.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "data" {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the documents: path and text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|it| root().join(it)).into();
    paths.extend(files(&root().join("docs"), "md"));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// Returns all Rust sources of the house as one text.
fn sources() -> String {
    let dirs = ["shared", "services", "deploy", "tests", "xtask"];
    let paths = dirs.iter().flat_map(|dir| files(&root().join(dir), "rs"));
    paths.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Returns the words of a text that begin with `prefix` and go on with `legal` characters.
fn words<'a>(text: &'a str, prefix: &str, legal: fn(char) -> bool) -> BTreeSet<&'a str> {
    let starts = text.match_indices(prefix).map(|(idx, _)| &text[idx..]);
    let word = |rest: &'a str| &rest[..rest.find(|it| !legal(it)).unwrap_or(rest.len())];
    starts.map(word).collect()
}

/// Returns the fenced blocks of a language, but those within lists.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    let starts = text.match_indices(&fence).map(|(idx, _)| &text[idx + fence.len()..]);
    starts.map(|rest| &rest[..rest.find("\n```").unwrap() + 1]).collect()
}

/// Returns a document without its fenced blocks.
fn prose(text: &str) -> String {
    let parts = text.split("\n```").enumerate();
    parts.filter(|(idx, _)| idx % 2 == 0).map(|(_, part)| part).collect()
}

fn metadata() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn dependencies_run_one_way() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let packages = metadata();
    assert_eq!(packages.len(), allowed.len(), "a crate has come or gone");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(may_need) = allowed.get(name) else {
            panic!("the crate `{name}` has no place in the house yet: see docs/architecture.md")
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let needed = dependency["name"].as_str().unwrap();
            let is_ours = dependency["path"].is_string();
            assert!(!is_ours || may_need.contains(&needed), "`{name}` may not need `{needed}`");
            let is_shipped = dependency["kind"].is_null();
            let is_pure = name != "domain" || !is_shipped || PURE.contains(&needed);
            assert!(is_pure, "the domain is pure; `{needed}` is not known to be");
        }
    }
}

#[test]
fn the_domain_looks_at_no_clock_no_chance_and_no_file() {
    for path in files(&root().join("shared/domain/src"), "rs") {
        let is_test = |it: &Path| it.ends_with("tests") || it.ends_with("walk.rs");
        if path.ancestors().any(is_test) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for impure in IMPURE {
            assert!(!shipped.contains(impure), "{} holds `{impure}`", path.display());
        }
    }
}

/// Returns what GitHub makes of a heading, so that links can lead to it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut n_links = 0;
    for (path, text) in documents() {
        let prose = prose(&text);
        let links = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        let images = prose.split("src=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for link in links.chain(images) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            n_links += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let to = path.parent().unwrap().join(file);
            let to = if file.is_empty() { path.clone() } else { to };
            assert!(to.exists(), "{}: the link to {link} leads nowhere", path.display());
            if !fragment.is_empty() {
                let text = fs::read_to_string(to).unwrap();
                let mut headings = text.lines().filter(|it| it.starts_with('#'));
                let found = headings.any(|it| anchor(it) == fragment);
                assert!(found, "{}: there is no heading for {link}", path.display());
            }
        }
    }
    assert!(50 <= n_links, "only {n_links} links were found: is the test blind?");
}

/// What `--help` says of each flag.
fn help(program: &str) -> BTreeMap<String, String> {
    let mut parts = program.split(' ');
    let output = Command::new(binary(parts.next().unwrap()))
        .args(parts)
        .arg("--help")
        .env("COLUMNS", "1000")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut flags: BTreeMap<String, String> = BTreeMap::new();
    let mut flag = None;
    for line in text.lines() {
        let names = line.trim_start().starts_with('-').then(|| line.find("--")).flatten();
        if let Some(idx) = names.filter(|idx| *idx <= 6) {
            let rest = &line[idx..];
            let end = rest.find([' ', '=']).unwrap_or(rest.len());
            flag = Some(rest[..end].to_owned());
        }
        if let Some(flag) = &flag {
            let told = flags.entry(flag.clone()).or_default();
            *told = format!("{told} {}", line.trim());
        }
    }
    flags.remove("--help");
    flags.remove("--version");
    flags
}

/// Returns the programs of each heading of the tables of flags, and the cells of the rows below it.
fn flag_tables() -> Vec<(Vec<String>, Vec<Vec<String>>)> {
    let text = operations();
    let sections = text.split("\n### ").skip(1);
    let of = |section: &str| {
        let (heading, rest) = section.split_once('\n').unwrap();
        let named = heading.split('`').skip(1).step_by(2);
        let programs = named.filter(|it| it.starts_with("selfheal")).map(str::to_owned).collect();
        let cells = |row: &str| -> Vec<String> {
            row.split('|').map(|it| it.trim().trim_matches('`').to_owned()).collect()
        };
        let rest = rest.split("\n## ").next().unwrap();
        let rows = rest.lines().filter(|it| it.starts_with("| `--")).map(cells).collect();
        (programs, rows)
    };
    sections.map(of).filter(|(programs, _): &(Vec<_>, _)| !programs.is_empty()).collect()
}

#[test]
fn the_tables_of_flags_are_what_help_says() {
    let tables = flag_tables();
    let mut documented: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (programs, rows) in &tables {
        for program in programs {
            let known = help(program);
            for row in rows {
                let [_, flag, environment, default, ..] = row.as_slice() else {
                    panic!("a row of {program} is too short: {row:?}")
                };
                let Some(told) = known.get(flag) else { panic!("{program} does not know {flag}") };
                let has_env = told.contains(&format!("[env: {environment}"));
                let no_env = environment == "–" && !told.contains("[env:");
                assert!(has_env || no_env, "{program} {flag}, {environment}: {told}");
                let has_default = told.contains(&format!("[default: {default}]"));
                let no_default = default == "–" && !told.contains("[default:");
                assert!(has_default || no_default, "{program} {flag}, {default}: {told}");
                documented.entry(program).or_default().insert(flag);
            }
        }
    }
    let global = documented["selfheal"].clone();
    for (program, flags) in documented {
        let missing = |flag: &&String| {
            let global = program.starts_with("selfheal ") && global.contains(flag.as_str());
            !global && !flags.contains(flag.as_str())
        };
        let help = help(program);
        let missing: Vec<_> = help.keys().filter(missing).collect();
        assert!(missing.is_empty(), "docs/operations.md says nothing of {program} {missing:?}");
    }
}

#[test]
fn the_units_for_systemd_start_our_programs_and_give_them_no_more_than_they_need() {
    for kind in ["supervisor", "monitor", "analyzer", "fixer", "gateway"] {
        let program = format!("selfheal-{kind}");
        let path = root().join(format!("deploy/systemd/{program}.service"));
        let unit = fs::read_to_string(path).unwrap();
        let mut starts = unit.lines().filter_map(|it| it.strip_prefix("ExecStart=/usr/local/bin/"));
        let words: Vec<_> = starts.next().unwrap().split_whitespace().collect();
        assert_eq!(words[0], program);
        let known = help(&program);
        for flag in words.iter().filter(|it| it.starts_with("--")) {
            assert!(known.contains_key(*flag), "{program} does not know {flag}");
        }
        for setting in ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem="] {
            assert!(unit.contains(&format!("\n{setting}")), "{program} runs without {setting}");
        }
        assert!(
            unit.contains("\nDynamicUser=yes") || unit.contains("\nUser=selfheal"),
            "{program}"
        );
    }
}

#[test]
fn the_table_of_exit_codes_is_what_help_says() {
    let output = Command::new(binary("selfheal")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, codes) = text.split_once("Exit codes:\n").unwrap();
    let codes: BTreeMap<_, _> = codes.lines().map_while(|it| it.trim().split_once("  ")).collect();
    let operations = operations();
    let (_, section) = operations.split_once("\n## Exit codes\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|it| it.strip_prefix("| `"));
    let rows: BTreeMap<_, _> = rows
        .map(|row| row.split_once("` | ").unwrap())
        .map(|(code, rest)| (code, rest.split(" |").next().unwrap()))
        .collect();
    assert_eq!(rows, codes);
}

#[test]
fn the_configurations_in_the_documents_are_valid() {
    let mut n_configurations = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "yaml") {
            if !block.starts_with("# selfheal.yaml") {
                continue;
            }
            n_configurations += 1;
            domain::config::parse(block)
                .unwrap_or_else(|errors| panic!("{}: {errors:#?}\n{block}", path.display()));
        }
        for block in blocks(&text, "json") {
            for value in serde_json::Deserializer::from_str(block).into_iter::<Value>() {
                value.unwrap_or_else(|error| panic!("{}: {error}\n{block}", path.display()));
            }
        }
    }
    assert!(5 <= n_configurations, "only {n_configurations} were found: is the test blind?");
}

/// The tables of metrics, and whose each is.
fn metrics() -> Vec<(&'static str, service::Metric)> {
    let tables: [(&str, &[service::Metric]); 7] = [
        ("all", &service::METRICS),
        ("all", &service::PROCESS_METRICS),
        ("supervisor", &supervisor::METRICS),
        ("monitor", &monitor::METRICS),
        ("analyzer", &analyzer::METRICS),
        ("fixer", &fixer::METRICS),
        ("gateway", &gateway::METRICS),
    ];
    tables.into_iter().flat_map(|(of, all)| all.iter().map(move |it| (of, *it))).collect()
}

#[test]
fn the_table_of_metrics_is_that_of_the_services() {
    let row = |(of, metric): (&str, service::Metric)| {
        let labels: Vec<_> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let labels = labels.join(", ");
        let labels = if labels.is_empty() { " ".to_owned() } else { format!(" {labels} ") };
        let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
        format!("| `{name}` | {kind} |{labels}| {of} | {help} |")
    };
    let wanted: Vec<_> = metrics().into_iter().map(row).collect();
    let operations = operations();
    let (_, section) = operations.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let written: Vec<_> = section.lines().filter(|it| it.starts_with("| `")).collect();
    assert_eq!(written, wanted, "the rows must read:\n{}", wanted.join("\n"));
}

#[test]
fn what_is_counted_is_in_the_tables_of_metrics_and_nothing_else() {
    // Without blanks, as rustfmt may break a macro behind its bracket.
    let sources: String = sources().split_whitespace().collect();
    let quoted =
        words(&sources, "!(\"selfheal_", |it| it.is_ascii_lowercase() || "!(\"_".contains(it));
    let counted: BTreeSet<_> = quoted.iter().map(|it| it.split('"').nth(1).unwrap()).collect();
    let known: BTreeSet<_> =
        metrics().iter().map(|it| it.1.name).filter(|it| it.starts_with("selfheal_")).collect();
    assert_eq!(counted, known);
}

#[test]
fn every_variable_that_the_documents_name_is_read_somewhere() {
    let mut known = sources();
    for path in ["docker-compose.yml", "deploy/Dockerfile", "deploy/secrets.sh"] {
        known.push_str(&fs::read_to_string(root().join(path)).unwrap());
    }
    for (path, text) in documents() {
        for name in words(&text, "SELFHEAL_", |it| it.is_ascii_uppercase() || it == '_') {
            // Streams are named by the prefix and a word of the bus's table.
            let stream = name.strip_prefix("SELFHEAL_").unwrap_or_default();
            let is_of_work = stream.trim_end_matches('_') == bus::topology::FORMER_WORK;
            let is_stream =
                is_of_work || bus::topology::STREAMS.iter().any(|it| it.suffix == stream);
            let is_known = is_stream || known.contains(name);
            assert!(is_known, "{}: nothing reads {name}", path.display());
        }
    }
}

/// Tests and items of the sources are named by the architecture, the recipes and the decisions.
#[test]
fn what_the_documents_name_is_in_the_sources() {
    let sources = sources();
    let mut n_tests = 0;
    for (path, text) in documents() {
        let folder = path.parent().unwrap();
        let is_about_sources = folder.ends_with("decisions")
            || path.ends_with("docs/architecture.md")
            || path.ends_with("CONTRIBUTING.md");
        if !is_about_sources {
            continue;
        }
        let prose = prose(&text);
        for name in prose.split('`').skip(1).step_by(2) {
            let legal = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
            let is_test = 2 < name.matches('_').count() && name.chars().all(legal);
            n_tests += usize::from(is_test);
            let there = !is_test || sources.contains(&format!("fn {name}("));
            assert!(there, "{}: there is no test `{name}`", path.display());
        }
        // [`name`](../path/to/file.rs): the file must know the name.
        for link in prose.split("[`").skip(1) {
            let Some((name, rest)) = link.split_once("`](") else { continue };
            let to = rest.split(')').next().unwrap();
            if to.ends_with(".rs") {
                let file = fs::read_to_string(folder.join(to)).unwrap();
                let last = name.rsplit("::").next().unwrap();
                assert!(file.contains(last), "{to} does not know `{name}`");
            }
        }
    }
    assert!(80 <= n_tests, "only {n_tests} tests are named: is this test blind?");
}
