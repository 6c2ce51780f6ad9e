//! Who lives: by their signs of life, and by their answers.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use domain::wire::Member;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::Inspect;
use crate::{
    Error,
    lease::{Found, is_mark, look},
    log::{LogItem, LogReader, Start},
    topology::{BucketId, MEMBER_KEY_PREFIX},
};

/// How long members may take to answer a ping: they are asked all at once.
const PING_WAIT: Duration = Duration::from_secs(1);

/// Subject on which every micro service answers.
const PING: &str = "$SRV.PING";

/// What the bucket of the living holds.
#[derive(Clone, Debug, Default)]
pub struct Living {
    /// The data directory's name of who holds the lease.
    pub leader_node: Option<String>,
    /// The last sign of each.
    pub signs: Vec<Sign>,
    /// Entries that are none that we can read.
    pub n_unreadable: usize,
}

/// The last sign of life of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Who.
    pub member: Member,
    /// The broker's clock when it stored the sign.
    pub at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Pong {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    member: String,
}

impl Inspect {
    /// Reads the last sign of life of everybody.
    ///
    /// # Errors
    ///
    /// When the broker does not tell, or does not permit to ask.
    pub async fn living(&self) -> Result<Living, Error> {
        let names = &self.core.subjects;
        let bucket = names.bucket_stream(BucketId::Members);
        let all = names.key(BucketId::Members, ">");
        let former_lease = names.former_leader_key();
        let member = names.key(BucketId::Members, MEMBER_KEY_PREFIX);
        let mut log =
            LogReader::open(self.core.clone(), bucket, all.clone(), Start::LastPerSubject);
        let read = async {
            let mut living = Living::default();
            loop {
                match log.next().await? {
                    LogItem::Opened => living = Living::default(),
                    LogItem::CaughtUp => return Ok(living),
                    LogItem::Message(it) if is_mark(it.headers.as_ref()) => {}
                    LogItem::Message(it) if it.subject == former_lease => {}
                    LogItem::Message(it) if it.subject.starts_with(&member) => {
                        match serde_json::from_slice(&it.payload) {
                            Ok(member) => living.signs.push(Sign { member, at: it.at }),
                            Err(_unreadable) => living.n_unreadable += 1,
                        }
                    }
                    LogItem::Message(_) => living.n_unreadable += 1,
                }
            }
        };
        let mut living = self.bounded(&all, read).await?;
        if let Ok(Ok(Found::Held(_, holder))) = timeout_at(self.deadline, look(&self.core)).await {
            living.leader_node = Some(holder.node);
        }
        Ok(living)
    }

    /// Asks all members at once, and returns the ids of those who answer. Does not wait
    /// longer than for `expected` of them.
    ///
    /// # Errors
    ///
    /// When the connection is closed.
    pub async fn answering(&self, expected: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        let client = &self.core.client;
        let failed = |error: crate::error::Cause| Error::client("ask who is there", error);
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|it| failed(it.into()))?;
        let asked = client.publish_with_reply(PING, inbox, bytes::Bytes::new()).await;
        asked.map_err(|it| failed(it.into()))?;
        let mut found = BTreeSet::new();
        let by = self.deadline.min(Instant::now() + PING_WAIT);
        while !expected.is_subset(&found) {
            match timeout_at(by, answers.next()).await {
                Ok(Some(answer)) => {
                    // Other services of the account answer as well.
                    if let Ok(pong) = serde_json::from_slice::<Pong>(&answer.payload) {
                        found.insert(pong.metadata.member);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        found.remove("");
        Ok(found)
    }
}
