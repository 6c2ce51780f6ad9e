//! Runs every target for a while.
//!
//! `SELFHEAL_FUZZ_SECONDS` (2), `SELFHEAL_FUZZ_SEED` and `SELFHEAL_FUZZ_REPLAY` are read; see
//! `tests/fuzz/README.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail, and a run tells what it has come to"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use fuzz::{Form, Options, TARGETS, Target, Verdict, engine};

/// How long each target runs unless told otherwise.
const SECONDS: f64 = 2.0;

/// Where chance begins unless told otherwise: always the same, so that a run can be repeated.
const SEED: u64 = 20_250_818;

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        /// The targets that have a test here.
        const TESTED: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )+
    };
}

targets! {
    event_plain, event_cloudevent, event_binary, input_frame, input_report, input_command,
    wire_envelope, wire_work, wire_ledger, wire_log_line, wire_claim, wire_member, wire_query,
    wire_views, wire_probe, desk_history, desk_fold, desk_snapshot, config_yaml, config_message,
    config_runbook, config_allow, log_journal, log_restore, name_span, name_subject, name_broker,
    cli_http, cli_words, file_proc, mapping_message,
}

fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(corpus_dir(name))
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .collect();
    files.sort();
    files.iter().map(|it| fs::read(it).unwrap()).collect()
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().filter(|it| !it.is_empty()).and_then(|it| it.parse().ok())
}

fn options() -> Options {
    Options {
        seed: variable("SELFHEAL_FUZZ_SEED").unwrap_or(SEED),
        time: Duration::from_secs_f64(variable("SELFHEAL_FUZZ_SECONDS").unwrap_or(SECONDS)),
        dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz"),
    }
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|it| it.name == name).unwrap();
    if let Some(path) = variable::<PathBuf>("SELFHEAL_FUZZ_REPLAY") {
        let input = fs::read(&path).unwrap();
        let verdict = engine::replay(target, &input);
        engine::speak_again();
        println!("{name}: {verdict:?}");
        if let Err(why) = verdict {
            panic!("{name}: {why}");
        }
        return;
    }
    let options = options();
    let outcome = fuzz::fuzz(target, &corpus(name), &options);
    engine::speak_again();
    let figures = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!(
        "{name}: {} runs, {} taken, {} different answers, seed {}",
        figures.n_runs, figures.n_taken, figures.n_answers, options.seed
    );
    assert!(0 < figures.n_taken, "nothing was understood: is the target blind?");
    assert!(2 <= figures.n_answers, "all answers are the same: is the target blind?");
}

#[test]
fn every_target_has_a_test_and_a_corpus_has_a_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|it| it.name).collect();
    assert_eq!(names, TESTED.iter().copied().collect());
    assert_eq!(names.len(), TARGETS.len(), "each name once");
    for folder in fs::read_dir(corpus_dir("")).unwrap().flatten().filter(|it| it.path().is_dir()) {
        let name = folder.file_name().into_string().unwrap();
        assert!(names.contains(name.as_str()), "nothing reads the corpus {name}");
    }
}

/// A decoder as ours are, with one of the mistakes that this engine is made for.
fn broken(run: fn(&[u8]) -> Verdict, form: Form) -> Target {
    Target { name: "broken", about: "broken on purpose", form, seeds: fuzz::seeds::broken, run }
}

fn found(target: &Target) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-broken-{:?}", target.form));
    let options = Options { seed: SEED, time: Duration::from_secs(60), dir };
    let failure = fuzz::fuzz(target, &[], &options).expect_err("the mistake is not found");
    let again = engine::replay(target, &fs::read(&failure.saved).unwrap());
    engine::speak_again();
    assert!(again.is_err(), "what was saved breaks it again");
    failure.to_string()
}

#[test]
fn a_decoder_that_panics_is_found_and_its_input_is_small() {
    // Takes the third part of a version for granted.
    let target = broken(
        |input| {
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(input) else {
                return Verdict::Refused("no JSON".to_owned());
            };
            let version = value.get("version").and_then(|it| it.as_str()).unwrap_or("0.0.0");
            let _patch = version.split('.').nth(2).unwrap();
            Verdict::Taken
        },
        Form::Json,
    );
    let told = found(&target);
    assert!(told.contains("it panics") && told.contains("SELFHEAL_FUZZ_REPLAY="), "{told}");
    assert!(told.contains("input of 1") || told.contains("input of 2"), "{told}");
}

#[test]
fn a_number_that_is_written_otherwise_than_it_was_read_is_found() {
    // Keeps milliseconds in 32 bits.
    let target = broken(
        |input| {
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(input) else {
                return Verdict::Refused("no JSON".to_owned());
            };
            if let Some(ms) = value.get("ms").and_then(serde_json::Value::as_u64) {
                assert_eq!(u64::from(u32::try_from(ms & 0xFFFF_FFFF).unwrap()), ms);
            }
            Verdict::Taken
        },
        Form::Json,
    );
    assert!(found(&target).contains("it panics"));
}

#[test]
fn a_decoder_that_takes_far_too_long_or_too_much_is_found() {
    // Doubles a text for each `&`, as aliases of YAML do.
    let slow = broken(
        |input| {
            let doublings = input.iter().filter(|it| **it == b'&').count() * 8;
            let grown = vec![1_u8; 1 << doublings.min(29)];
            Verdict::Refused(format!("{} bytes", std::hint::black_box(&grown).len()))
        },
        Form::Yaml,
    );
    let told = found(&slow);
    assert!(told.contains("KiB of memory") || told.contains("processor time"), "{told}");
}

#[test]
fn an_answer_as_long_as_its_input_is_found() {
    let target = broken(
        |input| Verdict::Refused(format!("cannot read {}", String::from_utf8_lossy(input))),
        Form::Text,
    );
    assert!(found(&target).contains("is refused with"));
}
