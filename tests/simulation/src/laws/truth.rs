//! "Resolved" against the truth of the target.

use std::rc::Rc;

use domain::{fact::Decision, span::Span, wire::VerificationReport};

use crate::{
    clock::{MS, Micros, micros, moment, utc},
    world::World,
};

/// Looks are at most so far apart: what is shorter may be missed. It is the step of a
/// verification (200 ms), the look itself, and a monitor that is a little late.
const MISSED_MAX: Micros = 900 * MS;

/// A proof was accepted: the target must have been well for the soak time, between the
/// moment the verification was wanted and the moment its report was stored, but for gaps
/// that are too short to be seen.
///
/// The monitor measures the soak with its own clock, which may run 200 ppm too fast.
pub(super) fn proven(
    world: &Rc<World>,
    decision: &Decision,
    report: &VerificationReport,
    target: Option<&str>,
    since: Option<Micros>,
    soak: Span,
) {
    let (Some(id), Some(since)) = (decision.incident, since) else { return };
    let Some(idx) = target.and_then(|name| world.targets.index(name)) else { return };
    let until = moment(decision.at);
    let wanted = micros(soak.to_std()) * 999 / 1000;
    let longest = longest_well(&world.targets.truth(idx), since, until);
    if longest < wanted {
        let why = format!(
            "{id}: {} was well for {} ms of {soak} between {} and {}: {}",
            world.targets.spots[idx].target.name,
            longest / MS,
            utc(since).format("%T%.3f"),
            utc(until).format("%T%.3f"),
            report.summary,
        );
        world.fail("resolved means well for the soak time after the fix", why);
    }
}

/// Returns the longest time of health in a window, where short gaps do not count.
fn longest_well(truth: &[(Micros, bool)], since: Micros, until: Micros) -> Micros {
    let mut longest = 0;
    let mut well_since: Option<Micros> = None;
    let mut sick_since: Option<Micros> = None;
    for (idx, (from, is_well)) in truth.iter().enumerate() {
        let to = truth.get(idx + 1).map_or(until, |next| next.0).min(until);
        let from = (*from).max(since);
        if to <= from && !(to == from && from == since) {
            continue;
        }
        if *is_well {
            let is_new = sick_since.is_some_and(|sick| MISSED_MAX < from - sick);
            if is_new || well_since.is_none() {
                well_since = Some(from);
            }
            sick_since = None;
            longest = longest.max(to - well_since.unwrap_or(from));
        } else {
            sick_since = Some(from);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gaps_interrupt_health() {
        let s = 1000 * MS;
        let truth = [(0, true), (10 * s, false), (10 * s + 50 * MS, true), (20 * s, false)];
        assert_eq!(longest_well(&truth, 5 * s, 15 * s), 10 * s);
        let truth = [(0, true), (10 * s, false), (12 * s, true)];
        assert_eq!(longest_well(&truth, 9 * s, 16 * s), 4 * s);
        assert_eq!(longest_well(&truth, 10 * s, 12 * s), 0);
        assert_eq!(longest_well(&[(0, true)], 3 * s, 7 * s), 4 * s);
    }
}
