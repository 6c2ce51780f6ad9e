//! Are there snapshots that keep recovery and the ledger short?

use bus::topology::{BucketId, StreamId};
use chrono::TimeDelta;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "snapshots", asks: "do snapshots keep the ledger short?", look };

/// Messages of the ledger that are folded in a moment; more need a snapshot.
const LEDGER_LONG: u64 = 100_000;

/// A snapshot of a ledger that grows should not be older.
const OLD: TimeDelta = TimeDelta::hours(24);

const MEND: &str = "the leader writes snapshots by itself: its log says why it does not, such as a bucket without room (see the check `room`)";

fn look(facts: &Facts) -> Looked {
    let ledger = facts.stream(StreamId::Ledger)?;
    let snapshots = facts.bucket(BucketId::Snapshots)?;
    if ledger.state.messages < LEDGER_LONG {
        return Ok(Vec::new());
    }
    let why = "a supervisor that starts folds the whole ledger, which takes long, and the ledger grows until it is full";
    let n = ledger.state.messages;
    let found = match snapshots.last_at {
        None => Some(format!("the ledger has {n} messages, and there is no snapshot")),
        Some(at) if at + OLD < facts.broker_now() => {
            let hours = (facts.broker_now() - at).num_hours();
            Some(format!("the ledger has {n} messages, and the newest snapshot is {hours} h old"))
        }
        Some(_) => None,
    };
    Ok(found.into_iter().map(|what| Finding::new(Severity::Warning, what, why, MEND)).collect())
}

#[cfg(test)]
mod tests {
    use bus::inspect::Which;

    use super::{super::super::facts::well, *};

    #[test]
    fn a_long_ledger_without_a_recent_snapshot_is_told() {
        let mut facts = well::facts();
        facts.stream_mut(Which::Stream(StreamId::Ledger)).state.messages = LEDGER_LONG;
        assert_eq!(look(&facts), Ok(Vec::new()));
        let at = |facts: &mut Facts, at| {
            facts.stream_mut(Which::Bucket(BucketId::Snapshots)).last_at = at;
        };
        at(&mut facts, Some(well::now() - TimeDelta::hours(30)));
        assert!(look(&facts).unwrap()[0].what.contains("30 h old"));
        at(&mut facts, None);
        assert!(look(&facts).unwrap()[0].what.contains("no snapshot"));
    }
}
