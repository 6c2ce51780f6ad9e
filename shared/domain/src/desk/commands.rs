//! What commands of people do. Each is answered, also when it is refused.

use super::{Desk, Turn};
use crate::{
    event::short_text,
    fact::{Escalation, Fact},
    guard::Standing,
    id::IncidentId,
    incident::Phase,
    wire::{AnswerStatus, Command, Verb},
};

/// Longest reason of a refusal, and longest name of who was refused.
const REFUSAL_CHARS_MAX: usize = 400;
const BY_CHARS_MAX: usize = 200;

impl Desk {
    pub(super) fn on_command(&mut self, turn: &mut Turn, command: &Command) {
        let by = command.by.clone();
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
        let why = format!("{} approved {plan}", command.by);
        let fact = Fact::Approved {
            by: command.by.clone(),
            plan_hash: plan_hash.to_owned(),
            proof: command.proof.clone(),
        };
        self.record(turn, Some(id), fact, why);
        done(turn, Some(id), "Approved.");
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

pub(super) fn done(turn: &mut Turn, id: Option<IncidentId>, message: &str) {
    turn.answer(AnswerStatus::Done, id, message);
}

fn refused(turn: &mut Turn, id: IncidentId, message: &str) {
    turn.answer(AnswerStatus::Refused, Some(id), message);
}
