//! Keeps the vigil over our own processes up to date, leading or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bus::{Bus, topology::BucketId};
use chrono::Utc;
use domain::wire::Member;
use serde::Deserialize;
use service::BoxError;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::core::agents::Vigil;

/// How long the broker may take to tell how an entry ended. Without an answer its owner
/// counts as lost, which is noticed wrongly rather than never.
const LOOK_WAIT: Duration = Duration::from_secs(1);

/// How often it is noted that the list is followed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The vigil that all tasks share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedVigil(Arc<Mutex<Vigil>>);

impl SharedVigil {
    /// Looks at the vigil.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Vigil) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Follows the list of the living until told to stop.
pub(crate) async fn follow(
    bus: Bus,
    vigil: SharedVigil,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut living = bus.members().watch();
    let mut before: BTreeMap<String, Member> = BTreeMap::new();
    loop {
        let now = living.borrow_and_update().clone();
        let gone = before.keys().filter(|id| !now.contains_key(*id));
        let mut farewells = BTreeSet::new();
        for id in gone {
            if said_goodbye(&bus, id).await {
                farewells.insert(id.clone());
            }
        }
        vigil.with(|it| it.observe(&now, |id| farewells.contains(id), Utc::now()));
        before = now;
        let changed = changed(&bus, &vigil, &mut living);
        match stop.run_until_cancelled(changed).await {
            None => return Ok(()),
            Some(changed) => changed?,
        }
    }
}

/// Waits for another list, and notes meanwhile that it is followed.
async fn changed(
    bus: &Bus,
    vigil: &SharedVigil,
    living: &mut watch::Receiver<BTreeMap<String, Member>>,
) -> Result<(), watch::error::RecvError> {
    loop {
        match timeout(LOOK_EVERY, living.changed()).await {
            Ok(changed) => return changed,
            Err(_elapsed) if bus.is_connected() => vigil.with(|it| it.look(Utc::now())),
            Err(_elapsed) => {}
        }
    }
}

/// Returns whether the last message of a member's entry is its own goodbye, and not the
/// broker's mark that its time was over. Asked at once, before that mark takes its place.
async fn said_goodbye(bus: &Bus, id: &str) -> bool {
    #[derive(Deserialize)]
    struct Found {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        #[serde(default)]
        hdrs: String,
    }
    let names = bus.subjects();
    let ask = serde_json::json!({"last_by_subj": names.member_key(id)}).to_string();
    let subject = format!("$JS.API.STREAM.MSG.GET.{}", names.bucket_stream(BucketId::Members));
    let Ok(answer) = bus.request(subject, ask.into(), LOOK_WAIT).await else { return false };
    let Ok(found) = serde_json::from_slice::<Found>(&answer) else { return false };
    let headers = STANDARD.decode(found.message.hdrs).unwrap_or_default();
    String::from_utf8_lossy(&headers).contains("KV-Operation: DEL")
}
