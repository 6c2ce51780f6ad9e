//! `deploy/nats.conf`: the broker's configuration, with each user's permissions from the table of the bus.

use std::fmt::Write as _;

use bus::Subjects;
use bus::roles::{Permissions, Role};
use bus::topology::PREFIX_DEFAULT;

/// The zones that the shipped configuration permits; others are added to it by hand.
const ZONES: [&str; 1] = ["default"];

const HEAD: &str = "\
# The broker of an installation on one node, with one user for each kind of agent.
#
# Written by `cargo xtask docs` from the table of the bus (shared/bus/src/roles.rs); a test compares.
# Passwords come from the environment. They begin with a letter: the server reads digits as a number.

server_name: selfheal
port: 4222
# Health and metrics, for this host or container alone.
http: \"127.0.0.1:8222\"
# Slow shutdown would only delay the agents' reconnect.
lame_duck_grace_period: \"1s\"
lame_duck_duration: \"30s\"

jetstream {
  store_dir: \"/data\"
  # Each message is on disk before it is acknowledged. Agents write frames of many, so it is fast enough.
  sync_interval: always
}

authorization {
  timeout: 5
}

accounts {
";

/// An answer of the broker goes to whatever subject the asker names, and no permission is asked for
/// it. Across accounts it cannot name one of ours.
const PUBLISHERS: &str = "\
  # Outside publishers have an account of their own. It imports the subjects of events and nothing
  # else, so that no answer of the broker to them reaches a subject of ours.
  PUBLISHERS {
    imports: [
      { service: { account: SELFHEAL, subject: \"selfheal.event.>\" } }
    ]
    users: [
";

/// Returns the whole file.
#[must_use]
pub fn nats_conf() -> String {
    let names = Subjects::new(PREFIX_DEFAULT);
    let zones = ZONES.map(str::to_owned);
    let mut text = HEAD.to_owned();
    text.push_str("  SELFHEAL {\n    jetstream: enabled\n    exports: [\n");
    let _infallible = writeln!(
        text,
        "      {{ service: \"{}\", accounts: [PUBLISHERS] }}",
        names.full("event.>")
    );
    text.push_str("    ]\n    users: [\n");
    let (outside, own): (Vec<Role>, Vec<Role>) =
        Role::ALL.into_iter().partition(|it| it.is_outside());
    for role in own {
        user(&mut text, role, &role.permissions(&names, &zones));
    }
    text.push_str("    ]\n  }\n");
    text.push_str(PUBLISHERS);
    for role in outside {
        user(&mut text, role, &role.permissions(&names, &zones));
    }
    text.push_str("    ]\n  }\n}\n");
    text
}

fn user(text: &mut String, role: Role, may: &Permissions) {
    let name = role.as_str();
    let variable = format!("NATS_{}_PASSWORD", name.to_uppercase());
    text.push_str("      {\n");
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "        user: {name}, password: ${variable}");
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
