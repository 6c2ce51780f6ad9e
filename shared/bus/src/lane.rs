//! The way into the inbox for one kind of input: a queue, and one append in flight.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use domain::{id::Position, wire::InputKind};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{
    Accepted, NotAccepted,
    core::Core,
    link::Backoff,
    publish::{self, Fault},
    topology::{FRAME_BYTES_MAX, FRAME_INPUTS_MAX},
};

/// Inputs that may wait in one lane. Beyond it the sender hears at once that we are full.
const QUEUE_INPUTS_MAX: usize = 16 * 1024;

/// Bytes that may wait in one lane.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A frame of so many inputs says that more are coming: the next one waits for [`PACE`].
const BUSY_INPUTS: usize = 4;

/// From one frame to the next while many inputs come. Broker and supervisor spend far more on
/// a frame than on one more input in it (measured: 400 us against 50), so on a disk that syncs
/// in less than this, frames as fast as it takes them would leave no time for inputs.
const PACE: Duration = Duration::from_millis(1);

/// First and last wait between tries of one frame.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// Hears what became of an input. Called on the task that writes, so it must be quick.
pub(crate) type Listener = Box<dyn FnOnce(Result<Accepted, NotAccepted>) + Send>;

/// An input on its way, and who waits for its acknowledgement.
pub(crate) struct Waiting {
    pub(crate) json: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) listener: Listener,
}

impl Waiting {
    fn tell(self, outcome: Result<Accepted, NotAccepted>) {
        (self.listener)(outcome);
    }
}

/// The queue of one kind.
pub(crate) struct Lane {
    kind: InputKind,
    queue: mpsc::Sender<Waiting>,
    n_bytes: Arc<AtomicUsize>,
    _writer: AbortOnDropHandle<()>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Lane {
    pub(crate) fn open(core: Core, kind: InputKind, subject: String) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_INPUTS_MAX);
        let n_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer { subject, core, n_bytes: Arc::clone(&n_bytes) };
        let task = tokio::spawn(writer.run(waiting));
        Self { kind, queue, n_bytes, _writer: AbortOnDropHandle::new(task) }
    }

    pub(crate) const fn kind(&self) -> InputKind {
        self.kind
    }

    pub(crate) fn enter(&self, waiting: Waiting) -> Result<(), NotAccepted> {
        let size = waiting.json.len();
        if QUEUE_BYTES_MAX < self.n_bytes.fetch_add(size, Ordering::Relaxed) + size {
            self.n_bytes.fetch_sub(size, Ordering::Relaxed);
            return Err(NotAccepted::Full("too many bytes wait for the broker".to_owned()));
        }
        self.queue.try_send(waiting).map_err(|error| {
            self.n_bytes.fetch_sub(size, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => {
                    NotAccepted::Full("too many inputs wait for the broker".to_owned())
                }
                mpsc::error::TrySendError::Closed(_) => {
                    NotAccepted::Unavailable("the writer has ended".to_owned())
                }
            }
        })
    }
}

/// Inputs that go into one message.
struct Frame {
    inputs: Vec<Waiting>,
    n_bytes: usize,
}

impl Frame {
    fn new(first: Waiting) -> Self {
        // Two brackets, and a comma for each further input.
        Self { n_bytes: 2 + first.json.len(), inputs: vec![first] }
    }

    /// Takes one more input, or gives it back when the frame is full.
    fn take(&mut self, next: Waiting) -> Option<Waiting> {
        let n_bytes = self.n_bytes + 1 + next.json.len();
        if FRAME_BYTES_MAX < n_bytes || FRAME_INPUTS_MAX <= self.inputs.len() {
            return Some(next);
        }
        self.n_bytes = n_bytes;
        self.inputs.push(next);
        None
    }

    fn payload(&self) -> Bytes {
        let mut payload = Vec::with_capacity(self.n_bytes);
        payload.push(b'[');
        for (idx, input) in self.inputs.iter().enumerate() {
            if 0 < idx {
                payload.push(b',');
            }
            payload.extend_from_slice(&input.json);
        }
        payload.push(b']');
        payload.into()
    }

    fn deadline(&self) -> Option<Instant> {
        self.inputs.iter().map(|input| input.deadline).max()
    }
}

