//! Withdraws orders that must not begin any more: claims their attempts before a fixer does.

use bus::{Bus, InboxWriter};
use chrono::Utc;
use domain::{
    desk::{Before, Recall, Recorded},
    fact::Fact,
    view::Status,
    wire::{Claim, Envelope, FixMode, FixOutcome, FixReport, Input, InputKind, Refusal, WorkKind},
};
use service::Chain;
use tracing::{debug, info, warn};

use super::Reign;

impl Reign {
    /// Withdraws what was asked for in decisions that are stored by now.
    pub(super) async fn recall_recorded(&self, recorded: &[Recorded]) {
        let is_wanted = |it: &&Recorded| matches!(it.decision.fact, Fact::RecallRequested { .. });
        let ids: Vec<_> =
            recorded.iter().filter(is_wanted).filter_map(|it| it.decision.incident).collect();
        if ids.is_empty() {
            return;
        }
        let state = self.state.read().await;
        let wanted: Vec<_> =
            ids.into_iter().filter_map(|id| state.core.desk().recall(id)).collect();
        drop(state);
        self.recall(wanted);
    }

    /// Withdraws orders, beside everything else. What the broker does not settle now is tried
    /// again with all that is published again. As many as fixes are under way at one time.
    pub(super) fn recall(&self, wanted: Vec<Recall>) {
        for recall in wanted {
            let (bus, writer) = (self.bus.clone(), self.writer.clone());
            self.tasks.spawn(one(bus, writer, self.member_id.clone(), recall));
        }
    }
}

impl Reign {
    /// Lets the claims of incidents leave that were fixed and are over, beside everything else.
    pub(super) fn end_claims(&self, recorded: &[Recorded]) {
        let was_fixed = |it: &Before| it.has_left && 0 < it.attempt;
        let is_end = |it: &&Recorded| {
            it.status.is_some_and(Status::is_over) && it.before.as_ref().is_some_and(was_fixed)
        };
        let ids: Vec<_> =
            recorded.iter().filter(is_end).filter_map(|it| it.decision.incident).collect();
        if ids.is_empty() {
            return;
        }
        let (claims, by) = (self.bus.claims(), self.member_id.clone());
        self.tasks.spawn(async move {
            for id in ids {
                let claim_id = uuid::Uuid::new_v4().to_string();
                let last = Claim::new(claim_id, by.clone(), Utc::now(), String::new());
                if let Err(error) = claims.end(&id, &last).await {
                    debug!(incident.id = %id, error = %Chain(&error), "claims of an incident that is over leave by their age");
                }
            }
        });
    }
}

async fn one(bus: Bus, writer: InboxWriter, by: String, recall: Recall) {
    let Recall { work, claim_key, plan_hash } = recall;
    let id = uuid::Uuid::new_v4().to_string();
    let claim = Claim::new(id, by.clone(), Utc::now(), plan_hash);
    match bus.claims().recall(&work.incident, &claim_key, claim).await {
        Ok(None) => {}
        Ok(Some(first)) => {
            info!(incident.id = %work.incident, attempt = claim_key, claimed_by = first.claim.by, "a fix is under way already and is not withdrawn");
            return;
        }
        Err(error) => {
            warn!(incident.id = %work.incident, attempt = claim_key, error = %Chain(&error), "an order could not be withdrawn, tried again later");
            return;
        }
    }
    info!(incident.id = %work.incident, attempt = claim_key, "an order was withdrawn");
    let report_id = format!("{}/{by}", work.wish_id(WorkKind::Fix));
    let report = FixReport {
        work,
        mode: FixMode::Apply,
        outcome: FixOutcome::Refused {
            reason: format!("{by} withdrew it"),
            code: Refusal::Recalled,
        },
        by,
        steps: Vec::new(),
        undone: false,
        took_ms: 0,
    };
    let envelope = Envelope::new(report_id, Input::Fix(report));
    if let Err(error) = writer.submit(InputKind::Fix, envelope).await {
        warn!(incident.id = %work.incident, error = %Chain(&error), "that an order was withdrawn could not be stored, tried again later");
    }
}
