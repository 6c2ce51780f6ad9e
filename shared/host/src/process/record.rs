//! What is noted of a start: which run is the target, by id and start time.
//!
//! The file is ours alone, in the state directory. It is written before the program itself
//! begins, so that no start is forgotten, whoever dies when.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use domain::{
    secret::{Text, without_secrets},
    target::ProcessHandle,
};
use serde::{Deserialize, Serialize};

use super::{Host, Run, stat};

/// What a handle says of its process. A target that was renamed is known by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Definition {
    /// Program and arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// The environment: hashed, for there may be secrets in it.
    #[serde(default)]
    env_hash: u64,
    /// The pid file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
}

impl Definition {
    /// Takes what a handle says.
    #[must_use]
    pub fn of(handle: &ProcessHandle) -> Self {
        Self {
            command: handle.command.clone(),
            dir: handle.dir.clone(),
            env_hash: env_hash(&handle.env),
            pid_file: handle.pid_file.clone(),
        }
    }
}

/// What is noted of a run: at its start, or when it was adopted.
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
    /// What the target's handle said when the run was started or adopted, or says since the
    /// configuration has changed while it runs.
    #[serde(flatten)]
    pub definition: Definition,
    /// Whether somebody else has started it, and it was adopted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_adopted: bool,
    /// The name in the marks of the run, where the target has another one since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_as: Option<String>,
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
    /// Notes a run that was started for a handle.
    #[must_use]
    pub fn new(run: Run, mark: String, handle: &ProcessHandle) -> Self {
        Self {
            run,
            boot_id: stat::boot_id(),
            mark,
            definition: Definition::of(handle),
            is_adopted: false,
            started_as: None,
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
        self.definition == Definition::of(handle)
    }
}

/// FNV-1a: the same in every version, unlike the hashes of the standard library.
fn env_hash(env: &BTreeMap<String, Text>) -> u64 {
    // Of a secret it is where it is: a new one makes no other process.
    let env = without_secrets(env);
    let bytes = env.iter().flat_map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes(), b"\0"]);
    bytes.flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
