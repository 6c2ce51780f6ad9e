//! Reads the ledger from its first decision on, all the time, before it is purged behind a
//! snapshot.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use bus::{BrokerOptions, LedgerItem, LedgerMessage};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::history::Fact;

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    facts: Vec<Fact>,
    batches: Vec<Batch>,
    broken: Option<String>,
}

/// One message of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When the broker stored it.
    pub at: DateTime<Utc>,
    /// The reign under which it was decided.
    pub epoch: u64,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of decisions.
    #[must_use]
    pub fn n_facts(&self) -> usize {
        self.lock().facts.len()
    }

    /// Returns all messages.
    #[must_use]
    pub fn batches(&self) -> Vec<Batch> {
        self.lock().batches.clone()
    }

    /// Returns all decisions; fails when the reader could not go on.
    ///
    /// # Errors
    ///
    /// What the reader failed with.
    pub fn facts(&self) -> anyhow::Result<Vec<Fact>> {
        let inner = self.lock();
        match &inner.broken {
            Some(broken) => Err(anyhow::anyhow!("cannot read the ledger: {broken}")),
            None => Ok(inner.facts.clone()),
        }
    }

    /// Counts the decisions by name.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.lock().facts.iter().filter(|it| it.kind == kind).count()
    }

    fn add(&self, message: &LedgerMessage, dump: &mut File) -> anyhow::Result<()> {
        writeln!(dump, "{}", String::from_utf8_lossy(&message.payload))?;
        let entry: Value = serde_json::from_slice(&message.payload)?;
        let decisions = entry.get("decisions").and_then(Value::as_array);
        let decisions = decisions.context("a message of the ledger without decisions")?;
        let facts = decisions.iter().map(Fact::read).collect::<Result<Vec<_>, _>>()?;
        let epoch = entry.get("epoch").and_then(Value::as_u64).unwrap_or_default();
        let mut inner = self.lock();
        inner.facts.extend(facts);
        inner.batches.push(Batch { at: message.at, epoch });
        Ok(())
    }
}

/// As whom the ledger is read, and where.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The broker.
    pub url: String,
    /// Name of the client, which says where it listens for answers.
    pub name: &'static str,
}

/// Reads until `stop`. What it reads is also appended to the file `dump`.
///
/// # Errors
///
/// When the broker cannot be reached at first, or the file cannot be written.
pub async fn follow(
    reader: Reader,
    dump: PathBuf,
    seen: Seen,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut dump = File::create(dump)?;
    let Reader { url, name } = reader;
    let options = BrokerOptions { url, name: name.to_owned(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await?;
    bus.wait_for_topology().await?;
    let mut reader = bus.ledger().read(0);
    while let Some(item) = stop.run_until_cancelled(reader.next()).await {
        let added = match item {
            Ok(LedgerItem::Message(message)) => seen.add(&message, &mut dump),
            Ok(LedgerItem::Foreign(_) | LedgerItem::CaughtUp) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = added {
            seen.lock().broken = Some(format!("{error:#}"));
            return Ok(());
        }
    }
    Ok(())
}
