//! What is noted of a start: which run is the target, by id and start time.
//!
//! The file is ours alone, in the state directory. It is written before the program itself
//! begins, so that no start is forgotten, whoever dies when.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use domain::target::ProcessHandle;
use serde::{Deserialize, Serialize};

use super::{Host, Run, stat};

/// What is noted of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which run.
    #[serde(flatten)]
    pub run: Run,
    /// Which start of the host: ids and ticks mean nothing in another.
    pub boot_id: String,
    /// What everything that the run has started carries in its environment.
    #[serde(default)]
    pub mark: String,
    /// Program and arguments, by which a target is known that was renamed.
    #[serde(default)]
    pub command: Vec<String>,
    /// Its working directory, as in the handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Its environment, as in the handle: hashed, for there may be secrets in it.
    #[serde(default)]
    pub env_hash: u64,
    /// The pid file of the handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// What we wrote into the pid file; absent when it is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file_text: Option<String>,
    /// The log that it appends to, when nobody else writes there, so that it may be cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Its control group, when it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

impl Record {
    /// Notes a run.
    #[must_use]
    pub fn new(run: Run, mark: String, handle: &ProcessHandle) -> Self {
        Self {
            run,
            boot_id: stat::boot_id(),
            mark,
            command: handle.command.clone(),
            dir: handle.dir.clone(),
            env_hash: env_hash(&handle.env),
            pid_file: handle.pid_file.clone(),
            pid_file_text: None,
            log: None,
            cgroup: None,
        }
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Returns whether it was written since the host was started.
    #[must_use]
    pub fn is_of_this_boot(&self, host: &dyn Host) -> bool {
        self.boot_id == host.boot_id()
    }

    /// Returns the run if it is alive.
    #[must_use]
    pub fn living(&self, host: &dyn Host) -> Option<Run> {
        (self.is_of_this_boot(host) && host.is_alive(&self.run)).then_some(self.run)
    }

    /// Returns whether a handle says the same, but for the name of its target.
    #[must_use]
    pub fn is_of(&self, handle: &ProcessHandle) -> bool {
        self.command == handle.command
            && self.dir == handle.dir
            && self.env_hash == env_hash(&handle.env)
            && self.pid_file == handle.pid_file
    }
}

/// FNV-1a: the same in every version, unlike the hashes of the standard library.
fn env_hash(env: &BTreeMap<String, String>) -> u64 {
    let bytes = env.iter().flat_map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes(), b"\0"]);
    bytes.flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
