//! The active configuration on a real broker.

use bus::testing::Broker;
use bytes::Bytes;
use serde_json::json;

use crate::eventually;

fn config(name: &str, n_targets: usize) -> Bytes {
    // Names that nothing else shares, and more than one value for many of them.
    let target = |n: usize| json!({"name": format!("{name}-{n}"), "note": "x".repeat(800)});
    let targets: Vec<_> = (0..n_targets).map(target).collect();
    json!({"targets": targets, "name": name}).to_string().into()
}

fn name(config: &Bytes) -> String {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    config["name"].as_str().unwrap().to_owned()
}

/// Goal: what a leader that was replaced writes late does not come into force. Method: writes of
/// two epochs in the wrong order, in one value and in parts.
#[tokio::test]
async fn a_leader_that_was_replaced_does_not_overwrite_its_successor() {
    let broker = Broker::start().await;
    let (bus, other) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let (store, late) = (bus.config_store(), other.config_store());
    let mut seen = bus.config_store().watch();
    for (n, (before, after)) in [(1, 1), (1, 900), (900, 1), (900, 900)].into_iter().enumerate() {
        let epoch = 10 * (n as u64 + 1);
        let (former, newer) = (format!("former-{n}"), format!("newer-{n}"));
        assert!(store.put(config(&former, before), epoch).await.unwrap().is_some());
        assert!(store.put(config(&newer, after), epoch + 1).await.unwrap().is_some());
        assert_eq!(late.put(config(&former, before), epoch).await.unwrap(), None);
        eventually("the newer one is in force, whole", || async {
            let found = seen.borrow().as_ref().map(|(_, it)| name(it));
            if found.as_ref() == Some(&newer) { Ok(()) } else { Err(found) }
        })
        .await;
        // The same leader goes on.
        let last = format!("last-{n}");
        let revision = store.put(config(&last, after), epoch + 1).await.unwrap().unwrap();
        let (at, found) = seen
            .wait_for(|it| it.as_ref().is_some_and(|it| it.0 == revision))
            .await
            .unwrap()
            .clone()
            .unwrap();
        assert_eq!((at, name(&found)), (revision, last));
    }
}

/// Goal: of leaders that write at the same time the last one wins, and its configuration is whole.
#[tokio::test]
async fn of_writes_at_the_same_time_the_one_of_the_last_leader_stays() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    for round in 0..8 {
        let writers: Vec<_> = (1..=4)
            .map(|n| {
                let (broker, size) = (&broker, if n % 2 == 0 { 900 } else { 2 });
                async move {
                    let bus = broker.connect().await.unwrap();
                    // Parts are shared, so that one could delete what another needs.
                    let text = config(&format!("shared-{}", n % 2), size);
                    let text = String::from_utf8(text.to_vec()).unwrap();
                    let marked = text.replacen("{\"name\"", &format!("{{\"by\":{n},\"name\""), 1);
                    bus.config_store().put(marked.into(), round * 10 + n).await.unwrap()
                }
            })
            .collect();
        let stored = futures_util::future::join_all(writers).await;
        let last = stored.last().unwrap().unwrap();
        let mut seen = broker.connect().await.unwrap().config_store().watch();
        let it = seen.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(it.0, last, "round {round}: {stored:?}");
    }
}
