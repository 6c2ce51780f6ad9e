//! Does everything stand on the broker as the table wants it?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "streams", asks: "do all streams stand as they should?", look };

/// The code of the broker for a stream that is not there is told in its words.
const NOT_THERE: &str = "not found";

fn look(facts: &Facts) -> Looked {
    let (mut found, mut unseen) = (Vec::new(), None);
    for (_, name, look) in &facts.streams {
        let look = match look {
            Ok(look) => look,
            Err(NotSeen(why)) if why.contains(NOT_THERE) => {
                found.push(Finding::new(
                    Severity::Error,
                    format!("the stream {name} is not there"),
                    "what belongs into it is refused, and agents wait for it",
                    "start a supervisor: it makes what is missing; if one runs, its log says why it cannot",
                ));
                continue;
            }
            Err(not_seen) => {
                unseen = Some(not_seen.clone());
                continue;
            }
        };
        for difference in &look.differences {
            let mend = if difference.is_fixed {
                format!(
                    "this cannot be changed: another program made it; choose another --prefix, or delete {name} if it can go, and restart the supervisor"
                )
            } else {
                format!(
                    "restart a supervisor, which sets it again (`replicas`: `nats stream edit {name} --replicas=…` once there are enough servers)"
                )
            };
            found.push(Finding::new(
                if difference.is_fixed { Severity::Error } else { Severity::Warning },
                format!(
                    "{name} has {} {}, wanted is {}",
                    difference.setting, difference.found, difference.wanted
                ),
                "the promises of the design rest on these settings: refused when full, kept long enough, copied often enough",
                mend,
            ));
        }
        if !look.missing_copies.is_empty() {
            found.push(Finding::new(
                Severity::Warning,
                format!("copies of {name} are away or behind: {}", look.missing_copies.join(", ")),
                "until they are back, the loss of one more server stops the system or loses data",
                "see with `nats server report jetstream` which server it is, and start it",
            ));
        }
    }
    match unseen {
        _ if facts.streams.is_empty() => Err(NotSeen("the broker cannot be used".to_owned())),
        Some(not_seen) if found.is_empty() => Err(not_seen),
        Some(_) | None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use bus::{
        inspect::{Difference, Which},
        topology::StreamId,
    };

    use super::{super::super::facts::well, *};

    #[test]
    fn a_stream_that_differs_is_behind_or_missing_is_named() {
        let mut facts = well::facts();
        let ledger = facts.stream_mut(Which::Stream(StreamId::Ledger));
        ledger.differences = vec![Difference {
            setting: "discard",
            found: "Old".to_owned(),
            wanted: "New".to_owned(),
            is_fixed: false,
        }];
        ledger.missing_copies = vec!["n3".to_owned()];
        facts.streams[0].2 = Err(NotSeen("$JS.API answered 404: stream not found".to_owned()));
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].what.contains("INBOX is not there"), "{found:?}");
        assert!(found[1].what.contains("LEDGER has discard Old"), "{found:?}");
        assert!(found[2].what.contains("n3"), "{found:?}");
    }

    #[test]
    fn a_stream_that_may_not_be_asked_for_is_not_taken_for_missing() {
        let mut facts = well::facts();
        facts.streams[0].2 = Err(NotSeen("this user may not ask".to_owned()));
        assert!(look(&facts).is_err());
    }
}
