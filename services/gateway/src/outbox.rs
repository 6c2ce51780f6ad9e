//! Takes notices from the work queue, sends each once, and reports it.
//!
//! A notice is claimed before it is sent, as a fix is: of all gateways one sends it. When
//! that one is gone without a report, nobody knows whether it was sent; the way then says
//! whether it can find out, or do it again without harm ([`crate::notifiers`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus::{Bus, Claimed, InboxWriter, Job};
use chrono::Utc;
use domain::{
    notify::Receiver,
    trace::TraceContext,
    wire::{Claim, Envelope, Input, InputKind, Member, NoticeReport, NotifyWork, WorkKind},
};
use service::{
    BoxError, Chain, Context,
    trace::{Open, Role},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    in_force::InForce,
    letter::{Letter, presentable},
    notifiers::{self, Failure, Sent, Tools},
};

/// Notices under way at once. Their receivers limit them more; one that does not answer must
/// not keep the others waiting.
const IN_FLIGHT_MAX: usize = 16;

/// How long to wait before looking again at a notice that another gateway is sending.
const LOOK_AGAIN: Duration = Duration::from_secs(8);

/// How often to look. All attempts of the other one take less time than all looks together,
/// and the broker delivers a piece of work a few times more than this.
const LOOKS_MAX: u64 = 15;

/// Wait between tries of one claim.
const CLAIM_RETRY: Duration = Duration::from_secs(1);

/// Wait between tries of one report.
const REPORT_RETRY: Duration = Duration::from_secs(1);

/// Tries of one report; then the notice comes again, and is known by its claim.
const REPORT_TRIES_MAX: u32 = 300;

/// Tries of one report after this process was told to stop.
const LAST_TRIES: u32 = 3;

/// Sends what the supervisor wants sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    bus: Bus,
    writer: InboxWriter,
    zones: Vec<String>,
    by: String,
    stop: CancellationToken,
    tools: Tools,
    in_force: InForce,
    members: watch::Receiver<BTreeMap<String, Member>>,
}

/// What becomes of a notice for one receiver.
enum Fate {
    Sent(Sent),
    Failed(Failure),
    /// Not ours to say yet.
    Later,
}

impl Outbox {
    /// Prepares the ways.
    pub(crate) fn new<A>(
        cx: &Context<A>,
        writer: InboxWriter,
        in_force: InForce,
    ) -> Result<Self, BoxError> {
        Ok(Self {
            bus: cx.bus.clone(),
            writer,
            zones: cx.zones.clone(),
            by: cx.member_id.clone(),
            stop: cx.stop.clone(),
            tools: Tools::new(&cx.outgoing)?,
            in_force,
            members: cx.bus.members().watch(),
        })
    }

