//! A disk is full.

use crate::{
    case::{Case, Failure, said},
    pressure,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "disk_full",
    finds: "a disk check fails, or writes fail for want of space and a disk is full",
    find,
};

/// How programs say that they could not write.
const LAST_WORDS: [&str; 4] =
    ["no space left on device", "enospc", "disk quota exceeded", "disk is full"];

/// A disk that is really full, so that writes fail.
const FULL_PERCENT: f32 = 98.0;

/// Without space these end the same way again.
const OUTWEIGHS: &[&str] = &["process_exited", "container_exited", "service_failing"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let summary = format!("a disk that {} uses is full", case.name());
    let line = case.log_line(&LAST_WORDS).filter(|_| case.is_down()).map(said);
    let full = pressure::fullest_disk(case).filter(|(_, percent)| FULL_PERCENT <= *percent);
    if let (Some(line), Some((mount, percent))) = (&line, full) {
        let because = format!("the disk at {mount} is {percent:.0} % used");
        return Some(Suspicion::new(96, summary, because).and(line.clone()).outweighs(OUTWEIGHS));
    }
    if let Some(failed) = case.failed_by(&[Failure::Disk]) {
        return Some(Suspicion::new(92, summary, failed.say()).and(line));
    }
    pressure::disk(case).map(|because| Suspicion::new(85, summary, because))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DISK, Scene, found};

    #[test]
    fn a_full_disk_is_told_from_an_old_log_line() {
        let says = |name| Scene::process(name).exited(1).log(&["write: No space left on device"]);
        for (scene, confidence) in [
            (Scene::process("check").fails(DISK, "95 % used"), Some(92)),
            (says("log and disk").disk("/", 99.5), Some(96)),
            (
                Scene::process("an event, and it is true").kind("disk.full").disk("/", 95.0),
                Some(85),
            ),
            (Scene::process("an event, and it is not").kind("disk.full").disk("/", 40.0), None),
            (says("log alone").disk("/", 40.0), None),
            (Scene::process("full, and nobody suffers").disk("/", 99.5), None),
            (Scene::process("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
