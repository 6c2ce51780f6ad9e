//! What is understood, and what is refused.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_is_understood() {
    let lines = [
        "selfheal up --nats-port 0 --listen 127.0.0.1:0 --data-dir d --config c.yaml",
        "selfheal check a.yaml",
        "selfheal config schema",
        "selfheal apply a.yaml --by ann",
        "selfheal publish service_down --source s --target t --payload {\"a\":1} --resolved",
        "selfheal incidents",
        "selfheal incidents ls --open --status resolved,escalated --since 2h",
        "selfheal incidents show 0199",
        "selfheal incidents watch",
        "selfheal approve 0199 --plan abc",
        "selfheal reject 0199 --reason no",
        "selfheal acknowledge 0199",
        "selfheal ack 0199",
        "selfheal close 0199 --reason done",
        "selfheal retry 0199",
        "selfheal pause --reason storm",
        "selfheal resume",
        "selfheal silences",
        "selfheal silences add target=db host=~db-.* --for 2h --comment backup",
        "selfheal silences add type=slow --until 2026-03-01T02:00:00Z --by ann",
        "selfheal silences end 0123456789abcdef",
        "selfheal status --json",
        "selfheal restore --dry-run",
        "selfheal health http://127.0.0.1:8080/readyz",
        "selfheal completions bash",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|error| panic!("{line}\n{error}"));
    }
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_tried() {
    let lines = [
        "selfheal",
        "selfheal nonsense",
        "selfheal publish no..type",
        "selfheal publish a --payload {",
        "selfheal silences add target=db",
        "selfheal silences add --for 2h",
        "selfheal silences add target --for 2h",
        "selfheal publish a --severity dreadful",
        "selfheal incidents ls --status sleepy",
        "selfheal up --listen everywhere",
        "selfheal up --nats-sync 0s",
        "selfheal status --timeout 5",
        "selfheal status --prefix a.b",
    ];
    for line in lines {
        assert_eq!(parse(line).err().map(|error| error.exit_code()), Some(2), "{line}");
    }
}
