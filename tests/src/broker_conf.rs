//! `deploy/nats.conf`: the broker's configuration, with each user's permissions from the table of the bus.

use bus::Subjects;
use bus::accounts::accounts;
use bus::roles::Role;
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

";

/// Returns the whole file.
#[must_use]
pub fn nats_conf() -> String {
    let names = Subjects::new(PREFIX_DEFAULT);
    let of_environment = |role: Role| format!("$NATS_{}_PASSWORD", role.as_str().to_uppercase());
    HEAD.to_owned() + &accounts(&names, &ZONES.map(str::to_owned), of_environment)
}
