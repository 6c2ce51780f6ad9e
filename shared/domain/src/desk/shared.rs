//! Measurements that several incidents of one target share.
//!
//! Whether a target is healthy has one answer, however many incidents ask. So it is measured for
//! one of them, the one that has waited longest, and the report answers all that had begun to
//! wait before its first sample. Those that began to wait later share the next measurement.
//! Whether a fix has helped is asked for itself: it has checks and a soak time of its own.

use chrono::{DateTime, Utc};

use super::{Desk, Turn};
use crate::{
    fact::Fact,
    id::IncidentId,
    incident::{Corrupt, Incident, Phase},
    wire::VerificationReport,
};

impl Desk {
    /// Returns whether the measurement that an incident waits for is done for another one.
    #[must_use]
    pub fn is_measured_by_another(&self, incident: &Incident) -> bool {
        let target = incident.target.as_deref().filter(|_| incident.shares_since().is_some());
        target.is_some_and(|target| self.incidents.measured_for(target) != Some(incident.id))
    }

    /// Returns the incident for which the measurement is done that those of its target share.
    #[must_use]
    pub fn measured_for(&self, incident: &Incident) -> Option<IncidentId> {
        self.incidents.measured_for(incident.target.as_deref()?)
    }

    /// Returns how old samples may be at most that an incident waits for: as new as all that
    /// share them need.
    pub(super) fn samples_wanted_since(
        &self,
        incident: &Incident,
        since: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let target = incident.target.as_deref().filter(|_| incident.shares_since().is_some());
        let shared = target.and_then(|target| self.incidents.shared_since(target));
        shared.map_or(since, |shared| shared.max(since))
    }

    /// Gives what was measured for one incident to the others of its target that it answers.
    pub(super) fn share_measured(&mut self, id: IncidentId, fact: &Fact) -> Result<(), Corrupt> {
        let (Fact::Verified { report } | Fact::NotVerified { report: Some(report) }) = fact else {
            return Ok(());
        };
        let of = self.incidents.get(&id);
        let of = of.filter(|it| report.work.incident == id && it.shares_since().is_some());
        let Some(target) = of.and_then(|it| it.target.clone()) else { return Ok(()) };
        let fleet = self.config.clone();
        for other in self.incidents.answered(&target, report.samples_from) {
            let unknown = || Corrupt {
                seq: self.n_decisions,
                fact: fact.name(),
                phase: "nothing".to_owned(),
                incident: other,
            };
            if other != id {
                self.incidents.change(other, &fleet, unknown, |it| {
                    it.measured = Some(report.clone());
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Does what follows on a measurement that was done for another incident.
    pub(super) fn take_shared(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let Some(report) = incident.measured.clone() else { return };
        let Phase::Verifying { purpose, .. } = incident.phase.clone() else { return };
        let VerificationReport { passed, summary, work, .. } = &*report;
        let why = format!("{summary}; measured for {}", work.incident);
        if *passed {
            self.record(turn, Some(id), Fact::Verified { report: report.clone() }, why);
            self.prove(turn, id, &purpose, &report);
        } else {
            let fact = Fact::NotVerified { report: Some(report) };
            self.record(turn, Some(id), fact, why.clone());
            self.disprove(turn, id, &purpose, &[], &why);
        }
    }
}
