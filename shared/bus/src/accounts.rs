//! The accounts and users of a broker of ours, as its configuration has them.

use std::fmt::Write as _;

use crate::{
    Subjects,
    roles::{Permissions, Role},
};

/// The account of an installation.
pub const INSTALLATION: &str = "SELFHEAL";

/// The account of those who only publish events.
///
/// An answer of the broker goes to whatever subject the asker names, and no permission is asked for
/// it. Across accounts it cannot name one of ours.
const PUBLISHERS: &str = "PUBLISHERS";

/// Returns the section `accounts`: a user for each role, with the least that it needs to serve
/// these zones. `password` returns what stands behind `password: `.
#[must_use]
pub fn accounts(names: &Subjects, zones: &[String], password: impl Fn(Role) -> String) -> String {
    let (outside, own): (Vec<Role>, Vec<Role>) =
        Role::ALL.into_iter().partition(|it| it.is_outside());
    let events = names.full("event.>");
    // Writing to a string cannot fail.
    let mut text = String::from("accounts {\n");
    let _infallible = writeln!(
        text,
        "  {INSTALLATION} {{\n    jetstream: enabled\n    exports: [\n      \
         {{ service: \"{events}\", accounts: [{PUBLISHERS}] }}\n    ]\n    users: ["
    );
    for role in own {
        user(&mut text, role, &role.permissions(names, zones), &password(role));
    }
    let _infallible = writeln!(
        text,
        "    ]\n  }}\n  \
         # Outside publishers have an account of their own. It imports the subjects of events and nothing\n  \
         # else, so that no answer of the broker to them reaches a subject of ours.\n  \
         {PUBLISHERS} {{\n    imports: [\n      \
         {{ service: {{ account: {INSTALLATION}, subject: \"{events}\" }} }}\n    ]\n    users: ["
    );
    for role in outside {
        user(&mut text, role, &role.permissions(names, zones), &password(role));
    }
    text.push_str("    ]\n  }\n}\n");
    text
}

fn user(text: &mut String, role: Role, may: &Permissions, password: &str) {
    text.push_str("      {\n");
    let name = role.as_str();
    let _infallible = writeln!(text, "        user: {name}, password: {password}");
    text.push_str("        permissions: {\n");
    list(text, "publish", &may.publish);
    list(text, "subscribe", &may.subscribe);
    if may.allow_responses {
        text.push_str("          allow_responses: true\n");
    }
    text.push_str("        }\n      }\n");
}

fn list(text: &mut String, what: &str, subjects: &[String]) {
    let _infallible = writeln!(text, "          {what}: [");
    for subject in subjects {
        let _infallible = writeln!(text, "            \"{subject}\"");
    }
    text.push_str("          ]\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_a_user_with_its_password_and_events_of_strangers_come_by_import() {
        let text = accounts(&Subjects::new("acme"), &["berlin".to_owned()], |role| {
            format!("\"p-{}\"", role.as_str())
        });
        for role in Role::ALL {
            let name = role.as_str();
            assert!(text.contains(&format!("user: {name}, password: \"p-{name}\"")), "{text}");
        }
        assert!(text.contains("{ service: { account: SELFHEAL, subject: \"acme.event.>\" } }"));
        assert!(text.contains("fix-berlin.acme.work.fix.berlin"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
