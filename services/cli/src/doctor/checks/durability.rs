//! Is what was acknowledged also on disk?

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "durability", asks: "does the broker sync what it acknowledges?", look };

fn look(facts: &Facts) -> Looked {
    let known = facts.local.data.as_ref().and_then(|it| it.sync_interval.as_deref());
    match known {
        Some("always") => Ok(Vec::new()),
        Some(other) => Ok(vec![Finding::new(
            Severity::Warning,
            format!("the broker of this data directory syncs to disk every {other}"),
            "a crash of the machine (not of a process) loses what was acknowledged since the last sync",
            "start `selfheal up` without --nats-sync: `always` is the default, and batches make it affordable",
        )]),
        None => Err(NotSeen(
            "a broker does not tell its clients its sync_interval; see that its configuration says `sync_interval: always`, as deploy/nats.conf does: the server's own default is 2 minutes".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_broker_that_syncs_now_and_then_is_told() {
        let mut facts = well::facts();
        facts.local.data.as_mut().unwrap().sync_interval = Some("10s".to_owned());
        assert!(look(&facts).unwrap()[0].what.contains("10s"));
        facts.local.data = None;
        assert!(look(&facts).is_err());
    }
}
