//! What commands of people do. Each is answered, also when it is refused.

use super::{Desk, Turn};
use crate::{
    event::short_text,
    fact::{Escalation, Fact},
    guard::Standing,
    id::IncidentId,
    incident::{Approval, Phase, person},
    wire::{AnswerStatus, Command, Verb},
};

/// Longest reason of a refusal, and longest name of who was refused.
const REFUSAL_CHARS_MAX: usize = 400;
const BY_CHARS_MAX: usize = 200;

impl Desk {
    pub(super) fn on_command(&mut self, turn: &mut Turn, command: &Command) {
        let by = command.by.clone();
        if let Some(why) = self.out_of_scope(command) {
            let message = format!("{by} may not do this: {why}.");
            turn.answer(AnswerStatus::Refused, incident_of(&command.verb), &message);
            self.note_refusal(turn, command);
            return;
        }
        match &command.verb {
            Verb::Approve { incident, plan_hash } => {
                self.approve(turn, *incident, plan_hash, command);
            }
            Verb::Reject { incident, reason } => self.reject(turn, *incident, reason, &by),
            Verb::Acknowledge { incident } => {
                if self.known(turn, *incident) {
                    let why = format!("{by} is looking at it");
                    self.record(turn, Some(*incident), Fact::Acknowledged { by }, why);
                    done(turn, Some(*incident), "Acknowledged.");
                }
            }
            Verb::Close { incident, reason } => self.close(turn, *incident, reason, by),
            Verb::Retry { incident } => self.retry(turn, *incident, by),
            Verb::Pause { reason } => {
                let reason = if reason.is_empty() { "no reason given" } else { reason };
                let why = format!("{reason} (by {by})");
                self.record(turn, None, Fact::Paused { by }, why);
                let message = match self.recall_fixes(turn, None) {
                    0 => "New fixes are stopped. Verification and undo go on.".to_owned(),
                    n => format!(
                        "New fixes are stopped. Verification and undo go on. Fixes ordered before: {n}. Those that no fixer has started are withdrawn, the others go on to their end."
                    ),
                };
                done(turn, None, &message);
            }
            Verb::Resume => {
                let why = format!("{by} allows new fixes again; the breaker is reset");
                self.record(turn, None, Fact::Resumed { by }, why);
                done(turn, None, "New fixes are allowed again.");
            }
            Verb::Silence { request } => self.silence(turn, request, &by),
            Verb::Unsilence { id } => self.unsilence(turn, id, by),
            Verb::Configure { config, text, parts } => {
                self.configure(turn, config, parts, text.as_ref(), by);
            }
            Verb::ConfigurePart { sha256, part } => self.stage(turn, sha256, part, by),
        }
        self.note_refusal(turn, command);
        self.settle(turn);
    }

    /// Records a command that was refused, so that the log tells who tried what.
    fn note_refusal(&mut self, turn: &mut Turn, command: &Command) {
        let Some(answer) = &turn.handled.answer else { return };
        let is_refused = matches!(answer.status, AnswerStatus::Refused | AnswerStatus::NotFound);
        // A file that is held has a fact of its own.
        let is_followed = matches!(
            &command.verb,
            Verb::Configure { text: Some(text), .. } if text.followed
        );
        if !is_refused || is_followed {
            return;
        }
        let id = answer.incident_id;
        let known = id.filter(|id| self.incidents.get(id).is_some());
        let about =
            id.filter(|_| known.is_none()).map_or_else(String::new, |id| format!(" ({id})"));
        let why = short_text(&format!("{}{about}", answer.message), REFUSAL_CHARS_MAX);
        let fact = Fact::CommandRefused {
            by: short_text(&command.by, BY_CHARS_MAX),
            verb: command.verb.as_str().to_owned(),
        };
        self.record(turn, known, fact, why);
    }

    /// Answers for an incident that is not there, or is over.
    fn known(&self, turn: &mut Turn, id: IncidentId) -> bool {
        match self.incidents.get(&id) {
            None => turn.answer(AnswerStatus::NotFound, Some(id), "There is no such incident."),
            Some(it) if it.is_over() => {
                let message = format!("The incident has ended: {}.", it.status().as_str());
                turn.answer(AnswerStatus::Refused, Some(id), &message);
            }
            Some(_) => return true,
        }
        false
    }

