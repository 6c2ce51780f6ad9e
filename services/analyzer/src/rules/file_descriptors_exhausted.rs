//! The process has no file descriptor left.

use crate::{
    case::{Case, Life, said},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "file_descriptors_exhausted",
    finds: "the process does not work and has used up its file descriptors, or says so",
    find,
};

/// How programs say that they could open nothing more.
const LAST_WORDS: [&str; 3] = ["too many open files", "emfile", "enfile"];

/// Share of the limit from which on the next burst of connections fails.
const PERCENT: u64 = 95;

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() == Life::Dead || !case.is_down() {
        return None;
    }
    let line = case.log_line(&LAST_WORDS).map(said);
    let count = case.process().and_then(|process| process.n_fds.zip(process.fds_max));
    let full = count.filter(|(n, max)| max.saturating_mul(PERCENT) <= n.saturating_mul(100));
    let summary = format!("{} has no file descriptors left", case.name());
    match (full, line) {
        (Some((n, max)), line) => {
            let because = format!("{n} of {max} file descriptors are open");
            Some(Suspicion::new(92, summary, because).and(line))
        }
        (None, Some(line)) => Some(Suspicion::new(78, summary, line)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn used_up_descriptors_count_only_when_something_is_sick() {
        let hung = |name| Scene::process(name).fails(HTTP, "timed out");
        for (scene, confidence) in [
            (hung("full").fds(1000, 1024), Some(92)),
            (hung("says so").log(&["accept: Too many open files"]), Some(78)),
            (hung("few").fds(100, 1024), None),
            (Scene::process("full and well").fds(1000, 1024), None),
            (Scene::process("dead").exited(1).log(&["EMFILE"]), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
