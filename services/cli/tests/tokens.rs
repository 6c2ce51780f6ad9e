//! `selfheal token` on a real broker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use bus::{Bus, testing::Broker};
use domain::access::{Role, token_hash};
use serde_json::Value;

/// Exit code, standard output and standard error of `selfheal`.
fn run(broker: &Broker, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
    command.env_clear().env("USER", "ann").args(["--nats-url", &broker.url()]).args(words);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn broker() -> (Broker, Bus) {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    (broker, bus)
}

#[tokio::test]
async fn a_token_is_printed_once_and_only_its_hash_is_kept() {
    let (broker, bus) = broker().await;
    let words = [
        "token",
        "create",
        "--name",
        "ci",
        "--role",
        "publisher",
        "--expires",
        "90d",
        "--rate",
        "10/s",
    ];
    let (code, out, remark) = run(&broker, &words);
    assert_eq!(code, 0, "{remark}");
    let token = out.trim();
    assert!(token.starts_with("sht_") && token.len() == 68, "{out}");
    assert!(
        remark.contains("ci") && remark.contains("ends at") && !remark.contains(token),
        "{remark}"
    );
    let tokens = bus.token_store().list(Duration::from_secs(5)).await.unwrap();
    let Some((_, record)) = tokens.get("ci") else { panic!("{tokens:?}") };
    assert_eq!((record.role, record.created_by.as_str()), (Role::Publisher, "ann"));
    assert_eq!(record.hash, token_hash(token));
    assert!(!format!("{record:?}").contains(token));
    let days = (record.expires_at.unwrap() - record.created_at).num_days();
    assert_eq!((days, record.rate.as_ref().unwrap().to_string()), (90, "10/s".to_owned()));
    for listed in [run(&broker, &["token", "ls"]).1, run(&broker, &["token", "ls", "--json"]).1] {
        assert!(
            listed.contains("ci") && listed.contains("publisher") && listed.contains("valid"),
            "{listed}"
        );
        assert!(!listed.contains(token) && !listed.contains(&record.hash), "{listed}");
    }
}

#[tokio::test]
async fn a_name_is_taken_until_its_token_is_revoked_and_each_token_is_another() {
    let (broker, _bus) = broker().await;
    let create = ["--json", "token", "create", "--name", "ci", "--role", "viewer"];
    let made = |out: &str| serde_json::from_str::<Value>(out).unwrap()["token"].clone();
    let first = made(&run(&broker, &create).1);
    let (code, _, why) = run(&broker, &create);
    assert_eq!(code, 4, "{why}");
    assert!(why.contains("already"), "{why}");
    for _ in 0..2 {
        assert_eq!(run(&broker, &["token", "revoke", "ci"]).0, 0, "once more changes nothing");
    }
    assert!(run(&broker, &["token", "ls"]).1.contains("revoked"));
    let (code, out, why) = run(&broker, &create);
    assert_eq!(code, 0, "{why}");
    assert_ne!(made(&out), first);
    assert_eq!(run(&broker, &["token", "revoke", "other"]).0, 3);
    for wrong in [["--name", "a.b", "--role", "viewer"], ["--name", "a", "--role", "root"]] {
        assert_eq!(run(&broker, &[&["token", "create"], &wrong[..]].concat()).0, 2, "{wrong:?}");
    }
}

#[test]
fn a_token_is_sent_to_no_other_host_and_read_from_no_file_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "sht_secret").unwrap();
    let file = path.to_str().unwrap();
    let check = |mode: u32, gateway: &str| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
        command.env_clear().args(["token", "check", "--token-file", file, "--gateway", gateway]);
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains("sht_secret"), "{said}");
        (output.status.code().unwrap(), said)
    };
    let (code, said) = check(0o644, "http://127.0.0.1:9");
    assert!(code == 4 && said.contains("chmod 600"), "{said}");
    let (code, said) = check(0o600, "http://gateway.example:8080");
    assert!(code == 2 && said.contains("in the clear"), "{said}");
    assert_eq!(check(0o600, "http://127.0.0.1:9").0, 69, "nobody is there");
}