    /// Works until told to stop.
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let mut queue = self.bus.work().consume(WorkKind::Notify, &self.zones, IN_FLIGHT_MAX);
        let jobs = TaskTracker::new();
        let this = Arc::new(self);
        while let Some(job) = this.stop.run_until_cancelled(queue.next()).await {
            let this = Arc::clone(&this);
            jobs.spawn(async move { this.handle(job).await });
        }
        jobs.close();
        jobs.wait().await;
        Ok(())
    }

    async fn handle(&self, job: Job) {
        let work: NotifyWork = match serde_json::from_slice(&job.payload) {
            Ok(work) => work,
            Err(error) => {
                // Only supervisors can write here: a newer one did, and gateways of its
                // version can read it.
                warn!(error = %Chain(&error), "a notice cannot be read, it is left to other gateways");
                return job.nak(LOOK_AGAIN).await;
            }
        };
        let work = presentable(work, &self.in_force.redactor());
        let still_here = job.keep_alive();
        let mut span = Open::below(job.trace, "notify", Role::Consumer);
        let told = self.tell_all(&work, job.deliveries).await;
        let reported = match told {
            Some(report) => {
                if let Err(reason) = &report.outcome {
                    span.fail(reason.clone());
                }
                self.report(&work, report, span.context()).await
            }
            None => false,
        };
        // Before the last word: a sign of life after it would put the next delivery off.
        drop(still_here);
        if reported { job.ack().await } else { job.nak(LOOK_AGAIN).await }
    }

    /// Tells all for whom the notice is, and returns the report; `None` when it is too soon.
    async fn tell_all(&self, work: &NotifyWork, n_deliveries: u64) -> Option<NoticeReport> {
        let notify = self.in_force.notify();
        let (mut sent, mut failed) = (Vec::new(), Vec::new());
        let (mut again, mut keep) = (true, None);
        let receivers = receivers(work);
        for to in &receivers {
            let letter = Letter::new(work, to, &notify);
            let fate = self.tell(letter, n_deliveries).await;
            let outcome = match fate {
                Fate::Sent(it) => {
                    keep = it.keep;
                    Ok(it.told)
                }
                Fate::Failed(it) => {
                    keep = it.keep;
                    again &= it.again;
                    Err(it.reason)
                }
                Fate::Later => return None,
            };
            let way = notifiers::name_of(to);
            let ok = if outcome.is_ok() { "true" } else { "false" };
            metrics::counter!("selfheal_gateway_notices_total", "ok" => ok).increment(1);
            let id = work.work.incident;
            match outcome {
                Ok(told) => {
                    info!(incident.id = %id, notice = work.notice, receiver = to.name, way, told, "notice sent");
                    sent.push(format!("{way}: {told}"));
                }
                Err(reason) => {
                    warn!(incident.id = %id, notice = work.notice, receiver = to.name, way, reason, "notice not sent");
                    failed.push(format!("{way}: {reason}"));
                }
            }
        }
        let outcome = match (sent.is_empty(), failed.is_empty()) {
            (false, true) => Ok(sent.join("; ")),
            (true, true) => Err("no receiver is configured".to_owned()),
            (true, false) => Err(failed.join("; ")),
            (false, false) => {
                Err(format!("{} (but sent to {})", failed.join("; "), sent.join("; ")))
            }
        };
        let (by, notice) = (self.by.clone(), work.notice.clone());
        // One receiver of several would be told twice.
        let again = again && outcome.is_err() && receivers.len() == 1;
        Some(NoticeReport { work: work.work, notice, by, outcome, again, keep })
    }

    /// Claims the notice and sends it.
    async fn tell(&self, mut letter: Letter<'_>, n_deliveries: u64) -> Fate {
        let claim = Claim::new(
            Uuid::new_v4().to_string(),
            self.by.clone(),
            Utc::now(),
            letter.work.notice.clone(),
        );
        let key = letter.claim_key();
        let claimed = loop {
            match self.bus.claims().claim_once(&key, &claim).await {
                Ok(claimed) => break claimed,
                Err(error) => {
                    warn!(incident.id = %letter.incident(), notice = letter.work.notice, error = %Chain(&error), "a notice could not be claimed, trying again");
                }
            }
            // A claim that may have been stored is settled here, under its id, or by nobody.
            if self.stop.is_cancelled() {
                return Fate::Later;
            }
            sleep(CLAIM_RETRY).await;
        };
        match claimed {
            Claimed::Won => {}
            Claimed::Lost(holder) => {
                if self.lives(&holder.by) && n_deliveries < LOOKS_MAX {
                    return Fate::Later;
                }
                letter.in_doubt = true;
                let id = letter.incident();
                warn!(incident.id = %id, notice = letter.work.notice, claimed_by = holder.by, "a gateway is gone that was about to send a notice");
            }
        }
        match notifiers::deliver(&self.tools, &letter).await {
            Ok(sent) => Fate::Sent(sent),
            Err(failure) => Fate::Failed(failure),
        }
    }

    /// Tells whether a gateway lives. While we do not see ourselves, we see nothing.
    fn lives(&self, who: &str) -> bool {
        let members = self.members.borrow();
        members.contains_key(who) || !members.contains_key(&self.by)
    }

    /// Stores a report, trying until it is accepted: it is the only word about what was sent.
    async fn report(
        &self,
        work: &NotifyWork,
        report: NoticeReport,
        trace: Option<TraceContext>,
    ) -> bool {
        let id = format!("notice/{}/{}", work.work.wish_id(WorkKind::Notify), work.notice);
        let mut n_last_tries = 0;
        for _ in 0..REPORT_TRIES_MAX {
            let envelope = Envelope::new(id.clone(), Input::Notice(report.clone())).traced(trace);
            match self.writer.submit(InputKind::Notice, envelope).await {
                Ok(_) => return true,
                Err(error) => {
                    warn!(error = %Chain(&error), "the report of a notice was not taken, tried again");
                }
            }
            if self.stop.is_cancelled() {
                n_last_tries += 1;
                if LAST_TRIES <= n_last_tries {
                    return false;
                }
            }
            sleep(REPORT_RETRY).await;
        }
        false
    }
}

/// Returns for whom a notice is; a supervisor that knows no receivers names ways.
fn receivers(work: &NotifyWork) -> Vec<Receiver> {
    match &work.receiver {
        Some(to) => vec![(**to).clone()],
        None => work.to.iter().enumerate().map(|(n, it)| Receiver::older(n, it)).collect(),
    }
}