struct Writer {
    core: Core,
    subject: String,
    n_bytes: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        let mut left_over = None;
        let mut not_before = None;
        loop {
            let first = match left_over.take() {
                Some(input) => input,
                None => match queue.recv().await {
                    Some(input) => input,
                    None => return,
                },
            };
            if let Some(not_before) = not_before.take() {
                sleep_until(not_before).await;
            }
            let mut frame = Frame::new(first);
            while left_over.is_none() {
                let Ok(next) = queue.try_recv() else { break };
                left_over = frame.take(next);
            }
            if BUSY_INPUTS <= frame.inputs.len() {
                not_before = Some(Instant::now() + PACE);
            }
            let size: usize = frame.inputs.iter().map(|input| input.json.len()).sum();
            self.append(frame).await;
            self.n_bytes.fetch_sub(size, Ordering::Relaxed);
        }
    }

    /// Stores one frame, trying the very same message under the same id until the last
    /// of those who wait has given up. Each hears at its own deadline at the latest.
    async fn append(&self, frame: Frame) {
        let payload = frame.payload();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let last = frame.deadline().unwrap_or_else(Instant::now);
        let mut inputs: Vec<Option<Waiting>> = frame.inputs.into_iter().map(Some).collect();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let message = PublishMessage::build().payload(payload.clone()).message_id(&id);
            let fault = {
                let mut publish =
                    std::pin::pin!(publish::once(&self.core, &self.subject, message, last));
                loop {
                    let next = next_deadline(&inputs).unwrap_or(last);
                    tokio::select! {
                        biased;
                        outcome = &mut publish => break outcome,
                        () = sleep_until(next), if next < last => expire(&mut inputs),
                    }
                }
            };
            let fault = match fault {
                Ok(ack) => return accept(inputs, ack.sequence),
                Err(fault) => fault,
            };
            match fault {
                Fault::Unknown(_) | Fault::NoStream => {}
                Fault::Full(why) => return refuse(inputs, &NotAccepted::Full(why)),
                Fault::TooLarge(_) => {
                    let bytes_max = self.core.client.max_payload();
                    return refuse(
                        inputs,
                        &NotAccepted::TooLarge { bytes: payload.len(), bytes_max },
                    );
                }
                Fault::WrongSequence | Fault::Refused(_) => {
                    return refuse(inputs, &NotAccepted::Unavailable(fault.to_string()));
                }
            }
            if last <= Instant::now() {
                return refuse(inputs, &NotAccepted::Unavailable(fault.to_string()));
            }
            debug!(%fault, subject = self.subject, "a frame was not acknowledged, sending it again");
            backoff.wait().await;
            expire(&mut inputs);
        }
    }
}

fn next_deadline(inputs: &[Option<Waiting>]) -> Option<Instant> {
    inputs.iter().flatten().map(|input| input.deadline).min()
}

/// Tells those whose patience has ended.
fn expire(inputs: &mut [Option<Waiting>]) {
    let now = Instant::now();
    for place in inputs {
        if place.as_ref().is_some_and(|input| input.deadline <= now)
            && let Some(input) = place.take()
        {
            input.tell(Err(NotAccepted::Unavailable("timed out".to_owned())));
        }
    }
}

fn accept(inputs: Vec<Option<Waiting>>, seq: u64) {
    for (idx, input) in (0_u32..).zip(inputs) {
        if let Some(input) = input {
            input.tell(Ok(Accepted { position: Position::new(seq, idx) }));
        }
    }
}

fn refuse(inputs: Vec<Option<Waiting>>, why: &NotAccepted) {
    for input in inputs.into_iter().flatten() {
        input.tell(Err(why.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(size: usize) -> Waiting {
        let json = vec![b'1'; size].into();
        Waiting { json, deadline: Instant::now(), listener: Box::new(drop) }
    }

    #[tokio::test]
    async fn a_frame_never_exceeds_its_limit_and_is_one_json_array() {
        let mut frame = Frame::new(waiting(100));
        while frame.take(waiting(1000)).is_none() {}
        let payload = frame.payload();
        assert_eq!(payload.len(), frame.n_bytes);
        assert!(payload.len() <= FRAME_BYTES_MAX && FRAME_BYTES_MAX < payload.len() + 1001);
        let many = payload.iter().filter(|byte| **byte == b',').count();
        assert_eq!(many + 1, frame.inputs.len());
    }

    #[tokio::test]
    async fn the_largest_input_fills_a_frame_alone() {
        let mut frame = Frame::new(waiting(FRAME_BYTES_MAX - 2));
        assert!(frame.take(waiting(1)).is_some());
        assert_eq!(frame.payload().len(), FRAME_BYTES_MAX);
    }
}
