//! Is there room in the streams and in the account?

use bus::{
    inspect::{Room, Which},
    topology::{BucketId, StreamId},
};

use super::{
    super::{
        checks::Check,
        facts::Facts,
        finding::{Finding, Looked, NotSeen, Severity},
    },
    bytes,
};

pub(super) const CHECK: Check =
    Check { name: "room", asks: "is there room in the streams and in the account?", look };

/// From here on a stream or an account is worth a look, and is nearly full.
const MUCH: f64 = 0.80;
const NEARLY: f64 = 0.95;

fn look(facts: &Facts) -> Looked {
    let (mut found, mut n_seen) = (Vec::new(), 0);
    for (which, name, look) in &facts.streams {
        let Ok(look) = look else { continue };
        n_seen += 1;
        let share = look.state.fullness();
        let Some(severity) = severity(share) else { continue };
        let Some((why, mend)) = consequence(*which, name) else { continue };
        let max = bytes(look.state.bytes_max.unwrap_or_default());
        let what =
            format!("{name} is {:.0} % full: {} of {max}", share * 100.0, bytes(look.state.bytes));
        found.push(Finding::new(severity, what, why, mend));
    }
    if let Ok(account) = &facts.account {
        n_seen += 1;
        for (what, room) in [("disk", account.storage), ("memory", account.memory)] {
            found.extend(account_finding(what, room));
        }
    }
    if n_seen == 0 {
        return Err(match &facts.account {
            Err(not_seen) => not_seen.clone(),
            Ok(_) => NotSeen("the broker does not tell".to_owned()),
        });
    }
    Ok(found)
}

fn severity(share: f64) -> Option<Severity> {
    match share {
        share if NEARLY <= share => Some(Severity::Error),
        share if MUCH <= share => Some(Severity::Warning),
        _ => None,
    }
}

/// Returns what comes of a full stream, and what to do; nothing for the one that may be full.
fn consequence(which: Which, name: &str) -> Option<(&'static str, String)> {
    let more = |bytes: u64| {
        format!("`nats stream edit {name} --max-bytes {bytes}` gives more room, which is kept")
    };
    Some(match which {
        Which::Stream(StreamId::Inbox) => (
            "a full inbox refuses every event: senders hear 503",
            format!(
                "what is decided is forgotten by itself, so see why decisions stand still (leader, lag), or {}",
                more(4 << 30)
            ),
        ),
        Which::Stream(StreamId::Ledger) => (
            "with a full ledger nothing can be decided any more",
            format!(
                "the leader forgets what its snapshots cover: see the check `snapshots`; {}",
                more(4 << 30)
            ),
        ),
        Which::Stream(StreamId::Work(_)) => (
            "work items that do not fit are published later, so healing waits",
            "start more workers, or see the check `queues` for work that no agent takes".to_owned(),
        ),
        Which::Stream(StreamId::Claims) => {
            ("a fix that cannot be claimed does not start", more(1 << 30))
        }
        Which::Bucket(BucketId::Config | BucketId::Lease | BucketId::Members) => {
            ("a new configuration, or a new agent, is refused", more(1 << 28))
        }
        Which::Bucket(BucketId::Tokens) => ("no new token can be made", more(1 << 28)),
        Which::Bucket(BucketId::Snapshots) => (
            "without new snapshots the ledger is not forgotten and grows until it is full",
            more(4 << 30),
        ),
        // They drop the oldest, as they should.
        Which::Stream(StreamId::Rejected | StreamId::Once) => return None,
    })
}

fn account_finding(what: &str, room: Room) -> Option<Finding> {
    let max = room.max.filter(|max| 0 < *max)?;
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
    let share = room.used as f64 / max as f64;
    Some(Finding::new(
        severity(share)?,
        format!("the account uses {} of its {} of {what}", bytes(room.used), bytes(max)),
        "when the account is full the broker refuses everything, whatever room the streams have",
        "raise the account's limits (max_storage, max_memory) or the server's (max_file_store, max_memory_store), and see what else the account stores: `nats stream report`",
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_stream_is_told_when_it_fills_and_the_one_that_may_be_full_is_not() {
        let mut facts = well::facts();
        facts.stream_mut(Which::Stream(StreamId::Rejected)).state.bytes = 100_000;
        assert_eq!(look(&facts), Ok(Vec::new()));
        facts.stream_mut(Which::Stream(StreamId::Ledger)).state.bytes = 80_000;
        facts.stream_mut(Which::Stream(StreamId::Inbox)).state.bytes = 95_000;
        let found = look(&facts).unwrap();
        let told: Vec<_> = found.iter().map(|it| it.severity).collect();
        assert_eq!(told, [Severity::Error, Severity::Warning]);
        assert!(found[0].what.contains("INBOX is 95 % full"), "{found:?}");
    }

    #[test]
    fn a_full_account_is_told() {
        let mut facts = well::facts();
        let account = facts.account.as_mut().unwrap();
        account.storage = Room { used: 99, reserved: 0, max: Some(100) };
        account.memory = Room { used: 99, reserved: 0, max: None };
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("disk"));
    }
}
