//! All checks: each is one file here, and two lines in this one.

mod agents;
mod brakes;
mod broker;
mod clocks;
mod configuration;
mod deadlines;
mod disk;
mod durability;
mod foreign;
mod gateways;
mod lag;
mod leader;
mod permissions;
mod queues;
mod rejected;
mod room;
mod security;
mod snapshots;
mod streams;
mod tokens;
mod versions;
mod zones;

use super::{facts::Facts, finding::Looked};

/// A check: a question, and the function that answers it from what was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Its name, that of its file.
    pub(crate) name: &'static str,
    /// What it asks.
    pub(crate) asks: &'static str,
    /// Answers it.
    pub(crate) look: fn(&Facts) -> Looked,
}

/// All checks, in the order in which they are told.
pub(crate) const CHECKS: [Check; 22] = [
    broker::CHECK,
    permissions::CHECK,
    streams::CHECK,
    room::CHECK,
    durability::CHECK,
    leader::CHECK,
    agents::CHECK,
    zones::CHECK,
    versions::CHECK,
    clocks::CHECK,
    configuration::CHECK,
    queues::CHECK,
    deadlines::CHECK,
    lag::CHECK,
    disk::CHECK,
    snapshots::CHECK,
    gateways::CHECK,
    tokens::CHECK,
    rejected::CHECK,
    foreign::CHECK,
    brakes::CHECK,
    security::CHECK,
];

/// Returns bytes as people read them.
fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} bytes"),
        1_024..1_048_576 => format!("{} KiB", n / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", n / 1_048_576),
        _ => format!("{} GiB", n / 1_073_741_824),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_in_the_folder_is_in_the_list_under_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/checks");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let listed: BTreeSet<String> = CHECKS.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(files, listed);
        assert_eq!(listed.len(), CHECKS.len(), "each once");
    }
}
