//! All processes looked through at once, for those that carry the name of a target.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{Living, Stat, identity};

/// A result so young answers the next question too: when many targets are dead, or one is
/// asked for in several ways, they share one scan. What it found is looked at again.
const AGE_MAX: Duration = Duration::from_millis(20);

/// Looks through all processes, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Scanner(Mutex<Option<(Instant, HashMap<String, Living>)>>);

impl Scanner {
    /// Returns the oldest living leader of a process group that carries the target's name
    /// and this state directory. Those who ask at the same time wait for one scan.
    ///
    /// Its children carry both as well, but lead no group. Another installation on this
    /// host may have a target of the same name, but not the same directory.
    pub(super) fn find(&self, name: &str, state_dir: &Path) -> Option<Living> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.take().filter(|(begun, _)| begun.elapsed() <= AGE_MAX);
        let (begun, found) = fresh.unwrap_or_else(|| (Instant::now(), scan(state_dir)));
        let living = found.get(name).filter(|living| living.still_runs()).cloned();
        *last = Some((begun, found));
        living
    }
}

fn scan(state_dir: &Path) -> HashMap<String, Living> {
    let mut found: HashMap<String, Living> = HashMap::new();
    let Ok(state_dir) = std::path::absolute(state_dir) else { return found };
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids =
        entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    for pid in pids {
        let Some(stat) = Stat::read(pid) else { continue };
        if !stat.is_living() || stat.group != pid.as_raw_nonzero().get() {
            continue;
        }
        let Some(name) = identity::named_target(pid) else { continue };
        if identity::named_state_dir(pid).is_none_or(|carried| carried != state_dir) {
            continue;
        }
        let living = Living { pid, start_ticks: stat.start_ticks };
        let is_older = found.get(&name).is_none_or(|it| living.start_ticks < it.start_ticks);
        if is_older {
            found.insert(name, living);
        }
    }
    found
}
