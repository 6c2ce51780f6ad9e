//! Writing the inbox by group commit.
//!
//! What waits while one append is under way goes into the next as one message, so that
//! the broker can sync every message to disk and still take tens of thousands of inputs
//! a second. A lone input goes at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    id::Position,
    wire::{Envelope, InputKind},
};
use tokio::{sync::oneshot, time::Instant};
use tracing::debug;

use crate::{
    core::Core,
    lane::{Lane, Listener, Waiting},
    publish::GIVE_UP,
    topology::FRAME_BYTES_MAX,
};

/// Two brackets around a frame.
const FRAME_BRACKETS: usize = 2;

/// Writes inputs into the inbox. Cheap to clone; all clones share their frames.
#[derive(Clone, Debug)]
pub struct InboxWriter {
    lanes: Arc<[Lane; InputKind::ALL.len()]>,
    give_up: Duration,
}

/// Where an input was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the inbox.
    pub position: Position,
}

/// Why an input was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The inbox or the queue to it is full. Nothing was stored.
    #[error("the inbox is full: {0}")]
    Full(String),
    /// The broker did not acknowledge it in time. It may yet be stored: send it again
    /// under the same id.
    #[error("the broker did not acknowledge it in time: {0}")]
    Unavailable(String),
    /// It is larger than a frame may be.
    #[error("an input of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// It cannot be written as JSON.
    #[error("the input cannot be written: {0}")]
    Unwritable(String),
}

impl NotAccepted {
    /// Returns what the reader can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full(_) => Some(
                "see whether a supervisor leads and has room to write: it empties the inbox (`selfheal status`)",
            ),
            Self::Unavailable(_) => {
                Some("see whether the broker runs; send it again under the same id")
            }
            Self::TooLarge { .. } => Some("send less in one event"),
            Self::Unwritable(_) => None,
        }
    }
}

pub(crate) fn ended() -> NotAccepted {
    NotAccepted::Unavailable("the writer has ended".to_owned())
}

impl InboxWriter {
    pub(crate) fn new(core: &Core) -> Self {
        let lanes =
            InputKind::ALL.map(|kind| Lane::open(core.clone(), kind, core.subjects.frame(kind)));
        Self { lanes: Arc::new(lanes), give_up: GIVE_UP }
    }

    /// Writes for one of our own agents: its events go where nobody else may write.
    pub(crate) fn of_agent(core: &Core) -> Self {
        let lanes = InputKind::ALL.map(|kind| {
            let subject = match kind {
                InputKind::Event => core.subjects.agent_events(),
                InputKind::Analysis
                | InputKind::Fix
                | InputKind::Verification
                | InputKind::Notice
                | InputKind::Command
                | InputKind::Timer => core.subjects.frame(kind),
            };
            Lane::open(core.clone(), kind, subject)
        });
        Self { lanes: Arc::new(lanes), give_up: GIVE_UP }
    }

    /// Returns a writer that waits this long for the broker, instead of ten seconds.
    #[must_use]
    pub fn with_give_up(mut self, give_up: Duration) -> Self {
        self.give_up = give_up;
        self
    }

    /// Stores an input; resolves when the broker has acknowledged it, which it does after
    /// its own sync to disk.
    ///
    /// # Errors
    ///
    /// See [`NotAccepted`].
    pub async fn submit(
        &self,
        kind: InputKind,
        envelope: Envelope,
    ) -> Result<Accepted, NotAccepted> {
        let (tell, told) = oneshot::channel();
        let listener = move |outcome| {
            if tell.send(outcome).is_err() {
                debug!("the one who waited for the acknowledgement is gone");
            }
        };
        self.enter(kind, &envelope, Box::new(listener))?;
        told.await.unwrap_or_else(|_closed| Err(ended()))
    }

    /// Stores inputs of one kind together, in as few frames as hold them; resolves when the
    /// broker has acknowledged all of them.
    ///
    /// # Errors
    ///
    /// See [`NotAccepted`]. Of those that are too large or cannot be written nothing is stored;
    /// otherwise some may be: send all again under the same ids.
    pub async fn submit_all(
        &self,
        kind: InputKind,
        envelopes: &[Envelope],
    ) -> Result<Vec<Accepted>, NotAccepted> {
        let written: Vec<Bytes> = envelopes.iter().map(written).collect::<Result<_, _>>()?;
        let mut waiting = Vec::with_capacity(written.len());
        // Without a pause between them: what enters while a frame is under way shares the next.
        for json in written {
            let (tell, told) = oneshot::channel();
            let listener = move |outcome| {
                if tell.send(outcome).is_err() {
                    debug!("the one who waited for the acknowledgement is gone");
                }
            };
            self.enter_written(kind, json, Box::new(listener))?;
            waiting.push(told);
        }
        let mut accepted = Vec::with_capacity(waiting.len());
        for told in waiting {
            accepted.push(told.await.unwrap_or_else(|_closed| Err(ended()))?);
        }
        Ok(accepted)
    }

    /// Puts an input into its lane. The listener hears what became of it, at the returned
    /// time at the latest; unless there is an error here, or the writer ends.
    pub(crate) fn enter(
        &self,
        kind: InputKind,
        envelope: &Envelope,
        listener: Listener,
    ) -> Result<Instant, NotAccepted> {
        self.enter_written(kind, written(envelope)?, listener)
    }

    fn enter_written(
        &self,
        kind: InputKind,
        json: Bytes,
        listener: Listener,
    ) -> Result<Instant, NotAccepted> {
        let deadline = Instant::now() + self.give_up;
        let waiting = Waiting { json, deadline, listener };
        let Some(lane) = self.lanes.iter().find(|lane| lane.kind() == kind) else {
            return Err(NotAccepted::Unavailable(format!("no way in for {}", kind.as_str())));
        };
        lane.enter(waiting)?;
        Ok(deadline)
    }
}

/// Writes an input as it stands in a frame.
fn written(envelope: &Envelope) -> Result<Bytes, NotAccepted> {
    let json =
        serde_json::to_vec(envelope).map_err(|error| NotAccepted::Unwritable(error.to_string()))?;
    let bytes_max = FRAME_BYTES_MAX - FRAME_BRACKETS;
    if bytes_max < json.len() {
        return Err(NotAccepted::TooLarge { bytes: json.len(), bytes_max });
    }
    Ok(Bytes::from(json))
}
