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
    event::{EventType, Status},
    target::Target,
};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use crate::{
    instruments::Instruments,
    judge::Health,
    probes::{self, Follower, Question, Seen},
    report::Report,
    vigil::Vigil,
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

    pub(crate) fn note(&self, check: String, health: Health) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(check, health);
    }

    pub(crate) fn reported(&self) -> std::sync::MutexGuard<'_, BTreeMap<EventType, Status>> {
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
    vigil: Vigil,
    hurries: Vec<Arc<Notify>>,
}

/// A report that was stored: of this condition, with this status. `None` when nobody
/// takes reports any more.
type Sent = Option<(usize, Status)>;

impl Watch {
    fn new(post: Post, target: Arc<Target>, standing: Arc<Standing>) -> Self {
        let vigil = Vigil::new(Arc::clone(&post.member), Arc::clone(&target), standing);
        let hurries = vigil.checks().iter().map(|_| Arc::default()).collect();
        Self { post, target, vigil, hurries }
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
                Some(Seen { check_idx, sample }) = seen.recv() => {
                    let doubted = self.vigil.take(check_idx, sample);
                    self.hurry(doubted);
                }
                Some(sent) = sending.next() => {
                    let Some((condition_idx, status)) = sent else { return };
                    self.vigil.sent(condition_idx, status, Instant::now());
                }
                note = notes.recv() => match note {
                    Some(note) => {
                        let wanted = self.vigil.heed(&note, Instant::now());
                        self.hurry(wanted);
                    }
                    None => return,
                },
                // They never end; waiting for them is what runs them.
                Some(()) = followers.next() => {}
            }
            self.report(&sending);
        }
    }

    fn followers(&self, samples: &mpsc::Sender<Seen>) -> FuturesUnordered<BoxFuture<'static, ()>> {
        let checks = self.vigil.checks().iter().zip(&self.hurries).enumerate();
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

    fn report(&mut self, sending: &FuturesUnordered<BoxFuture<'static, Sent>>) {
        let (member, n_changes) = (Arc::clone(&self.post.member), &self.post.n_changes);
        let id = || {
            let n = n_changes.fetch_add(1, Ordering::Relaxed);
            format!("{member}-{}-{n}", Utc::now().timestamp_millis())
        };
        for (condition_idx, change) in self.vigil.due(Instant::now(), id) {
            let status = change.status;
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
}
