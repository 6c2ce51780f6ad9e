//! The load: clients that publish events, by HTTP and directly, and send each again under the
//! same id until it is accepted, as the documents ask.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, jetstream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    clients::{Answer, Http},
    history::{Accepted, delivery},
};

/// Who the events are from.
const SOURCE: &str = "chaos";
/// First wait before an event is sent again; doubles up to [`AGAIN_LAST`].
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_LAST: Duration = Duration::from_secs(2);
/// What a client keeps open at most.
const OPEN_MAX: usize = 20;
/// How long the broker may take to acknowledge.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// What the clients have done so far.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

/// What the clients have done.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// What was acknowledged.
    pub accepted: Vec<Accepted>,
    /// What was given up.
    pub unanswered: Vec<String>,
    /// Tries that failed and were made again.
    pub n_again: usize,
    /// From the first try to the answer, in milliseconds, the longest.
    pub longest_ms: u128,
}

impl Tally {
    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.with(|it| it.clone())
    }

    /// Returns the number of acknowledged events.
    #[must_use]
    pub fn n_accepted(&self) -> usize {
        self.with(|it| it.accepted.len())
    }
}

/// By which way a client publishes.
#[derive(Clone, Debug)]
pub enum Way {
    /// By HTTP through a gateway; another one when the first does not answer.
    Http(Http),
    /// Directly to the broker, as any publisher may.
    Nats(jetstream::Context),
}

impl Way {
    /// Returns who the events that come this way are taken to be from.
    const fn origin(&self) -> &'static str {
        match self {
            // A program on the gateway's own host.
            Self::Http(_) => "local",
            Self::Nats(_) => "nats",
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its name, part of its ids.
    pub name: String,
    /// The gateway that it asks first.
    pub first: usize,
    /// By which way.
    pub way: Way,
    /// Names of configured targets, about which it publishes now and then.
    pub targets: Vec<String>,
    /// Its own chance.
    pub chance: Chance,
    /// Time between two events, on average.
    pub every: Duration,
    /// Where it counts.
    pub tally: Tally,
}

/// Targets that are not configured and of which a client has said that they are in trouble.
type Open = VecDeque<String>;

impl Client {
    /// Publishes until `stop`, then says of everything that is open that it is over. Tries
    /// again until `give_up`.
    pub async fn run(mut self, stop: CancellationToken, give_up: CancellationToken) {
        let mut open = Open::new();
        let mut n = 0;
        while !stop.is_cancelled() {
            n += 1;
            let event = self.next_event(n, &mut open);
            self.publish(event, &give_up).await;
            let wait = self.chance.between(Duration::ZERO, self.every * 2);
            let _stopped = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        for target in open {
            n += 1;
            let event = self.event(n, "chaos_event", &target, "resolved");
            self.publish(event, &give_up).await;
        }
    }

    fn event(&self, n: usize, kind: &str, target: &str, status: &str) -> Value {
        json!({"id": format!("{}-{n}", self.name), "source": SOURCE, "type": kind, "target": target,
            "status": status, "payload": {"n": n}})
    }

    /// Returns a new trouble, one more event of the same, or the end of one.
    fn next_event(&mut self, n: usize, open: &mut Open) -> Value {
        let known = self.chance.pick(&self.targets).cloned();
        if let Some(target) = known.filter(|_| self.chance.percent(3)) {
            // False alarm or not: that is for the system to find out.
            return self.event(n, "service_down", &target, "firing");
        }
        if open.len() == OPEN_MAX || !open.is_empty() && self.chance.percent(30) {
            let target = open.pop_front().unwrap_or_default();
            return self.event(n, "chaos_event", &target, "resolved");
        }
        if !open.is_empty() && self.chance.percent(40) {
            let idx = self.chance.below(u64::try_from(open.len()).unwrap_or(1));
            let target = open.get(usize::try_from(idx).unwrap_or_default()).cloned();
            return self.event(n, "chaos_event", &target.unwrap_or_default(), "firing");
        }
        let target = format!("thing-{}-{n}", self.name);
        open.push_back(target.clone());
        self.event(n, "chaos_event", &target, "firing")
    }

    async fn publish(&self, event: Value, give_up: &CancellationToken) {
        let id = event.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let begun = Instant::now();
        let mut wait = AGAIN_FIRST;
        for n_try in 0.. {
            let sent = give_up.run_until_cancelled(self.send(n_try, &id, &event)).await;
            let why = match sent {
                Some(Ok(incident)) => {
                    let mut sent = event.clone();
                    if let Some(fields) = sent.as_object_mut() {
                        fields.insert("origin".to_owned(), json!({"name": self.way.origin()}));
                    }
                    let accepted = Accepted { delivery: delivery(&sent), id, incident };
                    return self.tally.with(|it| {
                        it.accepted.push(accepted);
                        it.longest_ms = it.longest_ms.max(begun.elapsed().as_millis());
                    });
                }
                Some(Err(Failure::Final(why))) => why,
                Some(Err(Failure::Again)) => {
                    self.tally.with(|it| it.n_again += 1);
                    let _over = give_up.run_until_cancelled(tokio::time::sleep(wait)).await;
                    wait = (wait * 2).min(AGAIN_LAST);
                    continue;
                }
                None => "nobody took it in time".to_owned(),
            };
            return self.tally.with(|it| it.unanswered.push(format!("event {id}: {why}")));
        }
    }

    /// Sends an event once; returns the incident that the answer names, if it names one.
    async fn send(&self, n_try: usize, id: &str, event: &Value) -> Result<Option<String>, Failure> {
        match &self.way {
            Way::Http(http) => {
                let sent = http.post(self.first + n_try, "/publish_event", event).await;
                judge_answer(&sent.map_err(|_lost| Failure::Again)?)
            }
            Way::Nats(context) => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", id);
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
                let subject = format!("selfheal.event.{kind}");
                let publish = async {
                    let payload = event.to_string().into();
                    context.publish_with_headers(subject, headers, payload).await?.await
                };
                let acknowledged = tokio::time::timeout(ACK_WITHIN, publish).await;
                match acknowledged {
                    Ok(Ok(_)) => Ok(None),
                    Ok(Err(_)) | Err(_) => Err(Failure::Again),
                }
            }
        }
    }
}

enum Failure {
    /// Try again, under the same id.
    Again,
    /// Trying again is of no use.
    Final(String),
}

fn judge_answer(answer: &Answer) -> Result<Option<String>, Failure> {
    match answer.status {
        200 | 202 => {
            let incident = answer.body.get("incident_id").and_then(Value::as_str);
            Ok(incident.map(str::to_owned))
        }
        // What the documents say may be sent again; a proxy's own answers are like it.
        408 | 500..=599 => Err(Failure::Again),
        status => Err(Failure::Final(format!("answered with {status}: {}", answer.body))),
    }
}
