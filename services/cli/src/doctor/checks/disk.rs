//! Has the data directory of this machine room?

use super::{
    super::{
        checks::Check,
        facts::Facts,
        finding::{Finding, Looked, NotSeen, Severity},
    },
    bytes,
};

pub(super) const CHECK: Check =
    Check { name: "disk", asks: "has the data directory of this machine room?", look };

/// Less than this is worth a look, and is nearly nothing.
const LITTLE: u64 = 2 << 30;
const NEARLY_NOTHING: u64 = 200 << 20;

/// A large disk with a smaller share left is worth a look as well: 1 in so many.
const SHARE: u64 = 20;

fn look(facts: &Facts) -> Looked {
    let Some(data) = &facts.local.data else {
        return Err(NotSeen(
            "there is no data directory here; name one with --data-dir".to_owned(),
        ));
    };
    let place = data.path.display();
    let mut found = Vec::new();
    if let Some((free, all)) = data.room {
        let severity = match free {
            free if free < NEARLY_NOTHING => Some(Severity::Error),
            free if free < LITTLE || free < all / SHARE => Some(Severity::Warning),
            _ => None,
        };
        if let Some(severity) = severity {
            found.push(Finding::new(
                severity,
                format!("the disk of {place} has {} left of {}", bytes(free), bytes(all)),
                "with a full disk the log waits, and a broker on it refuses every event",
                "free some space, or limit the log with --log-keep-mib or --log-keep; closed parts may be moved elsewhere, but for those behind the snapshots beside the log, which `selfheal restore` needs",
            ));
        }
    }
    if !data.is_writable {
        found.push(Finding::new(
            Severity::Note,
            format!("this user may not write into {place}"),
            "a supervisor that runs as this user could not either",
            "run agents as the owner of the directory",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn little_room_is_a_warning_and_nearly_none_an_error() {
        let mut facts = well::facts();
        for (free, expected) in [
            (50_u64 << 30, None),
            (4 << 30, Some(Severity::Warning)),
            (100 << 20, Some(Severity::Error)),
        ] {
            facts.local.data.as_mut().unwrap().room = Some((free, 100 << 30));
            let found = look(&facts).unwrap();
            assert_eq!(found.first().map(|it| it.severity), expected, "{free}");
        }
    }
}
