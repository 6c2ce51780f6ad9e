//! What the checks of a target can prove about an incident.
//!
//! A passing check proves only what it measures. An alert of another type stays open for as
//! long as its sender says so, and ends on its sender's word.

use super::Desk;
use crate::{incident::Incident, target::Target};

/// What can prove that an incident is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Fresh samples of the target's checks.
    Checks,
    /// The sender's word alone; says why.
    Sender(String),
}

impl Desk {
    /// Returns what can prove that an incident is over.
    pub(super) fn proof_of(&self, incident: &Incident) -> Proof {
        let target = incident.target.as_deref().and_then(|name| self.config.target(name));
        let Some(target) = target.filter(|it| !it.all_checks().is_empty()) else {
            return Proof::Sender("there is no check that could prove it".to_owned());
        };
        if incident.event.is_ours() || target.measures(&incident.event.kind) {
            return Proof::Checks;
        }
        Proof::Sender(unmeasured(target, incident))
    }
}

fn unmeasured(target: &Target, incident: &Incident) -> String {
    format!("the checks of {} do not measure {}", target.name, incident.event.kind)
}
