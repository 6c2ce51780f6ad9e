//! Answers to inputs: stored first, answered when decided.
//!
//! Whoever asks names `<prefix>.many.<number>`. That says: all answers to this process that
//! are due together may come as one message to `<prefix>.many`, a list of pairs of number and
//! answer. In a storm an answer by itself costs more than the decision that it tells. Who does
//! not know of this answers each question at the subject that it names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::{
    trace::TraceContext,
    wire::{Envelope, Input},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::{
    Accepted, Error, InboxWriter, NotAccepted, Subscription, core::Core, inbox,
    topology::FRAME_BYTES_MAX,
};

/// How much longer than the writer promises to wait for what it says about an input.
const GRACE: Duration = Duration::from_millis(100);

/// The part of a subject that permits several answers in one message.
const MANY: &str = "many";

/// What became of an input that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<A> {
    /// It was decided.
    Answer(A),
    /// It is stored and will be decided; nobody answered in time.
    Accepted,
}

/// Those who wait, by the last part of the subject that they named.
type Waiting = HashMap<u64, Question>;

type Awaited = Arc<Mutex<Waiting>>;

/// One who waits. It is woken once, by the answer: that its input is stored is only noted,
/// since most hear of it by the answer.
#[derive(Debug)]
struct Question {
    outcome: oneshot::Sender<Outcome>,
    is_stored: bool,
    /// It waits no longer for the answer, only for the broker.
    is_impatient: bool,
}

/// What wakes one who waits.
#[derive(Debug)]
enum Outcome {
    Answer(Bytes),
    Stored,
    NotAccepted(NotAccepted),
}

impl Question {
    fn tell(self, outcome: Outcome) {
        if self.outcome.send(outcome).is_err() {
            debug!("the one who waited for the answer is gone");
        }
    }
}

/// Listens on one subject for all answers to this process.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Of this process alone, so that a number behind it names one question.
    prefix: String,
    n_asked: AtomicU64,
    awaited: Awaited,
    _dispatcher: AbortOnDropHandle<()>,
}

/// Forgets an awaited answer when nobody waits any more.
struct Await<'a> {
    awaited: &'a Awaited,
    token: u64,
}

impl Drop for Await<'_> {
    fn drop(&mut self) {
        lock(self.awaited).remove(&self.token);
    }
}

fn lock(awaited: &Awaited) -> std::sync::MutexGuard<'_, Waiting> {
    awaited.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    pub(crate) async fn listen(core: &Core) -> Result<Self, Error> {
        let prefix = core.client.new_inbox();
        let subscription = Subscription::open(core, format!("{prefix}.>"), None).await?;
        let awaited = Awaited::default();
        let task = tokio::spawn(dispatch(subscription, Arc::clone(&awaited)));
        Ok(Self {
            prefix,
            n_asked: AtomicU64::new(0),
            awaited,
            _dispatcher: AbortOnDropHandle::new(task),
        })
    }

    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        writer: &InboxWriter,
        input: Input,
        (id, trace): (String, Option<TraceContext>),
        timeout: Duration,
    ) -> Result<Asked<A>, Error> {
        let deadline = Instant::now() + timeout;
        let token = self.n_asked.fetch_add(1, Ordering::Relaxed);
        let (outcome, mut told) = oneshot::channel();
        let question = Question { outcome, is_stored: false, is_impatient: false };
        lock(&self.awaited).insert(token, question);
        let _await = Await { awaited: &self.awaited, token };
        let kind = input.kind();
        let envelope = Envelope {
            reply_to: Some(format!("{}.{MANY}.{token}", self.prefix)),
            ..Envelope::new(id, input).traced(trace)
        };
        let awaited = Arc::clone(&self.awaited);
        let listener = Box::new(move |stored| note(&awaited, token, stored));
        let stored_by = writer.enter(kind, &envelope, listener).map_err(Error::NotAccepted)?;
        let outcome = match timeout_at(deadline, &mut told).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if self.is_stored(token) => return Ok(Asked::Accepted),
            Err(_elapsed) => timeout_at(stored_by.max(deadline) + GRACE, told)
                .await
                .unwrap_or_else(|_elapsed| Ok(Outcome::NotAccepted(inbox::ended()))),
        };
        match outcome {
            Ok(Outcome::Answer(answer)) => {
                Ok(serde_json::from_slice(&answer).map_or_else(
                    |error| {
                        // The input is safe, whatever the answer was meant to say.
                        debug!(%error, "an answer cannot be read");
                        Asked::Accepted
                    },
                    Asked::Answer,
                ))
            }
            Ok(Outcome::Stored) => Ok(Asked::Accepted),
            Ok(Outcome::NotAccepted(why)) => Err(Error::NotAccepted(why)),
            Err(_closed) => Err(Error::NotAccepted(inbox::ended())),
        }
    }

    /// Returns whether an input is stored. If not, whoever waits is woken when it is.
    fn is_stored(&self, token: u64) -> bool {
        let mut awaited = lock(&self.awaited);
        let Some(question) = awaited.get_mut(&token) else { return false };
        question.is_impatient = true;
        question.is_stored
    }
}

