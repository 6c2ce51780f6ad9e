//! Do the clocks agree?

use chrono::TimeDelta;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check = Check { name: "clocks", asks: "do the clocks agree?", look };

/// Two clocks that are so far apart are not kept in step.
const APART: TimeDelta = TimeDelta::seconds(2);

/// From here on fixes are refused as too late, or events are taken for old ones.
const FAR_APART: TimeDelta = TimeDelta::seconds(30);

const WHY: &str = "an agent judges by its own clock whether work has become too late: one whose clock is ahead refuses good work, one that is behind begins what nobody waits for any more; times in the log come from the broker";

fn look(facts: &Facts) -> Looked {
    let living = facts.living()?;
    let mut found = Vec::new();
    let mut hosts: Vec<&str> = Vec::new();
    for sign in &living.signs {
        let Some(pulse) = &sign.member.pulse else { continue };
        let host = sign.member.host.as_str();
        // A host has one clock, however many agents.
        if let Some(severity) = severity(pulse.clock - sign.at)
            && !hosts.contains(&host)
        {
            hosts.push(host);
            let what = format!(
                "the clock of {host} (seen at {}) is {} the broker's",
                sign.member.id,
                told(pulse.clock - sign.at)
            );
            let mend = format!("run a time service (chrony, systemd-timesyncd) on {host}");
            found.push(Finding::new(severity, what, WHY, mend));
        }
    }
    if let Ok(ahead) = &facts.broker_ahead
        && severity(*ahead).is_some()
    {
        let what = format!("the clock of this machine is {} the broker's", told(-*ahead));
        found.push(Finding::new(
            if found.is_empty() { Severity::Note } else { Severity::Warning },
            what,
            "what is shown here as past or to come is off by that; if the agents' clocks are off as well, it is the broker's that is wrong",
            "run a time service on this machine and on the broker's",
        ));
    }
    Ok(found)
}

fn severity(apart: TimeDelta) -> Option<Severity> {
    match apart.abs() {
        apart if FAR_APART <= apart => Some(Severity::Error),
        apart if APART <= apart => Some(Severity::Warning),
        _ => None,
    }
}

fn told(apart: TimeDelta) -> String {
    let seconds = apart.num_seconds().abs();
    format!("{seconds} s {}", if apart < TimeDelta::zero() { "behind" } else { "ahead of" })
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_host_whose_clock_is_off_is_told_once() {
        let mut facts = well::facts();
        for (idx, seconds) in [(0, -45), (1, -45), (2, 1)] {
            let sign = &mut facts.signs_mut()[idx];
            let at = sign.at;
            sign.member.pulse.as_mut().unwrap().clock = at + TimeDelta::seconds(seconds);
        }
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Error);
        assert!(found[0].what.contains("45 s behind the broker's"), "{found:?}");
    }

    #[test]
    fn our_own_clock_is_compared_as_well() {
        let mut facts = well::facts();
        facts.broker_ahead = Ok(TimeDelta::seconds(-100));
        assert!(look(&facts).unwrap()[0].what.contains("this machine is 100 s ahead of"));
    }
}
