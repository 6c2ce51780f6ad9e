//! One target under watch: all its checks, in one task.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::Utc;
use domain::{
    check::Check,
    event::{EventType, Status},
    target::Target,
};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tracing::debug;

use crate::{
    condition::Condition,
    instruments::Instruments,
    judge::{Health, Judge},
    probes::{self, Follower, Question, Seen},
    report::{Change, Report},
};

/// Samples that wait to be judged; a full queue makes probes wait.
const SAMPLES_WAITING: usize = 16;

/// What others tell about the target.
#[derive(Clone, Debug)]
pub enum Note {
    /// An incident of this type is over.
    Over {
        /// Type of the event that had opened it.
        kind: String,
    },
    /// These incidents were open.
    Open {
        /// When somebody asked.
        asked_at: Instant,
        /// Types of those that a monitor has opened.
        by_monitors: BTreeSet<String>,
        /// Types of all.
        all: BTreeSet<String>,
    },
}

/// What is known about a target, for others in this process.
#[derive(Debug, Default)]
pub struct Standing {
    reported: Mutex<BTreeMap<EventType, Status>>,
    checks: Mutex<BTreeMap<String, Health>>,
}

impl Standing {
    /// Returns whether some trouble was reported and not yet taken back.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.reported().values().any(|status| *status == Status::Firing)
    }

    /// Returns whether a check counts as failed.
    #[must_use]
    pub fn is_sick(&self, check: &str) -> bool {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.get(check) == Some(&Health::Sick)
    }

    /// Returns whether a check counts as passed.
    #[must_use]
    pub fn is_well(&self, check: &str) -> bool {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.get(check) == Some(&Health::Well)
    }

    fn reported(&self) -> std::sync::MutexGuard<'_, BTreeMap<EventType, Status>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watch needs.
#[derive(Clone, Debug)]
pub struct Post {
    /// Who watches.
    pub member: Arc<str>,
    /// What all probes share.
    pub instruments: Instruments,
    /// Takes the changes.
    pub reports: mpsc::Sender<Report>,
    /// Numbers the changes of this process.
    pub n_changes: Arc<AtomicU64>,
}

/// Watches a target until dropped.
///
/// `standing` tells what was reported before, and is kept up to date.
pub async fn watch(
    post: Post,
    target: Arc<Target>,
    standing: Arc<Standing>,
    notes: mpsc::Receiver<Note>,
) {
    Watch::new(post, target, standing).run(notes).await;
}

struct Watch {
    post: Post,
    target: Arc<Target>,
    standing: Arc<Standing>,
    checks: Vec<Check>,
    hurries: Vec<Arc<Notify>>,
    conditions: Vec<Condition>,
}

/// A report that was stored: of this condition, with this status. `None` when nobody
/// takes reports any more.
type Sent = Option<(usize, Status)>;

