//! The way into the inbox, as `bus::InboxWriter`: what waits while one append is under way
//! goes into the next as one frame, which is sent under one id until it is acknowledged.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bus::{Subjects, topology::FRAME_BYTES_MAX};
use bytes::Bytes;
use domain::{
    id::Position,
    wire::{Envelope, InputKind},
};
use tokio::sync::oneshot;

use super::Agent;
use crate::{
    broker::{Op, Reply},
    clock::{Micros, SECOND},
};

/// How long an input is tried to be stored.
pub(crate) const GIVE_UP: Micros = 10 * SECOND;
const TRY: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);
const FRAME_INPUTS_MAX: usize = 1000;

/// It is not known whether the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAccepted;

struct Waiting {
    json: Vec<u8>,
    deadline: Micros,
    answer: oneshot::Sender<Result<Position, NotAccepted>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    is_writing: bool,
}

/// The lanes of one process.
#[derive(Clone, Default)]
pub(crate) struct Lanes {
    queues: Rc<RefCell<BTreeMap<InputKind, Queue>>>,
    n_frames: Rc<std::cell::Cell<u64>>,
    /// Whether its events go where those of our own agents go.
    is_agent: bool,
}

impl Lanes {
    /// Returns those of one of our own agents.
    pub(crate) fn of_agent() -> Self {
        Self { is_agent: true, ..Self::default() }
    }

    /// Stores an input.
    pub(crate) async fn submit(
        &self,
        agent: &Agent,
        envelope: &Envelope,
    ) -> Result<Position, NotAccepted> {
        let kind = envelope.input.kind();
        let json = serde_json::to_vec(envelope).expect("inputs have a form in JSON");
        if FRAME_BYTES_MAX < json.len() + 2 {
            return Err(NotAccepted);
        }
        let (answer, answered) = oneshot::channel();
        let deadline = agent.now() + GIVE_UP;
        let is_writing = {
            let mut lanes = self.queues.borrow_mut();
            let queue = lanes.entry(kind).or_default();
            queue.waiting.push(Waiting { json, deadline, answer });
            std::mem::replace(&mut queue.is_writing, true)
        };
        if !is_writing {
            let (lanes, agent) = (self.clone(), agent.clone());
            agent.clone().spawn(async move { lanes.write(&agent, kind).await });
        }
        answered.await.unwrap_or(Err(NotAccepted))
    }

    async fn write(&self, agent: &Agent, kind: InputKind) {
        loop {
            let frame: Vec<Waiting> = {
                let mut lanes = self.queues.borrow_mut();
                let queue = lanes.entry(kind).or_default();
                if queue.waiting.is_empty() {
                    queue.is_writing = false;
                    return;
                }
                let mut bytes = 2;
                let fits = |it: &&Waiting| {
                    bytes += it.json.len() + 1;
                    bytes <= FRAME_BYTES_MAX
                };
                let n = queue.waiting.iter().take(FRAME_INPUTS_MAX).take_while(fits).count().max(1);
                queue.waiting.drain(..n).collect()
            };
            self.append(agent, kind, frame).await;
        }
    }

    fn subject(&self, kind: InputKind) -> String {
        let names = Subjects::new("selfheal");
        if self.is_agent && kind == InputKind::Event {
            names.agent_events()
        } else {
            names.frame(kind)
        }
    }

    async fn append(&self, agent: &Agent, kind: InputKind, frame: Vec<Waiting>) {
        let mut payload = vec![b'['];
        for (idx, input) in frame.iter().enumerate() {
            if 0 < idx {
                payload.push(b',');
            }
            payload.extend_from_slice(&input.json);
        }
        payload.push(b']');
        let payload = Bytes::from(payload);
        self.n_frames.set(self.n_frames.get() + 1);
        let id = format!("{}/{}/{}", agent.member, kind.as_str(), self.n_frames.get());
        let last = frame.iter().map(|it| it.deadline).max().unwrap_or(0);
        let op =
            Op::Append { id: Some(id), subject: self.subject(kind), headers: Vec::new(), payload };
        let mut outcome = Err(NotAccepted);
        while agent.now() < last {
            if let Some(Reply::Stored(seq)) = agent.call(op.clone(), TRY).await {
                outcome = Ok(seq);
                break;
            }
            agent.sleep(AGAIN).await;
        }
        for (idx, input) in (0_u32..).zip(frame) {
            let outcome = outcome.map(|seq| Position::new(seq, idx));
            // Whoever waited may be gone.
            input.answer.send(outcome).ok();
        }
    }
}
