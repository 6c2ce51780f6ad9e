//! What happens to the targets meanwhile: they die, hang, become sick, flap, or cannot be
//! healed for a while.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::Deeds;
use crate::{
    chance::Chance,
    ground::{Cure, Target},
    target::Mark,
    world::World,
};

/// From one of these to the next.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(4000));
/// How long a target cannot be healed.
const HOPELESS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));
/// How long one turn of a flapping target lasts.
const FLAP: Duration = Duration::from_millis(350);
/// Turns of a flapping target.
const FLAPS: usize = 3;

/// Breaks targets until `stop`.
///
/// # Errors
///
/// When a mark cannot be made.
pub async fn break_targets(
    world: Arc<World>,
    mut chance: Chance,
    deeds: Deeds,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let pause = chance.between(PAUSE.0, PAUSE.1);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
        let Some(target) = chance.pick(&world.ground.targets) else { return Ok(()) };
        let name = break_one(&world, target, &mut chance, &stop).await?;
        if let Some(name) = name {
            deeds.begin(name, target.name.clone());
        }
    }
}

async fn break_one(
    world: &World,
    target: &Target,
    chance: &mut Chance,
    stop: &CancellationToken,
) -> anyhow::Result<Option<&'static str>> {
    let ground = &world.ground;
    let wait = |span| stop.run_until_cancelled(tokio::time::sleep(span));
    let done = match (target.cure, chance.below(10)) {
        (_, 0) => {
            ground.mark(target, Mark::Hopeless, true)?;
            match target.cure {
                Cure::Restart => drop(ground.signal(target, Signal::KILL)),
                Cure::Mend => ground.mark(target, Mark::Sick, true)?,
            }
            let _stopped = wait(chance.between(HOPELESS.0, HOPELESS.1)).await;
            ground.mark(target, Mark::Hopeless, false)?;
            "target_cannot_be_healed"
        }
        (Cure::Restart, 1..=5) => {
            if !ground.signal(target, Signal::KILL) {
                return Ok(None);
            }
            "target_killed"
        }
        (Cure::Restart, 6..=7) => {
            if !ground.signal(target, Signal::TERM) {
                return Ok(None);
            }
            "target_ended"
        }
        (Cure::Restart, _) => {
            if !ground.signal(target, Signal::STOP) {
                return Ok(None);
            }
            "target_hangs"
        }
        (Cure::Mend, 1..=7) => {
            ground.mark(target, Mark::Sick, true)?;
            "target_sick"
        }
        (Cure::Mend, _) => {
            for _ in 0..FLAPS {
                for sick in [true, false] {
                    ground.mark(target, Mark::Sick, sick)?;
                    let _stopped = wait(FLAP).await;
                }
            }
            "target_flaps"
        }
    };
    Ok(Some(done))
}