impl Watch {
    fn new(post: Post, target: Arc<Target>, standing: Arc<Standing>) -> Self {
        let checks = target.all_checks();
        let mut judges: BTreeMap<EventType, BTreeMap<usize, Judge>> = BTreeMap::new();
        for (idx, check) in checks.iter().enumerate() {
            let judge = Judge::new(check.fail_after, check.pass_after);
            judges.entry(check.event_type()).or_default().insert(idx, judge);
        }
        let reported = standing.reported().clone();
        let conditions = judges.into_iter().map(|(kind, judges)| {
            let before = reported.get(&kind).copied();
            Condition::new(kind, judges, before)
        });
        let conditions = conditions.collect();
        let hurries = checks.iter().map(|_| Arc::default()).collect();
        Self { post, target, standing, checks, hurries, conditions }
    }

    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let (samples, mut seen) = mpsc::channel(SAMPLES_WAITING);
        let mut followers: FuturesUnordered<BoxFuture<'static, ()>> = self.followers(&samples);
        let mut sending: FuturesUnordered<BoxFuture<'static, Sent>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                // In this order: what was stored counts before what followed from it, such
                // as the end of the incident that it had opened.
                biased;
                Some(seen) = seen.recv() => self.take(seen),
                Some(sent) = sending.next() => {
                    let Some((condition_idx, status)) = sent else { return };
                    self.sent(condition_idx, status);
                }
                note = notes.recv() => match note {
                    Some(note) => self.heed(&note),
                    None => return,
                },
                // They never end; waiting for them is what runs them.
                Some(()) = followers.next() => {}
            }
            self.report(&sending);
        }
    }

    fn followers(&self, samples: &mpsc::Sender<Seen>) -> FuturesUnordered<BoxFuture<'static, ()>> {
        let checks = self.checks.iter().zip(&self.hurries).enumerate();
        let followers = checks.map(|(check_idx, (check, hurry))| {
            let question = Question {
                target: Arc::clone(&self.target),
                check: check.clone(),
                instruments: self.post.instruments.clone(),
            };
            let (samples, hurry) = (samples.clone(), Arc::clone(hurry));
            probes::follow(Arc::new(question), Follower { check_idx, samples, hurry })
        });
        followers.collect()
    }

    fn hurry(&self, checks: impl IntoIterator<Item = usize>) {
        checks.into_iter().filter_map(|idx| self.hurries.get(idx)).for_each(|it| it.notify_one());
    }

    fn take(&mut self, seen: Seen) {
        let Seen { check_idx, sample } = seen;
        let Some(condition) = self.conditions.iter_mut().find(|it| it.has(check_idx)) else {
            return;
        };
        let before = condition.health_of(check_idx);
        let taken = condition.take(check_idx, sample);
        let after = condition.health_of(check_idx);
        let doubted: Vec<usize> =
            if taken.recovering { condition.doubted().collect() } else { Vec::new() };
        if before != after
            && let Some(check) = self.checks.get(check_idx)
        {
            let name = &self.target.name;
            debug!(target = %name, check = check.label(), health = ?after, "check has changed");
            let mut checks = self.standing.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.insert(check.label(), after);
        }
        self.hurry(doubted);
    }

    fn heed(&mut self, note: &Note) {
        let mut wanted = Vec::new();
        for condition in &mut self.conditions {
            let kind = condition.kind().clone();
            let kind = kind.as_str();
            let look_again = match note {
                Note::Over { kind: over } => {
                    over == kind && condition.incident_is_over(Instant::now())
                }
                Note::Open { asked_at, by_monitors, all } => {
                    if by_monitors.contains(kind) {
                        condition.incident_is_open();
                    }
                    !all.contains(kind) && condition.incident_is_absent(*asked_at)
                }
            };
            if look_again {
                wanted.extend(condition.checks());
            }
        }
        self.remember();
        self.hurry(wanted);
    }

    fn sent(&mut self, condition_idx: usize, status: Status) {
        if let Some(condition) = self.conditions.get_mut(condition_idx) {
            condition.sent(status);
        }
        self.remember();
    }

    /// Tells others what was reported; a watch that follows this one begins there.
    fn remember(&self) {
        let mut reported = self.standing.reported();
        for condition in &self.conditions {
            match condition.reported() {
                Some(status) => drop(reported.insert(condition.kind().clone(), status)),
                None => drop(reported.remove(condition.kind())),
            }
        }
    }

    fn report(&mut self, sending: &FuturesUnordered<BoxFuture<'static, Sent>>) {
        let now = Instant::now();
        for condition_idx in 0..self.conditions.len() {
            let Some(condition) = self.conditions.get(condition_idx) else { continue };
            let Some(status) = condition.due(now) else { continue };
            let Some(change) = self.change(condition, status) else { continue };
            if let Some(condition) = self.conditions.get_mut(condition_idx) {
                condition.sending();
            }
            let (reports, instruments) = (self.post.reports.clone(), self.post.instruments.clone());
            sending.push(Box::pin(async move {
                let event = change.into_event(&instruments).await;
                let (stored, answer) = oneshot::channel();
                reports.send(Report { event, stored }).await.ok()?;
                answer.await.ok()?;
                Some((condition_idx, status))
            }));
        }
    }

    fn change(&self, condition: &Condition, status: Status) -> Option<Change> {
        // A recovery that only an incident told of has no culprit: any check can tell.
        let told = condition.culprit().or_else(|| condition.any());
        let (check_idx, judge) = told?;
        let sample = judge.last()?.clone();
        let n = self.post.n_changes.fetch_add(1, Ordering::Relaxed);
        let since = judge.first_failed().map_or(sample.begun.utc, |first| first.begun.utc);
        Some(Change {
            id: format!("{}-{}-{n}", self.post.member, Utc::now().timestamp_millis()),
            by: Arc::clone(&self.post.member),
            target: Arc::clone(&self.target),
            kind: condition.kind().clone(),
            status,
            check: self.checks.get(check_idx)?.clone(),
            n_samples: judge.n_failed().max(1),
            sample,
            since,
            seen_well: judge.has_seen_well(),
        })
    }
}
