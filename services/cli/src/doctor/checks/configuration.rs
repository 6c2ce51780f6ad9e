//! Is there a configuration, and is it the one that is meant?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};
use crate::terminal::plain;

pub(super) const CHECK: Check =
    Check { name: "configuration", asks: "is the configuration the one that is meant?", look };

fn look(facts: &Facts) -> Looked {
    let mut found = Vec::new();
    let file = facts.local.config.as_ref();
    if let Some(file) = file
        && let Err(mistake) = &file.content
    {
        found.push(Finding::new(
            Severity::Warning,
            format!("the file {} cannot be used: {mistake}", file.path.display()),
            "the supervisor keeps the configuration that it has, and does not start without one",
            format!(
                "`selfheal check {}` shows all mistakes with their places",
                file.path.display()
            ),
        ));
    }
    let active = match &facts.config {
        Ok(active) => active,
        Err(NotSeen(_)) if !found.is_empty() => return Ok(found),
        Err(not_seen) => return Err(not_seen.clone()),
    };
    if active.targets.is_empty() {
        found.push(Finding::new(
            Severity::Error,
            "the active configuration has no target",
            "nothing is watched, and every event goes to a person",
            "write targets into selfheal.yaml and `selfheal apply selfheal.yaml`, or start the supervisor with --config",
        ));
    }
    if let Some(file) = file
        && let Ok(content) = &file.content
        && content.hash() != active.hash()
    {
        found.push(Finding::new(
            Severity::Warning,
            format!("the file {} is not the active configuration", file.path.display()),
            "what was changed there has no effect, or another one was applied",
            format!("`selfheal apply {}` makes it the active one; name the file that is meant with --config", file.path.display()),
        ));
    }
    if let Ok(view) = facts.view()
        && let Some(held) = &view.config_held
    {
        found.push(Finding::new(
            Severity::Warning,
            format!(
                "the {} is not in force until confirmed: {}",
                plain(&held.by),
                plain(&held.differences.join("; "))
            ),
            "the former configuration stays in force, and other edits of the file have no effect",
            "confirm it with `selfheal apply FILE`, or change the file back",
        ));
    }
    for warning in active.warnings() {
        found.push(Finding::new(
            Severity::Note,
            warning,
            "it is allowed, but hardly meant",
            "correct it in selfheal.yaml, or leave it if it is intended",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use domain::config::Config;

    use super::{
        super::super::facts::{ConfigFile, well},
        *,
    };

    fn file(content: Result<Config, &str>) -> Option<ConfigFile> {
        let content = content.map(Box::new).map_err(str::to_owned);
        Some(ConfigFile { path: "selfheal.yaml".into(), content })
    }

    fn told(facts: &Facts) -> String {
        let found = look(facts).unwrap().into_iter().map(|it| it.what);
        found.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_file_is_compared_with_what_is_active() {
        let mut facts = well::facts();
        let active = facts.config.clone().unwrap();
        assert_eq!(told(&facts), "", "the well system is well");
        facts.local.config = file(Ok(active.clone()));
        assert_eq!(told(&facts), "");
        let mut other = active;
        other.targets[0].name = "other".to_owned();
        facts.local.config = file(Ok(other));
        assert!(told(&facts).contains("is not the active configuration"));
        facts.local.config = file(Err("selfheal.yaml:3:1: no"));
        assert!(told(&facts).contains("selfheal.yaml:3:1"));
    }

    #[test]
    fn a_file_that_must_be_confirmed_is_told_with_what_it_loosens() {
        let mut facts = well::facts();
        facts.view_mut().config_held = Some(domain::view::HeldConfig {
            sha256: String::new(),
            by: "file of supervisor-1".to_owned(),
            since: chrono::Utc::now(),
            differences: vec!["policy.attempts: 2 -> 9".to_owned()],
        });
        let told = told(&facts);
        assert!(told.contains("file of supervisor-1 is not in force"), "{told}");
        assert!(told.contains("policy.attempts: 2 -> 9"), "{told}");
    }

    #[test]
    fn a_configuration_without_targets_is_an_error() {
        let mut facts = well::facts();
        facts.config = Ok(Config::default());
        assert!(told(&facts).contains("has no target"));
    }
}
