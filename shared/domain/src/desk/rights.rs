//! Whether who approved a plan may still approve it when it is about to be carried out.
//!
//! Receivers and users of Slack stand in the configuration. Tokens of callers do not: the
//! shell tells which there are before a decision. They are no part of the state. What was
//! decided with them is a fact, so whoever folds the ledger need not know them.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::Desk;
use crate::{
    access::{Proof, Role, Scope, TokenRecord, TokenState, token_id},
    guard::Standing,
    incident::{Approval, Incident},
    plan::Plan,
    target::Target,
    wire::{Command, Verb},
};

/// What is kept of the tokens of callers, by name.
pub type Tokens = BTreeMap<String, TokenRecord>;

/// The tokens as they are known now; `None` while they are not.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights(Option<Arc<Tokens>>);

/// Two desks that know other tokens have decided the same.
impl PartialEq for Rights {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Desk {
    /// Tells which tokens there are, for the next decisions; `None` while nobody knows.
    pub fn know_tokens(&mut self, tokens: Option<Arc<Tokens>>) {
        self.rights = Rights(tokens);
    }

    /// Returns whether all who approved the plan of an incident may still approve it.
    pub(super) fn standing_of_all(
        &self,
        incident: &Incident,
        target: &Target,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Standing {
        let all = incident.approvals_before.iter().chain(&incident.approval);
        let of = |it: &Approval| match self.standing(it.proof.as_ref(), now) {
            Standing::Stands => match self.scope_of(it.proof.as_ref()) {
                Some(scope) => scope
                    .refuses(Some(target), Some(plan))
                    .map_or(Standing::Stands, Standing::Ended),
                None => Standing::Stands,
            },
            other @ (Standing::Ended(_) | Standing::NotKnown(_)) => other,
        };
        all.map(of).find(|it| *it != Standing::Stands).unwrap_or(Standing::Stands)
    }

    /// Returns why a command is out of the scope of the token that it was given with.
    pub(super) fn out_of_scope(&self, command: &Command) -> Option<String> {
        let scope = self.scope_of(command.proof.as_ref())?;
        let (incident, is_approval) = match &command.verb {
            Verb::Approve { incident, .. } => (incident, true),
            Verb::Reject { incident, .. }
            | Verb::Acknowledge { incident }
            | Verb::Close { incident, .. }
            | Verb::Retry { incident } => (incident, false),
            Verb::Pause { .. }
            | Verb::Resume
            | Verb::Silence { .. }
            | Verb::Unsilence { .. }
            | Verb::Configure { .. }
            | Verb::ConfigurePart { .. } => return Some(scope.refuses_all()),
        };
        let incident = self.incidents.get(incident)?;
        let target = incident.target.as_deref().and_then(|it| self.config.target(it));
        scope.refuses(target, incident.plan().filter(|_| is_approval))
    }

    /// Returns what the token is limited to that somebody has proved himself with.
    fn scope_of(&self, proof: Option<&Proof>) -> Option<&Scope> {
        let Some(Proof::Token { name, id }) = proof else { return None };
        let record = self.rights.0.as_ref()?.get(name)?;
        record.scope.as_ref().filter(|_| token_id(&record.hash) == *id)
    }

    /// Returns whether somebody who proved in this way who he is may approve now.
    pub(super) fn standing(&self, proof: Option<&Proof>, now: DateTime<Utc>) -> Standing {
        let ended = |why: &str| Standing::Ended(why.to_owned());
        match proof {
            Some(Proof::Token { name, id }) => self.standing_of_token(name, id, now),
            Some(Proof::Provider { issuer }) => {
                // Which groups he is in only his token told.
                let oidc = self.config.access.oidc.as_ref();
                match oidc.is_some_and(|it| it.issuer == *issuer) {
                    true => Standing::Stands,
                    false => ended("tokens of their provider are no longer accepted"),
                }
            }
            Some(Proof::Slack { user }) => {
                let app = self.config.people().slack.as_ref();
                match app.is_some_and(|it| it.approvers.contains(user)) {
                    true => Standing::Stands,
                    false => ended("they are no longer among notify.slack.approvers"),
                }
            }
            Some(Proof::Link { to }) => {
                let people = self.config.people();
                let has_secret = people.link_secret.is_some();
                match people.receiver(to).filter(|_| has_secret) {
                    Some(to) if people.decides_by_link(to) => Standing::Stands,
                    Some(_) => ended("links to their receiver no longer permit to decide"),
                    None => ended("the receiver of their link is no longer configured"),
                }
            }
            Some(Proof::Unknown) => ended("this version does not know how they were authenticated"),
            // Older versions do not say it; what is behind the others is not known here.
            None | Some(Proof::ApiToken | Proof::Host | Proof::Broker) => Standing::Stands,
        }
    }

    fn standing_of_token(&self, name: &str, id: &str, now: DateTime<Utc>) -> Standing {
        let Some(tokens) = &self.rights.0 else {
            return Standing::NotKnown("it is not known which tokens count now".to_owned());
        };
        // The name may be that of another token by now.
        let record = tokens.get(name).filter(|it| token_id(&it.hash) == id);
        let why = match record.map(|it| (it.state(now), it.role)) {
            Some((TokenState::Valid, role)) if role.covers(Role::Approver) => {
                return Standing::Stands;
            }
            Some((TokenState::Valid, role)) => format!("their token only has the role {role} now"),
            Some((TokenState::Expired, _)) => "their token has expired".to_owned(),
            Some((TokenState::Revoked, _)) => "their token was revoked".to_owned(),
            None => "their token no longer exists".to_owned(),
        };
        Standing::Ended(why)
    }
}
