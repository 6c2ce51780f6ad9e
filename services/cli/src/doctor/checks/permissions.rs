//! May everybody do what he must?

use bus::inspect::Allowed;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
    gather::lists,
};
use crate::terminal::plain;

pub(super) const CHECK: Check =
    Check { name: "permissions", asks: "may all agents do what they must?", look };

/// Subjects that a finding names; the rest is counted.
const NAMED_MAX: usize = 5;

const MEND: &str = "give the users the lists of deploy/nats.conf (docs/wire.md has them too), with your zones and your --prefix, and reload the broker; `selfheal doctor --role fixer --nats-url nats://fixer:…@host` compares a user with what its role needs";

fn look(facts: &Facts) -> Looked {
    let mut found = Vec::new();
    if let Ok(living) = &facts.living {
        for sign in &living.signs {
            let Some(violation) = sign.member.pulse.as_ref().and_then(|it| it.violation.as_ref())
            else {
                continue;
            };
            let told = plain(violation);
            found.push(Finding::new(
                Severity::Error,
                format!("the broker denied {} a permission: {told}", sign.member.id),
                "what an agent may not do it tries in vain, and its part of the work waits for ever",
                MEND,
            ));
        }
    }
    let (role, needed) = &facts.role;
    match &facts.user {
        Ok(user) => {
            let needed = [&needed.publish, &needed.subscribe];
            for ((verb, allowed), needed) in lists(user).into_iter().zip(needed) {
                let Some(allowed) = allowed else { continue };
                let missing: Vec<_> = needed.iter().filter(|it| !permits(allowed, it)).collect();
                if missing.is_empty() {
                    continue;
                }
                let named: Vec<_> =
                    missing.iter().take(NAMED_MAX).map(|it| format!("`{it}`")).collect();
                let more = match missing.len().saturating_sub(NAMED_MAX) {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                let user = user.user.as_deref().unwrap_or("without a name");
                found.push(Finding::new(
                    Severity::Warning,
                    format!(
                        "the user {} may not {verb} {}{more}, which {} needs",
                        plain(user),
                        named.join(", "),
                        role.as_str()
                    ),
                    "requests without permission are not answered: they look like a broker that hangs",
                    MEND,
                ));
            }
            Ok(found)
        }
        Err(NotSeen(_)) if !found.is_empty() => Ok(found),
        Err(not_seen) => Err(not_seen.clone()),
    }
}

/// Tells whether the lists let all of `wanted` through, which may have wildcards itself.
fn permits(lists: &Allowed, wanted: &str) -> bool {
    let allowed =
        lists.allow.as_ref().is_none_or(|list| list.iter().any(|pattern| covers(pattern, wanted)));
    let denied = lists.deny.iter().flatten().any(|pattern| overlaps(pattern, wanted));
    allowed && !denied
}

/// Tells whether everything that `wanted` stands for is also matched by `pattern`.
fn covers(pattern: &str, wanted: &str) -> bool {
    let (mut pattern, mut wanted) = (pattern.split('.'), wanted.split('.'));
    loop {
        match (pattern.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(part)) if part != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

/// Tells whether there is a subject that both match.
fn overlaps(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::{Subjects, roles::Role};

    use super::{super::super::facts::well, *};

    #[test]
    fn patterns_cover_what_they_match() {
        for (pattern, wanted, expected) in [
            ("a.>", "a.b.c", true),
            ("a.>", "a.*", true),
            ("a.>", "a", false),
            ("a.*", "a.>", false),
            ("a.*", "a.b", true),
            ("a.b", "a.*", false),
            (">", "$JS.API.>", true),
            ("a.b", "a.b.c", false),
        ] {
            assert_eq!(covers(pattern, wanted), expected, "{pattern} {wanted}");
        }
        assert!(overlaps("a.b", "a.*") && overlaps("a.>", "a.b.c") && !overlaps("a.b", "a.c"));
    }

    #[test]
    fn a_user_with_the_lists_of_its_role_is_well_and_one_with_less_is_not() {
        let mut facts = well::facts();
        for role in Role::ALL {
            let needed = role.permissions(&Subjects::new("selfheal"), &["default".to_owned()]);
            let user = facts.user.as_mut().unwrap();
            let list = |it: &[String]| Some(Allowed { allow: Some(it.to_vec()), deny: None });
            user.publish = list(&needed.publish);
            user.subscribe = list(&needed.subscribe);
            facts.role = (role, needed.clone());
            assert_eq!(look(&facts), Ok(Vec::new()), "{role:?}");
            let user = facts.user.as_mut().unwrap();
            user.publish = list(&needed.publish[1..]);
            let found = look(&facts).unwrap();
            assert!(found[0].what.contains(&needed.publish[0]), "{found:?}");
        }
    }

    #[test]
    fn what_an_agent_was_not_permitted_is_told() {
        let mut facts = well::facts();
        let pulse = facts.signs_mut()[3].member.pulse.as_mut().unwrap();
        pulse.violation = Some("Publish to \"selfheal.claim.x\"".to_owned());
        let found = look(&facts).unwrap();
        assert!(found[0].what.contains("fixer-1") && found[0].what.contains("claim"), "{found:?}");
    }
}
