//! As process 1 of a container we inherit the children of others when their parents end:
//! somebody must take their exit codes, or they stay as zombies until there is no process id
//! left.

use std::{collections::HashMap, fs, thread, time::Duration};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use tracing::{debug, warn};

/// How often it is looked.
const STEP: Duration = Duration::from_secs(1);

/// So many looks a zombie must be seen before it is taken: our own children are waited for by
/// whoever started them, at once.
const LOOKS: u32 = 3;

/// Takes the exit codes of orphans, if this is process 1; else does nothing.
pub fn reap_orphans() {
    if !getpid().is_init() {
        return;
    }
    let reaping = thread::Builder::new().name("reaper".to_owned()).spawn(reap);
    if let Err(error) = reaping {
        warn!(%error, "orphans of this container stay as zombies; start it with an init process");
    }
}

fn reap() {
    let mut seen: HashMap<i32, u32> = HashMap::new();
    loop {
        let zombies = zombies_of(getpid().as_raw_nonzero().get());
        seen.retain(|pid, _| zombies.contains(pid));
        for pid in zombies {
            let n_looks = seen.entry(pid).or_insert(0);
            *n_looks += 1;
            if *n_looks < LOOKS {
                continue;
            }
            let Some(id) = Pid::from_raw(pid) else { continue };
            match waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(_) => debug!(pid, "an orphan was taken"),
                Err(error) => debug!(pid, %error, "somebody else has taken it"),
            }
        }
        thread::park_timeout(STEP);
    }
}

/// Returns the children of a process that have ended and were not waited for.
fn zombies_of(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_zombie_of(&text, parent)
    })
    .collect()
}

/// Reads a line of `/proc/<pid>/stat`.
fn is_zombie_of(text: &str, parent: i32) -> bool {
    // The name, in parentheses, may hold anything.
    let Some((_, behind)) = text.rsplit_once(')') else { return false };
    let mut fields = behind.split_ascii_whitespace();
    fields.next() == Some("Z") && fields.next() == Some(parent.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_are_told_from_the_living_and_from_those_of_others() {
        assert!(is_zombie_of("7 (a) b) Z 1 7 7 0", 1));
        assert!(!is_zombie_of("7 (a) S 1 7 7 0", 1));
        assert!(!is_zombie_of("7 (a) Z 12 7 7 0", 1));
        assert!(!is_zombie_of("", 1));
    }
}
