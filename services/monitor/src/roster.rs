//! Which targets are watched here, as the configuration and the living monitors change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use domain::{config::Config, target::Target, wire::Member};
use host::process::Configured;
use tokio::sync::mpsc;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{error, info, warn};

use crate::{
    known::Known,
    share,
    watch::{self, Note, Post, Standing},
};

/// Notes that wait for a target; one that is lost is made good by the next look at all
/// open incidents.
const NOTES_WAITING: usize = 64;

/// The kind of members that share targets.
const KIND: &str = "monitor";

/// The targets that are watched here.
#[derive(Debug)]
pub struct Roster {
    member: Arc<str>,
    zones: Vec<String>,
    post: Post,
    tasks: TaskTracker,
    running: HashMap<String, Running>,
    configured: Vec<Arc<Target>>,
    revision: u64,
    /// Living monitors with their zones.
    monitors: BTreeMap<String, Vec<String>>,
    standings: Standings,
    known: Known,
    /// What was told not to be allowed here: target and check or log.
    denied: BTreeSet<(String, String)>,
}

/// What is known about the targets that are watched here.
pub type Standings = Arc<std::sync::RwLock<HashMap<String, Arc<Standing>>>>;

#[derive(Debug)]
struct Running {
    target: Arc<Target>,
    notes: mpsc::Sender<Note>,
    standing: Arc<Standing>,
    _stop: DropGuard,
}

impl Roster {
    /// Begins with nothing.
    #[must_use]
    pub fn new(post: Post, zones: Vec<String>, tasks: TaskTracker) -> Self {
        Self {
            member: Arc::clone(&post.member),
            zones,
            post,
            tasks,
            running: HashMap::new(),
            configured: Vec::new(),
            revision: 0,
            monitors: BTreeMap::new(),
            standings: Standings::default(),
            known: Known::default(),
            denied: BTreeSet::new(),
        }
    }

    /// Returns what is known about the targets, kept up to date.
    #[must_use]
    pub fn standings(&self) -> Standings {
        Arc::clone(&self.standings)
    }

    /// Returns what is configured, kept up to date.
    #[must_use]
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Takes a configuration. One that cannot be read changes nothing.
    pub fn configure(&mut self, revision: u64, config: &Bytes) -> bool {
        let config: Config = match serde_json::from_slice(config) {
            Ok(config) => config,
            Err(error) => {
                error!(revision, %error, "configuration cannot be read, the former one stays");
                return false;
            }
        };
        self.post.instruments.processes.configure(Configured::of(&config.targets));
        let all: Vec<Arc<Target>> = config.targets.into_iter().map(Arc::new).collect();
        self.known.set(&all);
        let ours = all.into_iter().filter(|target| self.zones.contains(&target.zone));
        self.configured = ours.collect();
        self.revision = revision;
        self.tell_denied();
        self.assign()
    }

    /// Tells once of each check and log that this monitor's own list does not allow.
    fn tell_denied(&mut self) {
        let instruments = &self.post.instruments;
        for target in &self.configured {
            for check in target.all_checks() {
                let Err(reason) = instruments.allow().permits(&check) else { continue };
                let label = check.label();
                if self.denied.insert((target.name.clone(), label.clone())) {
                    warn!(
                        target.name = target.name,
                        check = label,
                        reason,
                        "a check is not asked here: this monitor's own list does not allow it"
                    );
                }
            }
            let Some(log) = instruments.processes.unreadable_log(target) else { continue };
            let log = log.display().to_string();
            if self.denied.insert((target.name.clone(), log.clone())) {
                let hint = "add its directory to `reads` in the file of --allow-file (SELFHEAL_MONITOR_ALLOW_FILE)";
                warn!(
                    target.name = target.name,
                    log, hint, "a log is not read here: this monitor's own list does not allow it"
                );
            }
        }
    }

    /// Takes the list of living members.
    pub fn members(&mut self, members: &BTreeMap<String, Member>) -> bool {
        // A list without us is older than our entry, or the broker has just forgotten
        // everybody: no reason to hand over anything.
        if !members.contains_key(&*self.member) {
            return false;
        }
        let monitors = members.values().filter(|member| member.kind == KIND);
        let monitors = monitors.map(|member| (member.id.clone(), member.zones.clone())).collect();
        if monitors == self.monitors {
            return false;
        }
        self.monitors = monitors;
        self.assign()
    }

    fn is_ours(&self, target: &Target) -> bool {
        let of_zone = self.monitors.iter().filter(|(_, zones)| zones.contains(&target.zone));
        let owner = share::owner(&target.name, of_zone.map(|(id, _)| id.as_str()));
        owner == Some(&*self.member)
    }

    /// Starts and stops what is needed. Returns whether a target was added.
    fn assign(&mut self) -> bool {
        let wanted: HashMap<String, Arc<Target>> = self
            .configured
            .iter()
            .filter(|target| self.is_ours(target))
            .map(|target| (target.name.clone(), Arc::clone(target)))
            .collect();
        let n_before = self.running.len();
        self.running.retain(|name, _| wanted.contains_key(name));
        let n_dropped = n_before - self.running.len();
        let mut n_added = 0;
        for (name, target) in wanted {
            let former = self.running.remove(&name);
            let running = match former {
                Some(running) if running.target == target => running,
                // What was said before is still said, however the target is looked at now.
                Some(former) => self.start(target, former.standing),
                None => {
                    n_added += 1;
                    self.start(target, Arc::default())
                }
            };
            self.running.insert(name, running);
        }
        self.publish();
        if 0 < n_added + n_dropped {
            info!(
                n_targets = self.running.len(),
                n_added,
                n_dropped,
                n_monitors = self.monitors.len(),
                revision = self.revision,
                "watching other targets now"
            );
        }
        0 < n_added
    }

    fn start(&self, target: Arc<Target>, standing: Arc<Standing>) -> Running {
        let (notes, inbox) = mpsc::channel(NOTES_WAITING);
        let stop = CancellationToken::new();
        let work =
            watch::watch(self.post.clone(), Arc::clone(&target), Arc::clone(&standing), inbox);
        let watched = stop.clone();
        self.tasks.spawn(async move {
            watched.run_until_cancelled(work).await;
        });
        Running { target, notes, standing, _stop: stop.drop_guard() }
    }

    fn publish(&self) {
        let standings = self.running.iter().map(|(name, it)| (name.clone(), it.standing.clone()));
        let mut shared = self.standings.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *shared = standings.collect();
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many targets")]
        metrics::gauge!("selfheal_targets_watched").set(self.running.len() as f64);
    }

    /// Returns whether trouble was reported that has not been taken back.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.running.values().any(|it| it.standing.is_firing())
    }

    /// Passes a note to the watch of a target, if it is here.
    pub fn tell(&self, target: &str, note: Note) {
        if let Some(running) = self.running.get(target)
            && let Err(error) = running.notes.try_send(note)
        {
            warn!(target, %error, "a target's watch is too busy to be told something");
        }
    }

    /// Returns the names of the targets that are watched here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }
}
