//! Who could use an installation who should not, as far as this machine can tell.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bus::BrokerOptions;

use super::facts::{OpenFile, Security};

/// Bits of a mode that let others in.
const OTHERS: u32 = 0o077;

/// What of a data directory is for its owner alone, below it.
const PRIVATE: [&str; 9] = [
    "",
    "run",
    "run/signing.key",
    "run/api-token",
    "run/nats",
    "run/nats.conf",
    "incident_logs.jsonl",
    "config.seen",
    "snapshots",
];

/// Looks.
pub(super) fn look(options: &BrokerOptions, data: &Path) -> Security {
    let urls: Vec<&str> = options.url.split(',').map(str::trim).collect();
    let open = |name: &&str| {
        let path = if name.is_empty() { data.to_owned() } else { data.join(name) };
        let mode = fs::symlink_metadata(&path).ok()?.permissions().mode() & 0o7777;
        (mode & OTHERS != 0).then_some(OpenFile { path, mode })
    };
    Security {
        is_broker_here: urls.iter().all(|it| is_here(it)),
        is_broker_tls: options.ca.is_some() || urls.iter().all(|it| it.starts_with("tls://")),
        is_signed: !options.trusted_keys.is_empty()
            || options.trusted_keys_file.is_some()
            || options.signing_key.is_some()
            // `up` gives the keys in its data directory to all that it starts.
            || data.join("run/signing.key").is_file(),
        open_files: PRIVATE.iter().filter_map(open).collect(),
    }
}

/// Returns whether a URL leads to this host.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |it| it.1);
    let rest = rest.rsplit_once('@').map_or(rest, |it| it.1);
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |it| it.0),
        None => rest.split_once(':').map_or(rest, |it| it.0),
    };
    let host = host.trim_end_matches('/');
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_here_when_its_address_is() {
        for (url, here) in [
            ("nats://127.0.0.1:4222", true),
            ("nats://cli:pass@localhost:4222", true),
            ("[::1]:4222", true),
            ("nats://broker:4222", false),
            ("tls://u:p@10.0.0.7", false),
            ("127.0.0.1.example.org", false),
        ] {
            assert_eq!(is_here(url), here, "{url}");
        }
    }

    #[test]
    fn files_that_others_may_read_are_found() {
        let data = std::env::temp_dir().join(format!("selfheal-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(data.join("run")).unwrap();
        let set = |name: &str, mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(data.join(name), permissions).unwrap();
        };
        fs::write(data.join("run/api-token"), "x").unwrap();
        for (name, mode) in [(".", 0o700), ("run", 0o700), ("run/api-token", 0o640)] {
            set(name, mode);
        }
        assert!(!look(&BrokerOptions::default(), &data).is_signed);
        fs::write(data.join("run/signing.key"), "x").unwrap();
        set("run/signing.key", 0o600);
        let seen = look(&BrokerOptions::default(), &data);
        assert!(seen.is_signed, "by the key of `up`");
        let found = seen.open_files;
        assert_eq!(found, [OpenFile { path: data.join("run/api-token"), mode: 0o640 }]);
        fs::remove_dir_all(&data).unwrap();
    }
}
