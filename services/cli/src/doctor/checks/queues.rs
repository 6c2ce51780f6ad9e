//! Is wanted work taken, and does it come to an end?

use chrono::TimeDelta;
use domain::wire::WorkKind;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "queues", asks: "is wanted work taken and ended?", look };

/// Work that is under way and has not ended for so long is worth a look. Fixes have limits
/// of their own, which are shorter unless they were raised.
const LONG: TimeDelta = TimeDelta::minutes(15);

const NOBODY: &str = "work there is never done; incidents are escalated when their time has ended";

fn look(facts: &Facts) -> Looked {
    let queues = facts.queues.as_ref().map_err(NotSeen::clone)?;
    let mut found = Vec::new();
    for queue in queues {
        let Some((kind, zone)) = &queue.work else { continue };
        let worker = worker(*kind);
        if 0 < queue.n_waiting && queue.n_asking == 0 && queue.n_under_way == 0 {
            found.push(Finding::new(
                Severity::Error,
                format!(
                    "{} work items wait in {} and no agent takes them",
                    queue.n_waiting, queue.name
                ),
                NOBODY,
                format!(
                    "start a {worker} that serves the zone: `selfheal-{worker} --zones {zone}`"
                ),
            ));
        }
        let ended = [queue.done_at, queue.given_at].into_iter().flatten().max();
        let is_old = ended.is_some_and(|at| at + LONG < facts.broker_now());
        if 0 < queue.n_under_way && is_old {
            found.push(Finding::new(
                Severity::Warning,
                format!("{} pieces of work of {} have been under way for more than {} min", queue.n_under_way, queue.name, LONG.num_minutes()),
                "a worker that hangs keeps what it has taken, since it still says that it works on it",
                format!("see the logs of the {worker}s, and restart the one that hangs: its work goes to another"),
            ));
        }
    }
    // Work of a zone in which nobody ever asked has no consumer at all.
    for kind in WorkKind::ALL {
        let Ok(work) = facts.stream(bus::topology::StreamId::Work(kind)) else { continue };
        for (subject, n) in &work.subjects {
            let mut parts = subject.rsplit('.');
            let (Some(zone), Some(kind)) = (parts.next(), parts.next()) else { continue };
            let name = format!("{kind}-{zone}");
            if 0 < *n && queues.iter().all(|queue| queue.name != name) {
                found.push(Finding::new(
                    Severity::Error,
                    format!("{n} work items wait in {name}, where no agent has ever asked for any"),
                    NOBODY,
                    format!("start the agents of the zone {zone}, see the check `zones`"),
                ));
            }
        }
    }
    Ok(found)
}

const fn worker(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Diagnose => "analyzer",
        WorkKind::Fix => "fixer",
        WorkKind::Verify => "monitor",
        WorkKind::Notify => "gateway",
    }
}

#[cfg(test)]
mod tests {
    use bus::{inspect::Which, topology::StreamId};

    use super::{super::super::facts::well, *};

    #[test]
    fn work_that_nobody_takes_and_work_that_does_not_end_are_told_apart() {
        let mut facts = well::facts();
        let queues = facts.queues.as_mut().unwrap();
        queues[1].n_waiting = 4;
        queues[1].n_asking = 0;
        queues[2].n_under_way = 2;
        queues[2].given_at = Some(well::now() - TimeDelta::hours(1));
        queues[2].done_at = None;
        let work = facts.stream_mut(Which::Stream(StreamId::Work(WorkKind::Fix)));
        work.subjects.insert("selfheal.work.fix.west".to_owned(), 3);
        work.subjects.insert("selfheal.work.fix.default".to_owned(), 4);
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].what.contains("fix-default") && found[0].mend.contains("selfheal-fixer"));
        assert!(found[1].what.contains("verify-default"), "{found:?}");
        assert!(found[2].what.contains("fix-west"), "{found:?}");
    }
}
