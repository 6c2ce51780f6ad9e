//! What is kept of tokens: who changes them, who follows them, across the broker's restarts.

use std::time::Duration;

use bus::{Bus, PutToken, Tokens, testing::Broker};
use chrono::Utc;
use domain::access::{Revoked, Role, TokenRecord, token_hash};
use tokio::sync::watch;

use crate::eventually;

const WAIT: Duration = Duration::from_secs(10);

pub(crate) fn record(name: &str) -> TokenRecord {
    TokenRecord {
        name: name.to_owned(),
        role: Role::Operator,
        hash: token_hash(name),
        created_at: Utc::now(),
        created_by: "ann".to_owned(),
        expires_at: None,
        rate: None,
        scope: None,
        revoked: None,
    }
}

fn revoked(record: TokenRecord) -> TokenRecord {
    TokenRecord { revoked: Some(Revoked { at: Utc::now(), by: "ann".to_owned() }), ..record }
}

type Followed = watch::Receiver<Option<std::sync::Arc<Tokens>>>;

/// Waits until the followed tokens are these, by name, with a mark for what was revoked.
async fn shows(followed: &Followed, expected: &[&str]) {
    eventually("the tokens are as they should be", || async {
        let known = followed.borrow().clone();
        let names: Vec<String> = known
            .iter()
            .flat_map(|it| it.values())
            .map(|(_, it)| format!("{}{}", it.name, if it.revoked.is_some() { "!" } else { "" }))
            .collect();
        if known.is_some() && names == expected { Ok(()) } else { Err(names) }
    })
    .await;
}

#[tokio::test]
async fn of_two_who_change_a_token_one_is_told_that_it_has_changed() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let store = bus.token_store();
    assert_eq!(store.list(WAIT).await.unwrap(), Tokens::new());
    assert_eq!(store.put(&record("ci"), 0).await.unwrap(), PutToken::Stored);
    assert_eq!(store.put(&record("ci"), 0).await.unwrap(), PutToken::Changed, "the name is taken");
    let (seq, stored) = store.list(WAIT).await.unwrap()["ci"].clone();
    assert_eq!(store.put(&revoked(stored.clone()), seq).await.unwrap(), PutToken::Stored);
    assert_eq!(store.put(&stored, seq).await.unwrap(), PutToken::Changed, "no way back by a race");
    assert!(store.list(WAIT).await.unwrap()["ci"].1.revoked.is_some());
}

#[tokio::test]
async fn who_follows_the_tokens_keeps_them_while_the_broker_is_away_and_hears_of_the_end() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let follower: Bus = broker.connect().await.unwrap();
    let followed = follower.token_store().watch();
    shows(&followed, &[]).await;
    let store = bus.token_store();
    for name in ["a", "b"] {
        assert_eq!(store.put(&record(name), 0).await.unwrap(), PutToken::Stored);
    }
    shows(&followed, &["a", "b"]).await;
    broker.kill();
    let mut connection = follower.connection();
    connection.wait_for(|connected| !connected).await.unwrap();
    shows(&followed, &["a", "b"]).await;
    broker.restart().await;
    crate::connected(&bus).await;
    let (seq, stored) = store.list(WAIT).await.unwrap()["a"].clone();
    assert_eq!(store.put(&revoked(stored), seq).await.unwrap(), PutToken::Stored);
    shows(&followed, &["a!", "b"]).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_opens_no_door() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let followed = bus.token_store().watch();
    assert_eq!(bus.token_store().put(&record("a"), 0).await.unwrap(), PutToken::Stored);
    shows(&followed, &["a"]).await;
    let key = bus.subjects().token_key("a");
    let newer = r#"{"name": "a", "role": "owner", "hash": "", "created_at": "2026-01-01T00:00:00Z", "created_by": ""}"#;
    crate::outside(&broker.url()).await.publish(key, newer.into()).await.unwrap().await.unwrap();
    shows(&followed, &[]).await;
}
