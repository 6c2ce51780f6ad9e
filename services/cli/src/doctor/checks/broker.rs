//! Is there a broker, and is it one that we can use?

use super::super::{
    checks::Check,
    facts::{Facts, Reach},
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "broker", asks: "is there a broker of the right kind?", look };

/// Largest message that the bus writes; a broker that takes less refuses it.
const PAYLOAD_BYTES_MIN: usize = 1024 * 1024;

/// From here on every message of a replicated stream is synced to disk at little cost.
const FAST_SYNC: (u32, u32) = (2, 15);

const NOTHING_WORKS: &str =
    "nothing is accepted, decided or healed without the broker; what was accepted before is safe";

fn look(facts: &Facts) -> Looked {
    let error = |what: String, mend: String| {
        Ok(vec![Finding::new(Severity::Error, what, NOTHING_WORKS, mend)])
    };
    let server = match &facts.broker {
        Reach::There(server) => server,
        Reach::Away { address, why } => {
            return error(
                format!("no broker answers at {address}: {why}"),
                "start it (`nats-server -js`, or `selfheal up`, which has one of its own), or say where it is with --nats-url or SELFHEAL_NATS_URL".to_owned(),
            );
        }
        Reach::NotLetIn { why } => {
            return error(
                format!("the broker does not let us in: {why}"),
                "check the user and password in the URL, --nats-creds, and the users in the broker's configuration; agents with the same credentials fare the same".to_owned(),
            );
        }
        Reach::Unusable { why, hint } => return error(why.clone(), hint.clone()),
    };
    let mut found = Vec::new();
    if server.payload_bytes_max < PAYLOAD_BYTES_MIN {
        found.push(Finding::new(
            Severity::Error,
            format!("the broker takes messages of at most {} bytes", server.payload_bytes_max),
            "a large batch of decisions is refused, and then nothing can be decided any more",
            format!("set max_payload in the broker's configuration to {PAYLOAD_BYTES_MIN} or more (the server's default) and reload it"),
        ));
    }
    let mut numbers = server.version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    let version = (numbers.next(), numbers.next());
    if let (Some(Ok(major)), Some(Ok(minor)), Some(_)) = (version.0, version.1, &server.cluster)
        && (major, minor) < FAST_SYNC
    {
        found.push(Finding::new(
            Severity::Note,
            format!("the brokers of the cluster have version {}", server.version),
            "before 2.15 a cluster with `sync_interval: always` syncs each message by itself, which is 10 times slower",
            "upgrade the servers one after the other; nothing has to be stopped",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_broker_that_takes_only_small_messages_is_found() {
        let mut facts = well::facts();
        if let Reach::There(server) = &mut facts.broker {
            server.payload_bytes_max = 65_536;
            server.cluster = Some("east".to_owned());
            server.version = "2.12.4".to_owned();
        }
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].mend.contains("max_payload"));
        assert_eq!(found[1].severity, Severity::Note);
    }
}
