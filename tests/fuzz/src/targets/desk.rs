//! The desk: what it is told, what it folds, and what it is rebuilt from.

use std::collections::BTreeMap;

use domain::{
    desk::Desk,
    fact::Decision,
    id::Position,
    wire::{Envelope, LedgerEntry},
};

use super::{Form, Target, Verdict};
use crate::seeds::{bytes, story, time_of};

pub(super) const HISTORY: Target = Target {
    name: "desk_history",
    about: "a history of inputs: a follower of the ledger, and one that begins with a snapshot, come to the same state",
    form: Form::Lines,
    seeds: histories,
    run: history,
};

pub(super) const FOLD: Target = Target {
    name: "desk_fold",
    about: "decisions of a ledger that was never written like this: applied or refused, never a panic",
    form: Form::Lines,
    seeds: ledgers,
    run: fold,
};

pub(super) const SNAPSHOT: Target = Target {
    name: "desk_snapshot",
    about: "lines of a snapshot: whole or refused, and what is taken up is written as it was read",
    form: Form::Lines,
    seeds: || story().snapshots.clone(),
    run: snapshot,
};

fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|it| *it == b'\n').filter(|it| !it.is_empty())
}

fn history(input: &[u8]) -> Verdict {
    let (mut leader, mut follower) = (Desk::default(), Desk::default());
    let mut why = None;
    for (idx, line) in lines(input).enumerate() {
        let seq = u64::try_from(idx + 1).unwrap_or(u64::MAX);
        let envelope: Envelope = match serde_json::from_slice(line) {
            Ok(envelope) => envelope,
            Err(error) => {
                why = Some(error.to_string());
                continue;
            }
        };
        let position = Position::new(seq, 0);
        let handled = leader.receive(&envelope.input, position, time_of(seq));
        assert!(handled.faults.is_empty(), "it decided what cannot follow: {:?}", handled.faults);
        for recorded in &handled.recorded {
            // By way of the ledger, as a follower sees it.
            let text = bytes(&recorded.decision);
            let decision: Decision = serde_json::from_slice(&text).unwrap_or_else(|error| {
                panic!("a decision cannot be read: {error}\n{}", String::from_utf8_lossy(&text))
            });
            assert_eq!(decision, recorded.decision);
            let applied = follower.apply(&decision);
            let applied = applied.unwrap_or_else(|error| panic!("a follower refuses: {error}"));
            assert_eq!(&applied, recorded);
        }
        leader.cover(position);
        follower.cover(position);
    }
    assert!(leader == follower, "a follower of the ledger came to another state");
    let snapshot: Vec<Vec<u8>> = leader.snapshot().map(Result::unwrap).collect();
    let restored = Desk::from_snapshot(&snapshot);
    let restored = restored.unwrap_or_else(|error| panic!("its own snapshot is refused: {error}"));
    assert!(restored == leader, "a desk that begins with a snapshot is another one");
    let wishes = |desk: &Desk| -> BTreeMap<String, Vec<u8>> {
        desk.pending().iter().map(|it| (it.id().to_owned(), it.payload().unwrap())).collect()
    };
    assert_eq!(wishes(&restored), wishes(&leader));
    why.map_or(Verdict::Taken, Verdict::Refused)
}

fn fold(input: &[u8]) -> Verdict {
    let mut desk = Desk::default();
    for line in lines(input) {
        let entry: LedgerEntry = match serde_json::from_slice(line) {
            Ok(entry) => entry,
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        for decision in &entry.decisions {
            if let Err(corrupt) = desk.apply(decision) {
                return Verdict::Refused(corrupt.to_string());
            }
        }
        desk.cover(entry.covers);
    }
    look_at(&desk);
    Verdict::Taken
}

fn snapshot(input: &[u8]) -> Verdict {
    let desk = match Desk::from_snapshot(lines(input)) {
        Ok(desk) => desk,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    look_at(&desk);
    let again: Vec<Vec<u8>> = desk.snapshot().map(Result::unwrap).collect();
    let back = Desk::from_snapshot(&again);
    let back = back.unwrap_or_else(|error| panic!("its own snapshot is refused: {error}"));
    // What was never written by us may be put in order once, as when its parts exceed a limit.
    let twice: Vec<Vec<u8>> = back.snapshot().map(Result::unwrap).collect();
    let settled = Desk::from_snapshot(&twice).unwrap();
    assert!(settled == back, "a snapshot of a restored desk gives another one");
    Verdict::Taken
}

/// Everything that is read of a desk can be read, whatever is in it.
fn look_at(desk: &Desk) {
    let _view = bytes(&desk.system());
    let page = desk.page(&domain::view::Filter::default());
    for view in &page.incidents {
        let _detail = bytes(&desk.detail(view.id));
    }
    for wish in desk.pending() {
        let _payload = wish.payload().unwrap();
    }
    assert!(desk.deadlines().count() <= desk.open_incidents().count());
}

fn joined<T: serde::Serialize>(items: &[T]) -> Vec<u8> {
    items.iter().map(bytes).collect::<Vec<_>>().join(&b'\n')
}

fn histories() -> Vec<Vec<u8>> {
    let inputs = &story().inputs;
    let half = inputs.len() / 2;
    vec![joined(inputs), joined(&inputs[..half]), joined(&inputs[..6])]
}

fn ledgers() -> Vec<Vec<u8>> {
    let entries = &story().entries;
    let half = entries.len() / 2;
    vec![joined(entries), joined(&entries[..half]), joined(&entries[..6])]
}
