//! Withdraws orders that must not begin any more: claims their attempts before a fixer does.

use std::time::Duration;

use bus::{Bus, InboxWriter};
use chrono::Utc;
use domain::{
    desk::{Before, Recall, Recorded},
    fact::Fact,
    view::Status,
    wire::{Claim, Envelope, Input, InputKind, WorkKind, WorkRef},
};
use service::Chain;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::Reign;
use crate::withdrawal::{self, Outlook};

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
            let one = one(bus, writer, self.member_id.clone(), recall);
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(one));
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

/// For how long one order is looked at. Then it is with all that is published again.
const TRY_FOR: Duration = Duration::from_secs(25);

async fn one(bus: Bus, writer: InboxWriter, by: String, recall: Recall) {
    let Recall { work, claim_key, plan_hash } = recall;
    let claim = || {
        let id = uuid::Uuid::new_v4().to_string();
        Claim::new(id, by.clone(), Utc::now(), plan_hash.clone())
    };
    let give_up = Instant::now() + TRY_FOR;
    let report = loop {
        match next(&bus, &work, &claim_key, claim).await {
            Ok(Outlook::Withdrawn) => {
                info!(incident.id = %work.incident, attempt = claim_key, "an order was withdrawn");
                break withdrawal::withdrawn(work, &by);
            }
            Ok(Outlook::Ended(reason)) => {
                warn!(incident.id = %work.incident, attempt = claim_key, reason, "a fix that was under way is given up");
                break withdrawal::ended(work, &by, reason);
            }
            // Somebody was first, and this is looked at anew.
            Ok(Outlook::Replace(_)) => {}
            Ok(Outlook::Wait(wait)) => {
                debug!(incident.id = %work.incident, attempt = claim_key, "a fix is under way already and is not withdrawn");
                if give_up <= Instant::now() + wait {
                    return;
                }
                sleep(wait).await;
            }
            Err(error) => {
                warn!(incident.id = %work.incident, attempt = claim_key, error = %Chain(&error), "an order could not be withdrawn, tried again later");
                return;
            }
        }
    };
    let report_id = format!("{}/{by}", work.wish_id(WorkKind::Fix));
    let envelope = Envelope::new(report_id, Input::Fix(report));
    if let Err(error) = writer.submit(InputKind::Fix, envelope).await {
        warn!(incident.id = %work.incident, error = %Chain(&error), "what became of an order could not be stored, tried again later");
    }
}

/// Withdraws an order, or says what is to be done about whoever has claimed it. What replaces a
/// claim is written here.
async fn next(
    bus: &Bus,
    work: &WorkRef,
    key: &str,
    claim: impl Fn() -> Claim,
) -> Result<Outlook, bus::Error> {
    let claims = bus.claims();
    let Some(record) = claims.recall(&work.incident, key, claim()).await? else {
        return Ok(Outlook::Withdrawn);
    };
    let clock = bus.clock().await?;
    let outlook = withdrawal::outlook(&record, clock.earliest());
    if let Outlook::Replace(left) = outlook {
        let last = withdrawal::replacement(claim(), left);
        if claims.take_over(&work.incident, key, &record, &last).await? {
            info!(incident.id = %work.incident, attempt = key, claimed_by = record.claim.by, ?left, "a fixer that is silent begins no further step");
            return Ok(Outlook::Wait(left));
        }
    }
    Ok(outlook)
}
