//! Something that the target needs does not work.

use domain::{target::Target, wire::cause::DEPENDENCY_DOWN};

use crate::{
    case::{self, Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: DEPENDENCY_DOWN,
    finds: "the target does not work, and neither does something that it needs",
    find,
};

/// What is known of a dependency, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sickness {
    /// It is dead, refuses connections, or fails and has an incident of its own.
    Certain,
    /// One sample failed in a way that may pass.
    Doubtful,
    /// It answers again, and its incident is still open.
    Recovering,
}

struct Sick<'a> {
    dependency: &'a Target,
    sickness: Sickness,
    because: String,
}

/// With a certain one nothing else is worth a try, not even the start of a dead target:
/// it would come up without what it needs and fail its checks. A doubtful one is
/// outweighed by a dead target, and outweighs a living target's own symptoms.
fn confidence(sickness: Sickness, is_connected: bool) -> u8 {
    match (sickness, is_connected) {
        (Sickness::Certain, true) => 98,
        (Sickness::Doubtful, true) => 90,
        (Sickness::Recovering, true) => 88,
        (Sickness::Certain | Sickness::Doubtful | Sickness::Recovering, false) => 65,
    }
}

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if !case.is_down() {
        return None;
    }
    let sick: Vec<Sick<'_>> =
        case.work.dependencies.iter().filter_map(|dependency| look(case, dependency)).collect();
    // Those that need no sick one themselves; of these the surest, then the nearest.
    let roots = sick.iter().filter(|it| !needs_another(case, it.dependency, &sick));
    let root = roots.min_by_key(|it| it.sickness)?;
    let name = root.dependency.name.as_str();
    let is_connected = reaches(case, name, &sick);
    let through = (!is_connected)
        .then(|| "but what stands between them works, so this may be a coincidence".to_owned());
    let others: Vec<&str> = sick.iter().map(|it| it.dependency.name.as_str()).collect();
    let others = (1 < others.len()).then(|| format!("also unhealthy: {}", others.join(", ")));
    let own = case.failed().first().map(case::Failed::say);
    let summary = format!("{} needs {name}, which does not work", case.name());
    Some(
        Suspicion::new(confidence(root.sickness, is_connected), summary, root.because.clone())
            .and(own)
            .and(others)
            .and(through)
            .elsewhere(name),
    )
}

fn look<'a>(case: &Case<'_>, dependency: &'a Target) -> Option<Sick<'a>> {
    let name = &dependency.name;
    let has_incident = case.work.sick_dependencies.contains(name);
    let sick = |sickness, because| Some(Sick { dependency, sickness, because });
    let Some(probe) = case.findings.dependency(name) else {
        let because = format!("{name} has an open incident, and no monitor could check it");
        return has_incident.then(|| sick(Sickness::Certain, because))?;
    };
    let failed = case::failed(dependency, probe);
    let life = case::life(dependency, probe);
    let is_dead = life == Life::Dead;
    // A handle that nobody can look behind, as with a container engine that is away.
    let is_blind = |how| how == Failure::Handle && life == Life::Unknown;
    let worst = failed.iter().filter(|it| it.how.is_down()).min_by_key(|it| !it.how.is_hard());
    match worst {
        Some(failed) => {
            let is_hard = failed.how.is_hard() && !is_blind(failed.how);
            let is_certain = is_dead || has_incident || is_hard;
            let sickness = if is_certain { Sickness::Certain } else { Sickness::Doubtful };
            sick(sickness, format!("{name}: {}", failed.say()))
        }
        None if has_incident && !case::is_complete(probe) => {
            let because = format!("{name} has an open incident, and its state is not known");
            sick(Sickness::Certain, because)
        }
        None if is_dead => sick(Sickness::Certain, format!("{name} does not run")),
        None if has_incident => sick(
            Sickness::Recovering,
            format!("{name} has an open incident; its checks pass again, and it is being verified"),
        ),
        None => None,
    }
}

