//! Which monitor watches which target.
//!
//! Rendezvous hashing: every monitor computes the same owner from the same list, and
//! when one is gone, only its targets move.

/// Returns the owner of a target among the living monitors of its zone.
///
/// `None` when there is none.
pub fn owner<'a>(target: &str, members: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    members.max_by_key(|member| (weight(member, target), *member))
}

/// Returns how much a monitor wants a target: the same on every build and machine.
fn weight(member: &str, target: &str) -> u64 {
    // FNV-1a over both texts, parted by a byte that is in neither.
    let bytes = member.bytes().chain([0xff]).chain(target.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // FNV leaves the high bits of short texts alike; this spreads them (splitmix64).
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Returns a fraction from 0 to 1, always the same for a check of a target: where in its
/// period it is looked at, so that a thousand checks are not looked at in one moment.
#[must_use]
pub fn phase(target: &str, check: &str) -> f64 {
    let low = u32::try_from(weight(target, check) >> 32).unwrap_or(0);
    f64::from(low) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONITORS: [&str; 3] = ["monitor-0a1b2c3d", "monitor-11111111", "monitor-deadbeef"];

    fn targets() -> Vec<String> {
        (0..300).map(|n| format!("target-{n}")).collect()
    }

    #[test]
    fn each_target_has_one_owner_whatever_the_order_of_the_list() {
        for target in targets() {
            let forwards = owner(&target, MONITORS.into_iter());
            assert!(forwards.is_some());
            assert_eq!(forwards, owner(&target, MONITORS.into_iter().rev()));
        }
        assert_eq!(owner("a", std::iter::empty()), None);
    }

    #[test]
    fn a_takeover_moves_the_targets_of_the_dead_one_and_no_others() {
        let (dead, living) = MONITORS.split_first().unwrap();
        for target in targets() {
            let before = owner(&target, MONITORS.into_iter()).unwrap();
            let after = owner(&target, living.iter().copied()).unwrap();
            assert!(before == *dead || before == after, "{target} moved needlessly");
            assert_ne!(after, *dead);
        }
    }

    #[test]
    fn targets_are_shared_out_about_evenly() {
        for member in MONITORS {
            let n_owned = targets()
                .iter()
                .filter(|target| owner(target, MONITORS.into_iter()) == Some(member))
                .count();
            assert!((70..=130).contains(&n_owned), "{member} has {n_owned} of 300");
        }
    }
}
