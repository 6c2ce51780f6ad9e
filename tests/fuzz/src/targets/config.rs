//! What people write into files.

use std::{cell::RefCell, fs, path::PathBuf};

use domain::config::{self, Config, ConfigError};

use super::{Form, Target, Verdict};
use crate::seeds::{CONFIG, bytes, story};

pub(super) const YAML: Target = Target {
    name: "config_yaml",
    about: "selfheal.yaml: every mistake has a place and a hint, and what is taken means the same when written",
    form: Form::Yaml,
    seeds: configs,
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Verdict::Refused("no text".to_owned());
        };
        match config::parse(text) {
            Ok(config) => taken(&config),
            Err(errors) => located(text, &errors),
        }
    },
};

pub(super) const MESSAGE: Target = Target {
    name: "config_message",
    about: "a configuration that comes by message",
    form: Form::Json,
    seeds: || vec![bytes(&story().config), b"{}".to_vec()],
    run: |input| match serde_json::from_slice::<Config>(input) {
        Err(error) => Verdict::Refused(error.to_string()),
        Ok(config) => {
            let back: Config = serde_json::from_slice(&bytes(&config)).unwrap();
            assert_eq!(back, config);
            let findings = config.findings();
            match findings.first() {
                Some(first) => Verdict::Refused(format!("{first:?}")),
                None => taken(&config),
            }
        }
    },
};

pub(super) const RUNBOOK: Target = Target {
    name: "config_runbook",
    about: "a runbook of a file of one's own",
    form: Form::Yaml,
    seeds: runbooks,
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Verdict::Refused("no text".to_owned());
        };
        match config::parse_runbook(text) {
            Ok(runbook) => {
                for target in &story().config.targets {
                    let spans =
                        (domain::span::Span::from_secs(1), domain::span::Span::from_secs(9));
                    if let Ok(plan) = runbook.plan("a", target, spans.0, spans.1) {
                        let back: domain::plan::Plan =
                            serde_json::from_slice(&bytes(&plan)).unwrap();
                        assert_eq!(back.hash(), plan.hash());
                    }
                }
                Verdict::Taken
            }
            Err(errors) => located(text, &errors),
        }
    },
};

pub(super) const ALLOW: Target = Target {
    name: "config_allow",
    about: "the fixer's own list",
    form: Form::Yaml,
    seeds: allow_lists,
    run: |input| {
        let path = in_file(input);
        let args = fixer_args(&path);
        match fixer::AllowList::load(&args) {
            Ok(_) => Verdict::Taken,
            Err(error) => {
                assert!(!error.hint().is_empty());
                Verdict::Refused(error.to_string())
            }
        }
    },
};

/// A configuration that was taken can be written as JSON, which is YAML, and is taken again.
fn taken(config: &Config) -> Verdict {
    if config.unknown.is_some() {
        // A newer version wrote it: it is folded and kept, and is no file of ours.
        return Verdict::Refused("of a newer version".to_owned());
    }
    let text = String::from_utf8(bytes(config)).unwrap();
    let back = config::parse(&text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    assert_eq!(&back, config);
    assert_eq!(back.hash(), config.hash());
    let _said = config.warnings();
    for target in &config.targets {
        let _ends = (config.dependencies(&target.name), config.dependents(&target.name));
    }
    Verdict::Taken
}

fn located(text: &str, errors: &[ConfigError]) -> Verdict {
    assert!(!errors.is_empty());
    // The parser counts every line break that YAML ever knew.
    let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    let n_lines = u64::try_from(text.split(breaks).count()).unwrap();
    for error in errors {
        assert!(error.line <= n_lines, "line {} of {n_lines}: {error:?}", error.line);
        assert!(!error.message.is_empty() && !error.hint.is_empty(), "{error:?}");
        assert!(error.message.len() <= 2_000, "{} bytes: {}", error.message.len(), error.message);
        assert!(error.snippet.len() <= 4_000, "a snippet of {} bytes", error.snippet.len());
    }
    Verdict::Refused(errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

thread_local! {
    static FILE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Writes the input into a file of this thread.
pub(super) fn in_file(input: &[u8]) -> PathBuf {
    FILE.with_borrow_mut(|file| {
        let path = file.get_or_insert_with(|| {
            let id = format!("{:?}", std::thread::current().id());
            let id: String = id.chars().filter(char::is_ascii_digit).collect();
            std::env::temp_dir().join(format!("selfheal-fuzz-{}-{id}", std::process::id()))
        });
        fs::write(&*path, input).unwrap();
        path.clone()
    })
}

fn fixer_args(path: &std::path::Path) -> fixer::Args {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        args: fixer::Args,
    }
    let words = ["fixer", "--allow-file", &path.to_string_lossy()].map(str::to_owned);
    <Flags as clap::Parser>::parse_from(words).args
}

fn configs() -> Vec<Vec<u8>> {
    let examples = ["quickstart.yaml", "compose.yaml"].map(|name| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");
        fs::read(std::path::Path::new(dir).join(name)).unwrap_or_default()
    });
    let mut seeds = vec![CONFIG.as_bytes().to_vec(), bytes(&story().config), b"{}".to_vec()];
    seeds.extend(examples);
    seeds
}

fn runbooks() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks");
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut seeds: Vec<Vec<u8>> = files.filter_map(|it| fs::read(it.path()).ok()).collect();
    seeds.sort();
    seeds.push(bytes(&story().config.runbooks[0]));
    seeds
}

fn allow_lists() -> Vec<Vec<u8>> {
    vec![
        b"actions: [process.restart, command.run]\nprograms: [demo-store ..., \"/opt/shop/bin/*\", [echo, a b]]\nenv: [\"SHOP_*\"]\nreads: [/var/log/shop]\ndirectories: [/var/log/shop]\nhosts: [\"127.0.0.1:8081\", \"*.internal\"]\ncontainers: [\"shop/*\"]\nwrites: [/var/log/shop]\n".to_vec(),
        br#"{"actions": [], "programs": ["[a-"], "writes": ["../x"], "directories": ["/etc"]}"#.to_vec(),
    ]
}
