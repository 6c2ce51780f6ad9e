//! Whose word counts, and what a look proves: an alert that no check measures ends on its
//! sender's word, a look that was incomplete gives nobody up, and what was refused has not failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use domain::{
    config::Config,
    event::{Event, Status},
    fact::{Decision, Escalation, Fact},
    id::IncidentId,
    wire::{FixOutcome, FixReport, WorkRef},
};

use super::policy::{Model, Stand};
use crate::world::World;

/// What the checks of all targets here measure.
const MEASURED: &str = "service_down";

/// What others call a trouble: its type, the target that they name, and the fingerprint that they
/// give it themselves. What the product makes of these is not believed here.
type Trouble = (String, Option<String>, Option<String>);

/// What is known of one incident.
#[derive(Debug)]
struct Told {
    trouble: Trouble,
    /// The message of the inbox that opened it.
    seq: u64,
    /// Somebody outside reported what no check measures.
    needs_word: bool,
    /// Its sender has said that it is over, or says nothing any more.
    is_heard: bool,
    n_retries: u32,
    /// The last diagnosis rests on a look that was not complete.
    is_incomplete: bool,
}

/// What senders say and what looks show.
#[derive(Debug, Default)]
pub(crate) struct Words {
    incidents: BTreeMap<IncidentId, Told>,
    /// Diagnoses that rest on an incomplete look.
    incomplete: BTreeSet<WorkRef>,
    /// Attempts that a fixer refused, and which.
    refused: BTreeMap<(IncidentId, u32), String>,
    /// Whose report ended an attempt.
    ended_by: BTreeMap<(IncidentId, u32), String>,
    /// The last word about each trouble, and its message in the inbox.
    last: BTreeMap<Trouble, (Status, u64)>,
}

impl Words {
    /// An analyzer judges by a look that was not complete.
    pub(crate) fn incomplete(&mut self, work: WorkRef) {
        self.incomplete.insert(work);
    }

    /// Looks at an event that was stored for the first time.
    pub(super) fn stored(&mut self, seq: u64, event: &Event) {
        self.last.insert(trouble(event), (event.status, seq));
    }

    /// The inbox is lost: what was said in it from this message on may never be decided.
    pub(super) fn lost(&mut self, seq: u64) {
        self.last.retain(|_, (_, said)| *said < seq);
    }

    /// Looks at a fixer's report that was stored.
    pub(super) fn report(&mut self, report: &FixReport) {
        if matches!(report.outcome, FixOutcome::Refused { .. }) {
            let attempt = (report.work.incident, report.work.attempt);
            self.refused.insert(attempt, report.by.clone());
        }
    }

    /// Takes a decision, before the model does, and the message that caused it, counted over all
    /// inboxes.
    pub(super) fn decide(
        &mut self,
        world: &Rc<World>,
        model: &Model,
        (decision, seq): (&Decision, u64),
        is_touched: impl Fn(IncidentId, u32) -> bool,
    ) {
        let Some(id) = decision.incident else { return };
        if let Fact::Opened { event, target, .. } = &decision.fact {
            let told = Told {
                trouble: trouble(event),
                seq,
                needs_word: super::key_of(event).is_some() && event.kind.as_str() != MEASURED,
                is_heard: false,
                n_retries: 0,
                is_incomplete: false,
            };
            self.incidents.insert(id, told);
            if target.is_none() {
                labels(world, &model.config, id, event);
            }
            return;
        }
        let Some(told) = self.incidents.get_mut(&id) else { return };
        match &decision.fact {
            Fact::RecoveryReported { .. } | Fact::LeaseEnded => told.is_heard = true,
            Fact::RetryScheduled { .. } => told.n_retries += 1,
            Fact::Diagnosed { report, .. } => {
                let first = report.hypotheses.first().map(|it| it.cause.as_str());
                // Those are seen in the history or elsewhere, or end in a verification.
                let is_history = matches!(
                    first,
                    Some("flapping" | "crash_loop" | "healthy" | "dependency_down")
                );
                told.is_incomplete = !is_history && self.incomplete.contains(&report.work);
            }
            Fact::Escalated { why: Escalation::NoCause | Escalation::NoPlan }
                if told.is_incomplete && told.n_retries == 0 =>
            {
                let why = format!("{id}: {}", decision.reason);
                world.fail("an incomplete look is no verdict", why);
            }
            Fact::SelfResolved if told.needs_word && !told.is_heard => {
                let why = format!("{id}: {}: {}", told.trouble.0, decision.reason);
                world.fail("a pass proves only what it measures", why);
            }
            Fact::FixEnded { report: Some(report) } => {
                self.ended_by.insert((id, model.attempt(id)), report.by.clone());
            }
            Fact::AttemptFailed => {
                let attempt = model.attempt(id);
                let by = self.ended_by.get(&(id, attempt));
                let is_refused = by.is_some() && by == self.refused.get(&(id, attempt));
                if is_refused && !is_touched(id, attempt) {
                    let why = format!("{id} attempt {attempt}: {}", decision.reason);
                    world.fail("what was refused has not failed", why);
                }
            }
            _ => {}
        }
    }

    /// When all is settled, the word of a sender has reached its incident.
    pub(super) fn at_the_end(&self, world: &Rc<World>, model: &Model) {
        for (id, told) in self.incidents.iter().filter(|(_, it)| it.needs_word) {
            let is_over = model.cases.get(id).is_none_or(|it| it.stand == Stand::Over);
            let said = self.last.get(&told.trouble);
            let is_resolved =
                said.is_some_and(|(status, seq)| *status == Status::Resolved && told.seq < *seq);
            if is_resolved && !is_over {
                let stand = model.cases.get(id).map(|it| &it.stand);
                let why = format!("{id}: {:?} is {stand:?}", told.trouble);
                return world.fail("the word of a sender reaches its incident", why);
            }
        }
    }
}

/// An event whose labels belong to a configured target is about that, whatever it names.
fn labels(world: &Rc<World>, config: &Config, id: IncidentId, event: &Event) {
    // Senders here call a pod after its service; its label says so to whoever looks.
    let Some(service) = event.target.as_deref().and_then(|it| it.strip_prefix("pod-")) else {
        return;
    };
    let is_selected = config.targets.iter().any(|it| {
        it.name == service && it.select.iter().any(|pairs| pairs.contains_key("service"))
    });
    if is_selected {
        let why = format!("{id}: {:?} has the label of {service}", event.target);
        world.fail("labels find their target", why);
    }
}

fn trouble(event: &Event) -> Trouble {
    // Those of floods; any other may come from us.
    let own = event.fingerprint.clone().filter(|it| it.starts_with("own"));
    (event.kind.to_string(), event.target.clone(), own)
}