/// Returns whether a sick dependency needs another sick one, however indirectly.
fn needs_another(case: &Case<'_>, of: &Target, sick: &[Sick<'_>]) -> bool {
    let is_sick = |name: &str| sick.iter().any(|it| it.dependency.name == name);
    walk(case, of, |_between| true).iter().any(|name| *name != of.name && is_sick(name))
}

/// Returns whether a way leads from the target to `name` over nothing that works.
fn reaches(case: &Case<'_>, name: &str, sick: &[Sick<'_>]) -> bool {
    let works = |between: &str| {
        let is_sick = sick.iter().any(|it| it.dependency.name == between);
        let has_checks =
            case.findings.dependency(between).is_some_and(|probe| !probe.checks.is_empty());
        has_checks && !is_sick
    };
    walk(case, case.target, |between| !works(between)).contains(&name)
}

/// Returns all that a target needs; goes on behind a dependency only if `may_pass` says so.
fn walk<'a>(case: &Case<'a>, from: &'a Target, may_pass: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    let mut next: Vec<&Target> = vec![from];
    while let Some(target) = next.pop() {
        for name in &target.depends_on {
            if seen.contains(&name.as_str()) {
                continue;
            }
            seen.push(name);
            let found = case.work.dependencies.iter().find(|it| it.name == *name);
            next.extend(found.filter(|it| may_pass(&it.name)));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, HTTP, Scene, found};

    fn sick_shop(name: &'static str) -> Scene {
        Scene::process(name).fails(HTTP, "status 503")
    }

    #[test]
    fn a_sick_target_with_a_sick_dependency_is_its_symptom() {
        for (scene, confidence) in [
            (sick_shop("dead db").needs("db", &[]).dead_dependency("db"), Some(98)),
            (
                Scene::process("both dead").killed(9).needs("db", &[]).dead_dependency("db"),
                Some(98),
            ),
            (sick_shop("slow db").needs("db", &[]).failing_dependency("db", "timed out"), Some(90)),
            (
                sick_shop("slow db with an incident")
                    .needs("db", &[])
                    .failing_dependency("db", "timed out")
                    .open_incident("db"),
                Some(98),
            ),
            (sick_shop("db recovers").needs("db", &[]).open_incident("db"), Some(88)),
            (sick_shop("blind").needs("db", &[]).blind_dependency("db"), Some(90)),
            (sick_shop("db unseen").needs("db", &[]).unseen_dependency("db"), None),
            (
                sick_shop("db unseen, with an incident")
                    .needs("db", &[])
                    .unseen_dependency("db")
                    .open_incident("db"),
                Some(98),
            ),
            (sick_shop("healthy db").needs("db", &[]), None),
            (Scene::process("well").needs("db", &[]).dead_dependency("db"), None),
            (sick_shop("no dependency"), None),
            (
                sick_shop("the cache between works")
                    .needs("cache", &["db"])
                    .needs_indirectly("db", &[])
                    .dead_dependency("db"),
                Some(65),
            ),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }

    #[test]
    fn the_deepest_sick_dependency_is_the_cause() {
        let scene = sick_shop("chain")
            .needs("api", &["db"])
            .needs_indirectly("db", &["disk"])
            .needs_indirectly("disk", &[])
            .dead_dependency("api")
            .dead_dependency("db");
        let suspicion = testing::find(&RULE, &scene).unwrap();
        assert_eq!(suspicion.elsewhere.as_deref(), Some("db"));
        assert_eq!(suspicion.confidence_percent, 98);
    }

    #[test]
    fn of_two_sick_dependencies_the_surer_is_named() {
        let scene = sick_shop("two")
            .needs("slow", &[])
            .needs("dead", &[])
            .failing_dependency("slow", "timed out")
            .dead_dependency("dead");
        let suspicion = testing::find(&RULE, &scene).unwrap();
        assert_eq!(suspicion.elsewhere.as_deref(), Some("dead"));
    }

    #[test]
    fn a_dependency_whose_disk_fills_up_still_works() {
        let scene = sick_shop("full disk").needs("db", &[]).full_dependency("db");
        assert_eq!(found(&RULE, &scene), None);
    }
}