    fn approve(&mut self, turn: &mut Turn, id: IncidentId, plan_hash: &str, command: &Command) {
        if !self.known(turn, id) {
            return;
        }
        if self.expire_if_stale(turn, id) {
            let message = "The configuration has changed, so the plan is made anew.";
            return refused(turn, id, message);
        }
        let Some(Phase::AwaitingApproval { plan, expires_at, .. }) =
            self.incidents.get(&id).map(|it| &it.phase)
        else {
            return refused(turn, id, "The incident does not wait for an approval.");
        };
        if plan.hash() != plan_hash {
            let message = "The plan has changed since it was shown. Review it again.";
            return refused(turn, id, message);
        }
        if *expires_at <= turn.at {
            return refused(turn, id, "The approval has expired.");
        }
        // It may have waited long in the inbox.
        if let Standing::Ended(why) = self.standing(command.proof.as_ref(), turn.at) {
            let message = format!("{} may not approve: {why}.", command.by);
            return refused(turn, id, &message);
        }
        let (by, proof) = (command.by.clone(), command.proof.clone());
        let wanted = self.config.policy.approvals_of(&plan.runbook);
        let why = format!("{by} approved {plan}");
        let plan_hash = plan_hash.to_owned();
        if wanted < 2 {
            self.record(turn, Some(id), Fact::Approved { by, plan_hash, proof }, why);
            return done(turn, Some(id), "Approved.");
        }
        let n_given = match self.count_approval(id, &plan_hash, command) {
            Ok(n_given) => n_given,
            Err(why) => return refused(turn, id, why),
        };
        if n_given < wanted {
            let fact = Fact::ApprovalGiven { by, plan_hash, proof };
            self.record(turn, Some(id), fact, format!("{why} ({n_given} of {wanted})"));
            let message =
                format!("Approved by {n_given} of {wanted}; somebody else must approve it, too.");
            return done(turn, Some(id), &message);
        }
        let fact = Fact::Approved { by, plan_hash, proof };
        self.record(turn, Some(id), fact, format!("{why} ({n_given} of {wanted})"));
        done(turn, Some(id), "Approved.");
    }

    /// Returns how many people have approved a plan with this one, or why he does not count: who
    /// asked for it, or has approved it before, is nobody else.
    fn count_approval(
        &self,
        id: IncidentId,
        plan_hash: &str,
        command: &Command,
    ) -> Result<usize, &'static str> {
        let Some(incident) = self.incidents.get(&id) else { return Ok(1) };
        let who = person(&command.by, command.proof.as_ref());
        let given = incident.approvals_before.iter().filter(|it| it.plan_hash == *plan_hash);
        let given: Vec<String> = given.map(Approval::person).collect();
        if given.contains(&who) {
            return Err("You have approved this plan already; somebody else must approve it, too.");
        }
        let origin = incident.event.origin.as_ref().map(|it| it.name.as_str());
        let retried = incident.retried_by.as_deref().and_then(|it| it.split(" (").next());
        if [origin, retried].contains(&Some(who.as_str())) {
            return Err("You have asked for this; others must approve it.");
        }
        Ok(given.len() + 1)
    }

    fn reject(&mut self, turn: &mut Turn, id: IncidentId, reason: &str, by: &str) {
        if !self.known(turn, id) {
            return;
        }
        let waits = self.incidents.get(&id).is_some_and(|it| {
            matches!(it.phase, Phase::AwaitingApproval { .. } | Phase::Proposed { .. })
        });
        if !waits {
            return refused(turn, id, "The incident has no plan that waits.");
        }
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        self.escalate(turn, id, Escalation::Rejected, format!("{by} rejected the plan: {reason}"));
        done(turn, Some(id), "Rejected.");
    }

    fn close(&mut self, turn: &mut Turn, id: IncidentId, reason: &str, by: String) {
        if !self.known(turn, id) {
            return;
        }
        if self
            .incidents
            .get(&id)
            .is_some_and(|it| matches!(it.phase, Phase::Fixing { .. } | Phase::Undoing { .. }))
        {
            let message = "A fix is under way; it can be closed when the fixer has reported.";
            return refused(turn, id, message);
        }
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        let why = format!("closed by {by}: {reason}");
        self.record(turn, Some(id), Fact::Closed { by }, why);
        done(turn, Some(id), "Closed.");
    }

    fn retry(&mut self, turn: &mut Turn, id: IncidentId, by: String) {
        if !self.known(turn, id) {
            return;
        }
        let waits = self
            .incidents
            .get(&id)
            .is_some_and(|it| matches!(it.phase, Phase::Escalated(_) | Phase::RetryWaiting { .. }));
        if !waits {
            let message =
                "Only an incident that is escalated or waits for a retry can be tried again.";
            return refused(turn, id, message);
        }
        let why = format!("{by} wants it to be tried again");
        let incident = self.incidents.get(&id).filter(|it| it.target.is_none());
        let target = incident.and_then(|it| self.config.target_of(&it.event.event()));
        let target = target.map(|it| it.name.clone());
        self.record(turn, Some(id), Fact::Retried { by, target }, why);
        done(turn, Some(id), "The incident is diagnosed again.");
    }
}

/// Returns the incident that a command is about.
const fn incident_of(verb: &Verb) -> Option<IncidentId> {
    match verb {
        Verb::Approve { incident, .. }
        | Verb::Reject { incident, .. }
        | Verb::Acknowledge { incident }
        | Verb::Close { incident, .. }
        | Verb::Retry { incident } => Some(*incident),
        Verb::Pause { .. }
        | Verb::Resume
        | Verb::Silence { .. }
        | Verb::Unsilence { .. }
        | Verb::Configure { .. }
        | Verb::ConfigurePart { .. } => None,
    }
}

pub(super) fn done(turn: &mut Turn, id: Option<IncidentId>, message: &str) {
    turn.answer(AnswerStatus::Done, id, message);
}

fn refused(turn: &mut Turn, id: IncidentId, message: &str) {
    turn.answer(AnswerStatus::Refused, Some(id), message);
}