/// Notes what the broker says about an input.
fn note(awaited: &Awaited, token: u64, stored: Result<Accepted, NotAccepted>) {
    let mut awaited = lock(awaited);
    // Whoever has its answer already, or has given up, is not there any more.
    let Some(question) = awaited.get_mut(&token) else { return };
    let outcome = match stored {
        Ok(_) if !question.is_impatient => {
            question.is_stored = true;
            return;
        }
        Ok(_) => Outcome::Stored,
        Err(why) => Outcome::NotAccepted(why),
    };
    if let Some(question) = awaited.remove(&token) {
        question.tell(outcome);
    }
}

async fn dispatch(mut subscription: Subscription, awaited: Awaited) {
    while let Some(message) = subscription.next().await {
        let last = message.subject.rsplit('.').next().unwrap_or_default();
        if last != MANY {
            hand_over(&awaited, last.parse().ok(), message.payload);
            continue;
        }
        match serde_json::from_slice::<Vec<(u64, &RawValue)>>(&message.payload) {
            Ok(answers) => {
                for (token, answer) in answers {
                    let answer = message.payload.slice_ref(answer.get().as_bytes());
                    hand_over(&awaited, Some(token), answer);
                }
            }
            // Those who wait hear that their input is stored.
            Err(error) => warn!(%error, "answers that came together cannot be read"),
        }
    }
}

fn hand_over(awaited: &Awaited, token: Option<u64>, answer: Bytes) {
    let waiting = token.and_then(|token| lock(awaited).remove(&token));
    let Some(waiting) = waiting else {
        debug!(token, "an answer came that nobody waits for");
        return;
    };
    waiting.tell(Outcome::Answer(answer));
}

/// Makes messages of answers, as few as may be: subject and payload of each. The answers to
/// one process keep their order.
///
/// # Errors
///
/// When an answer cannot be written as JSON.
pub(crate) fn messages<A: Serialize>(
    answers: &[(String, A)],
) -> Result<Vec<(String, Bytes)>, serde_json::Error> {
    let mut messages = Vec::new();
    let mut together: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (to, answer) in answers {
        let Some((subject, token)) = permits_many(to) else {
            messages.push((to.clone(), serde_json::to_vec(answer)?.into()));
            continue;
        };
        let list = together.entry(subject).or_default();
        list.push(if list.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut *list, &(token, answer))?;
        if FRAME_BYTES_MAX <= list.len() {
            messages.push((subject.to_owned(), closed(std::mem::take(list))));
        }
    }
    let rest = together.into_iter().filter(|(_, list)| !list.is_empty());
    messages.extend(rest.map(|(subject, list)| (subject.to_owned(), closed(list))));
    Ok(messages)
}

fn closed(mut list: Vec<u8>) -> Bytes {
    list.push(b']');
    list.into()
}

/// Returns where an answer may go together with others, and its number among them.
fn permits_many(to: &str) -> Option<(&str, u64)> {
    let (subject, token) = to.rsplit_once('.')?;
    let (_, last) = subject.rsplit_once('.')?;
    Some((subject, token.parse().ok().filter(|_| last == MANY)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answers: &[(&str, &str)]) -> Vec<(String, String)> {
        let answers: Vec<_> = answers.iter().map(|(to, it)| ((*to).to_owned(), *it)).collect();
        let text = |it: Bytes| String::from_utf8(it.to_vec()).unwrap();
        messages(&answers).unwrap().into_iter().map(|(to, it)| (to, text(it))).collect()
    }

    #[test]
    fn answers_to_one_process_go_together_where_it_permits_it() {
        let answers =
            [("a.many.1", "x"), ("b.many.7", "y"), ("c.3", "alone"), ("a.many.2", "z"), ("d", "w")];
        let wanted = [
            ("c.3", r#""alone""#),
            ("d", r#""w""#),
            ("a.many", r#"[[1,"x"],[2,"z"]]"#),
            ("b.many", r#"[[7,"y"]]"#),
        ];
        assert_eq!(told(&answers), wanted.map(|(to, it)| (to.to_owned(), it.to_owned())));
        assert_eq!(told(&[]), []);
    }

    #[test]
    fn what_only_looks_like_a_number_of_ours_is_answered_where_it_says() {
        for to in ["a.many.x", "a.many", "many.1", "a.many.-1", "a.many.1.2", "a.many."] {
            assert_eq!(told(&[(to, "x")]), [(to.to_owned(), r#""x""#.to_owned())]);
        }
    }

    #[test]
    fn many_answers_are_cut_into_messages_that_the_broker_takes() {
        let answers: Vec<_> = (0..300).map(|n| (format!("a.many.{n}"), "x".repeat(4096))).collect();
        let messages = messages(&answers).unwrap();
        assert!(1 < messages.len());
        let mut n_answers = 0;
        for (to, payload) in &messages {
            assert_eq!(to, "a.many");
            assert!(payload.len() < 2 * FRAME_BYTES_MAX);
            n_answers += serde_json::from_slice::<Vec<(u64, String)>>(payload).unwrap().len();
        }
        assert_eq!(n_answers, answers.len());
    }
}
