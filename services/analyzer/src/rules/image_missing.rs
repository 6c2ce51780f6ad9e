//! The container engine does not have the image.

use domain::wire::cause::IMAGE_MISSING;

use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: IMAGE_MISSING,
    finds: "the container does not run, and its engine has no such image",
    find,
};

/// How engines say it.
const WORDS: [&str; 5] = [
    "no such image",
    "image not known",
    "unable to find image",
    "manifest unknown",
    "pull access denied",
];

/// A start cannot succeed before the image is there.
const OUTWEIGHS: &[&str] =
    &["configuration_error", "container_exited", "crash_loop", "out_of_memory"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if case.life() != Life::Dead {
        return None;
    }
    let says = |text: &str| {
        let text = text.to_lowercase();
        WORDS.iter().any(|word| text.contains(word))
    };
    let last = case.work.attempts.last().and_then(|it| it.failure.as_deref());
    let because = if says(&container.error) {
        format!("the engine could not start it: {}", container.error)
    } else {
        format!("the last attempt failed: {}", last.filter(|it| says(it))?)
    };
    let summary = format!("{} cannot be started: its image is missing", case.name());
    let hint = "a deployment may be in progress".to_owned();
    Some(Suspicion::new(97, summary, because).and(hint).outweighs(OUTWEIGHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_missing_image_is_told_by_the_engine_or_by_a_failed_start() {
        let dead = |name| Scene::container(name).container_exit(1);
        for (scene, confidence) in [
            (dead("by the engine").engine_error("No such image: shop:2"), Some(97)),
            (dead("by a start").failed_with("docker.start: no such image: shop:2"), Some(97)),
            (dead("another error").engine_error("no space left on device"), None),
            (dead("no error"), None),
            (Scene::container("runs").engine_error("No such image: shop:2"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
