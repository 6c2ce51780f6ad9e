//! Plans that were made for another configuration. There may be more than one message of the
//! ledger can say, so they expire in portions; none of them is approved or begun meanwhile.

use super::{Desk, Turn, fleet::Fleet};
use crate::{fact::Fact, id::IncidentId, incident::Phase};

impl Desk {
    /// Returns whether what was planned for a target under a former configuration would be planned
    /// otherwise now.
    pub(super) fn has_changed(&self, former: &Fleet, target: Option<&String>) -> bool {
        let Some(name) = target else { return true };
        former.target(name) != self.config.target(name)
            || former.policy.attempts != self.config.policy.attempts
            || former.runbooks != self.config.runbooks
    }

    /// Notes the plans that another configuration makes stale.
    pub(super) fn note_stale(&mut self, former: &Fleet) {
        let waits = |phase: &Phase| {
            matches!(phase, Phase::Proposed { .. } | Phase::AwaitingApproval { .. })
        };
        let open = self.incidents.open();
        let stale =
            open.filter(|it| waits(&it.phase) && self.has_changed(former, it.target.as_ref()));
        let stale: Vec<_> = stale.map(|it| it.id).collect();
        self.stale.extend(stale);
    }

    /// Lets stale plans expire, as many as the turn has room for.
    pub(super) fn expire_stale(&mut self, turn: &mut Turn) {
        while let Some(id) = self.stale.first().copied() {
            if !turn.has_room() {
                return;
            }
            if !self.expire_if_stale(turn, id) {
                return;
            }
            // A fact that could not be applied must not be tried for ever.
            self.stale.remove(&id);
        }
    }

    /// Lets a plan expire if it is stale; returns whether it was.
    pub(super) fn expire_if_stale(&mut self, turn: &mut Turn, id: IncidentId) -> bool {
        if !self.stale.contains(&id) {
            return false;
        }
        let why = "the configuration has changed, so the plan is made anew";
        self.record(turn, Some(id), Fact::PlanExpired, why);
        true
    }
}
