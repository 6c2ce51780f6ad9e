//! `command.run` against real programs.

use crate::kit::{Place, act, act_within, command, is_alive, run, signal, until};
use domain::{action::Action, span::Span};

#[tokio::test]
async fn a_program_changes_the_world_and_what_it_printed_is_reported() {
    let place = Place::new();
    let told = act(&place.tools(), run(&format!("echo hello; touch {}", place.text("done")))).await;
    let report = told.unwrap();
    assert!(place.file("done").exists());
    assert_eq!(report.output, "hello\n");
    assert!(report.summary.contains("exit code 0"), "{}", report.summary);
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let place = Place::new();
    let evil = format!("$(touch {0}); touch {0}", place.text("evil"));
    let report = act(&place.tools(), command(&["echo", &evil])).await.unwrap();
    assert_eq!(report.output.trim(), evil);
    assert!(!place.file("evil").exists());
}

#[tokio::test]
async fn a_program_gets_a_clean_environment() {
    let place = Place::new();
    let env = [("COLOUR".to_owned(), "red".into())].into();
    let action = Action::CommandRun { command: vec!["env".to_owned()], dir: None, env };
    let report = act(&place.tools(), action).await.unwrap();
    let known = ["PATH", "HOME", "LANG", "COLOUR", "SELFHEAL_INCIDENT", "SELFHEAL_ATTEMPT"];
    for line in report.output.lines() {
        assert!(known.contains(&line.split('=').next().unwrap()), "{line}");
    }
    assert!(report.output.contains("COLOUR=red"), "{}", report.output);
}

#[tokio::test]
async fn a_failing_program_fails_the_step_with_its_words() {
    let told = act(&Place::new().tools(), run("echo no room left >&2; exit 7")).await.unwrap_err();
    assert!(told.contains("exit code 7") && told.contains("no room left"), "{told}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_grandchildren() {
    let place = Place::new();
    let hang = format!("sleep 1000 & echo $! > {}; echo begun; wait", place.text("pid"));
    let told = act_within(&place.tools(), run(&hang), Span::from_millis(500)).await.unwrap_err();
    assert!(told.contains("did not end within 0.5 s") && told.contains("begun"), "{told}");
    let grandchild: i32 = place.read("pid").trim().parse().unwrap();
    until("the grandchild is dead", || !is_alive(grandchild)).await;
}

#[tokio::test]
async fn what_a_program_leaves_running_on_purpose_lives_on() {
    let place = Place::new();
    let service = format!("sleep 1000 & echo $! > {}; echo started", place.text("pid"));
    let report = act(&place.tools(), run(&service)).await.unwrap();
    assert_eq!(report.output, "started\n");
    let pid: i32 = place.read("pid").trim().parse().unwrap();
    assert!(is_alive(pid));
    signal(pid, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn a_long_output_is_cut_in_the_middle() {
    let long = "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last";
    let report = act(&Place::new().tools(), run(long)).await.unwrap();
    assert!(report.output.starts_with("first\n"), "{:.80}", report.output);
    assert!(report.output.ends_with("last\n"));
    assert!(report.output.contains("bytes left out"));
    assert!(report.output.len() < 66_000, "{}", report.output.len());
}

#[tokio::test]
async fn a_program_that_is_missing_is_told_by_name() {
    let told = act(&Place::new().tools(), command(&["no-such-program"])).await.unwrap_err();
    assert!(told.contains("no program `no-such-program` in PATH"), "{told}");
}
