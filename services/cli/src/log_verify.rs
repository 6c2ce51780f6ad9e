//! `log verify`: tells whether the log of decisions is as the supervisor wrote it.

use std::time::Duration;

use bus::{
    Keys,
    log_chain::{Problem, Proof, Report, verify},
};
use serde_json::{Value, json};

use crate::{
    args::{Global, Verify},
    exit::{Exit, Failure},
    restore::LOG_FILE,
    terminal::Terminal,
    up,
};

/// Problems that are printed one by one.
const SHOWN: usize = 50;

/// A supervisor that writes meanwhile may have written half of what was read.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(250);

/// Verifies the log and prints what was found.
///
/// # Errors
///
/// [`Exit::Failed`] when the log was changed, [`Exit::NotFound`] when there is none.
pub(crate) async fn run(args: &Verify, global: &Global, terminal: Terminal) -> Result<(), Failure> {
    let keys = keys(global)?;
    let mut report = look(args, global, &keys)?;
    for _ in 1..TRIES {
        if report.problems.is_empty() {
            break;
        }
        tokio::time::sleep(WAIT).await;
        report = look(args, global, &keys)?;
    }
    if report.has_head == Some(false) {
        let what = "the head that was named is not part of the chain: the log was cut and written anew, or it is another log";
        let file = global.data_dir.join(LOG_FILE);
        report.problems.push(Problem { file, line: None, what: what.to_owned() });
    }
    if terminal.is_json() {
        terminal.print_json(&as_json(&report), false)?;
    } else {
        terminal.print(&text(&report))?;
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

/// Returns the keys that were named, or those of a data directory of `selfheal up`.
fn keys(global: &Global) -> Result<Keys, Failure> {
    let refused = |error: bus::Error| {
        Failure::new(Exit::Usage, "a trusted key cannot be read")
            .hint("name public keys, as `selfheal key show` prints them, separated by commas")
            .because(error)
    };
    let mut trusted = global.broker.options("cli").all_trusted_keys().map_err(refused)?;
    if trusted.is_empty()
        && let Some(signing) = up::keys::of(&global.data_dir.join("run"))?
    {
        trusted.push(signing.public);
    }
    Keys::new(None, &trusted).map_err(refused)
}

fn look(args: &Verify, global: &Global, keys: &Keys) -> Result<Report, Failure> {
    let log = global.data_dir.join(LOG_FILE);
    let is_there = if args.files.is_empty() {
        log.exists() || bus::log_chain::closed_files(&log).is_ok_and(|it| !it.is_empty())
    } else {
        args.files.iter().all(|it| it.exists())
    };
    if !is_there {
        let message = match args.files.iter().find(|it| !it.exists()) {
            Some(file) => format!("there is no log `{}`", file.display()),
            None => format!("there is no log in `{}`", global.data_dir.display()),
        };
        let hint = "name the supervisor's data directory with --data-dir, or parts of the log";
        return Err(Failure::new(Exit::NotFound, message).hint(hint));
    }
    verify(&log, &args.files, keys, args.head.as_deref()).map_err(|error| {
        Failure::new(Exit::Failed, "cannot read the log or its chain")
            .hint("read it as the user of the supervisor, who alone may")
            .because(error)
    })
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> =
        report.problems.iter().take(SHOWN).map(ToString::to_string).collect();
    let n_more = report.problems.len().saturating_sub(SHOWN);
    if 0 < n_more {
        lines.push(format!("and {n_more} more"));
    }
    lines.extend(
        report.remarks.iter().map(|it| format!("note: {}: {}", it.file.display(), it.what)),
    );
    let verdict = if report.problems.is_empty() { "OK" } else { "CHANGED" };
    let Report { n_lines, n_parts, last_seq, head, .. } = report;
    let parts = if *n_parts == 1 { "part" } else { "parts" };
    lines.push(format!(
        "{verdict}: {n_lines} lines in {n_parts} {parts}, up to decision {last_seq}; {}",
        proof(&report.proof)
    ));
    lines.push(format!("head: {head}"));
    lines.join("\n")
}

fn proof(proof: &Proof) -> String {
    match proof {
        Proof::Signed(key) => format!("signed by {key}"),
        Proof::Unchecked(key) => {
            format!("signed by {key}, which was not checked: name the keys with --trusted-keys")
        }
        Proof::Unsigned => {
            "without a valid signature: whoever can write the files can write both anew".to_owned()
        }
    }
}

fn as_json(report: &Report) -> Value {
    let problems = report.problems.iter();
    let problems = problems.map(|it| json!({"file": it.file, "line": it.line, "what": it.what}));
    let remarks = report.remarks.iter().map(|it| json!({"file": it.file, "what": it.what}));
    let (proof, key) = match &report.proof {
        Proof::Signed(key) => ("signed", Some(key)),
        Proof::Unchecked(key) => ("unchecked", Some(key)),
        Proof::Unsigned => ("unsigned", None),
    };
    json!({
        "ok": report.problems.is_empty(),
        "parts": report.n_parts,
        "lines": report.n_lines,
        "last_decision": report.last_seq,
        "head": report.head,
        "signature": proof,
        "key": key,
        "problems": problems.collect::<Vec<_>>(),
        "notes": remarks.collect::<Vec<_>>(),
    })
}
