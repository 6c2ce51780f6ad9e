//! What `docs/runbooks.md` says is what the program does.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in what it calls as well"
)]

use std::{fmt::Write as _, fs, path::Path};

use analyzer::causes;
use domain::{
    action::ActionName,
    catalogue::Catalogue,
    config::{self, Config},
    target::Target,
};

fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks.md");
    fs::read_to_string(path).unwrap()
}

fn examples() -> Vec<Config> {
    let text = text();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| config::parse(block).unwrap_or_else(|errors| panic!("{errors:?}"))).collect()
}

#[test]
fn the_table_of_causes_is_that_of_the_rules() {
    let catalogue = Catalogue::default();
    let rows = causes().into_iter().fold(String::new(), |mut rows, (cause, finds)| {
        let cures = catalogue.runbooks().iter();
        let cures = cures.filter(|it| it.when.causes.iter().any(|one| one == cause));
        let cures: Vec<_> = cures.map(|it| format!("`{}`", it.name)).collect();
        let cures = if cures.is_empty() { "–".to_owned() } else { cures.join(", ") };
        writeln!(rows, "| `{cause}` | {finds} | {cures} |").unwrap();
        rows
    });
    assert!(text().ends_with(&rows), "the table at the end of docs/runbooks.md must be:\n{rows}");
}

#[test]
fn every_example_is_valid_and_every_action_has_one() {
    let runbooks: Vec<_> = examples().into_iter().flat_map(|config| config.runbooks).collect();
    for action in ActionName::ALL {
        let is_shown = runbooks.iter().flat_map(|it| &it.steps).any(|step| step.action == action);
        assert!(is_shown, "{action} has no example");
    }
}

#[test]
fn every_example_makes_a_plan_for_a_target_that_it_fits() {
    let fitting = serde_json::json!({
        "name": "shop", "labels": {"sidecar": "proxy"}, "docker": {"container": "shop-1"},
    });
    let fitting: Target = serde_json::from_value(fitting).unwrap();
    for config in examples() {
        for runbook in &config.runbooks {
            let named = runbook.when.targets.first().and_then(|name| config.target(name));
            let target = named.unwrap_or(&fitting);
            let soak = config.policy.soak;
            let plan = runbook.plan("test", target, soak, config.policy.verify_within);
            assert!(plan.is_ok(), "{}: {plan:?}", runbook.name);
        }
    }
}
