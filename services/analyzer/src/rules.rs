//! The diagnosis rules: one file each, and two lines here.

mod answered_by_another;
mod configuration_error;
mod container_engine_away;
mod container_exited;
mod container_hung;
mod container_missing;
mod container_paused;
mod container_unhealthy;
mod cpu_high;
mod crash_loop;
mod dependency_down;
mod disk_full;
mod evidence_incomplete;
mod file_descriptors_exhausted;
mod flapping;
mod healthy;
mod host_overloaded;
mod image_missing;
mod main_process_exited;
mod memory_high;
mod name_resolution_failed;
mod not_listening;
mod not_observable;
mod out_of_memory;
mod port_taken;
mod process_exited;
mod process_hung;
mod process_stopped;
mod program_missing;
mod service_failing;
mod starting;
mod unreachable;

use crate::suspicion::Rule;

/// All rules. Each names the cause that it finds; the order decides between causes of
/// the same confidence.
pub(crate) static RULES: &[Rule] = &[
    answered_by_another::RULE,
    configuration_error::RULE,
    container_engine_away::RULE,
    container_exited::RULE,
    container_hung::RULE,
    container_missing::RULE,
    container_paused::RULE,
    container_unhealthy::RULE,
    cpu_high::RULE,
    crash_loop::RULE,
    dependency_down::RULE,
    disk_full::RULE,
    evidence_incomplete::RULE,
    file_descriptors_exhausted::RULE,
    flapping::RULE,
    healthy::RULE,
    host_overloaded::RULE,
    image_missing::RULE,
    main_process_exited::RULE,
    memory_high::RULE,
    name_resolution_failed::RULE,
    not_listening::RULE,
    not_observable::RULE,
    out_of_memory::RULE,
    port_taken::RULE,
    process_exited::RULE,
    process_hung::RULE,
    process_stopped::RULE,
    program_missing::RULE,
    service_failing::RULE,
    starting::RULE,
    unreachable::RULE,
];

/// Returns all causes that the rules can find, with what speaks for each.
#[must_use]
pub fn causes() -> Vec<(&'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.cause, rule.finds)).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::{case::Case, testing};

    #[test]
    fn every_file_is_listed_and_named_after_its_cause() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let listed: BTreeSet<String> = RULES.iter().map(|rule| rule.cause.to_owned()).collect();
        assert_eq!(files, listed);
        assert_eq!(RULES.len(), listed.len(), "a cause is listed twice");
    }

    /// Walks all rules over all scenes: what is found always has evidence, never more than
    /// certainty, and each rule finds its cause in at least one scene.
    #[test]
    fn no_rule_names_a_cause_without_evidence() {
        let mut found = BTreeSet::new();
        for scene in testing::all_scenes() {
            let case = Case::new(&scene.work, &scene.findings).unwrap();
            for rule in RULES {
                let Some(suspicion) = (rule.find)(&case) else { continue };
                let at = format!("{} in `{}`", rule.cause, scene.name);
                assert!(suspicion.confidence_percent <= 100, "{at}");
                assert!(!suspicion.summary.is_empty(), "{at}");
                let outweighs = suspicion.outweighs;
                let because = suspicion.into_because();
                assert!(!because.is_empty() && because.iter().all(|it| !it.is_empty()), "{at}");
                let known = |name: &&'static str| RULES.iter().any(|rule| rule.cause == *name);
                assert!(outweighs.iter().all(known), "{at} outweighs an unknown cause");
                found.insert(rule.cause);
            }
        }
        let never: Vec<_> =
            RULES.iter().map(|rule| rule.cause).filter(|it| !found.contains(it)).collect();
        assert!(never.is_empty(), "no scene for {never:?}");
    }
}
