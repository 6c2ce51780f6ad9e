//! Requests over kept connections, made so that the generator costs little itself.
//!
//! One template per connection, in which only some digits change; answers are looked at
//! as far as status and length.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
    time::{Instant, sleep_until},
};

use crate::histogram::Histogram;

/// Stands in the template where the number goes.
const HOLE: &str = "#########";
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What is sent.
#[derive(Clone, Debug)]
pub struct Bodies {
    template: String,
    first: u64,
    /// Numbers repeat after so many.
    n_different: u64,
}

impl Bodies {
    /// Events that each open an incident: services `first` and up.
    #[must_use]
    pub fn distinct(first: u64) -> Self {
        Self { template: event_template(), first, n_different: u64::MAX }
    }

    /// Events of `n` fingerprints, again and again.
    #[must_use]
    pub fn repeated(n: u64) -> Self {
        Self { template: event_template(), first: 0, n_different: n.max(1) }
    }

    /// Groups of `n` alerts as Alertmanager sends them, each of which opens an incident.
    #[must_use]
    pub fn groups(first: u64, n: u64) -> Self {
        Self { template: group_template(n), first, n_different: u64::MAX }
    }

    /// Returns body `idx`.
    #[must_use]
    pub fn body(&self, idx: u64) -> String {
        self.template.replace(HOLE, &format!("{:09}", self.number(idx)))
    }

    fn number(&self, idx: u64) -> u64 {
        (self.first + idx % self.n_different) % 1_000_000_000
    }
}

/// The body of the README.
fn event_template() -> String {
    format!(
        r#"{{"type":"service_down","source":"bench-{HOLE}","payload":{{"service":"s-{HOLE}","timestamp":"2025-08-18T12:34:56Z"}}}}"#
    )
}

/// A group of alerts, each with the labels and annotations that rules usually give.
fn group_template(n: u64) -> String {
    let alert = |idx: u64| {
        format!(
            r#"{{"status":"firing","labels":{{"alertname":"InstanceDown","instance":"10.0.0.{idx}:9100","job":"s-{HOLE}-{idx}","severity":"critical"}},"annotations":{{"summary":"instance 10.0.0.{idx}:9100 is down","description":"it has been down for more than a minute"}},"startsAt":"2026-01-02T03:04:05.678Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1","fingerprint":"{HOLE}{idx:07x}"}}"#
        )
    };
    let alerts: Vec<String> = (0..n).map(alert).collect();
    let alerts = alerts.join(",");
    format!(
        r#"{{"version":"4","groupKey":"{{}}:{{alertname=\"InstanceDown\"}}","truncatedAlerts":0,"status":"firing","receiver":"bench","groupLabels":{{"alertname":"InstanceDown"}},"commonLabels":{{"alertname":"InstanceDown"}},"commonAnnotations":{{}},"externalURL":"http://alertmanager:9093","alerts":[{alerts}]}}"#
    )
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends as soon as it has its answer.
    Closed,
    /// At this rate, whether answers come or not; latency counts from the due time.
    Open {
        /// Requests a second.
        per_s: f64,
    },
}

/// One run of requests.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// The path of the request.
    pub path: &'static str,
    /// The token that each request shows, where one is asked for.
    pub token: Option<String>,
    /// Connections at once.
    pub connections: usize,
    /// How long requests are begun.
    pub span: Duration,
    /// No more than so many requests.
    pub requests_max: u64,
    /// When requests are sent.
    pub pace: Pace,
    /// What is sent.
    pub bodies: Bodies,
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub took: Duration,
    /// Latencies of all answers.
    pub latencies: Histogram,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
}

impl Outcome {
    /// Returns answers a second.
    #[must_use]
    pub fn per_s(&self) -> f64 {
        crate::float(self.latencies.n()) / self.took.as_secs_f64().max(1e-9)
    }

    /// Returns how many answers have this status.
    #[must_use]
    pub fn n(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }
}

struct Run {
    load: Load,
    begun: Instant,
    next: Cell<u64>,
    outcome: RefCell<Outcome>,
}

impl Load {
    /// Runs it on this thread.
    ///
    /// # Errors
    ///
    /// When a connection cannot be made, or breaks.
    pub async fn run(self) -> anyhow::Result<Outcome> {
        let local = LocalSet::new();
        local.run_until(self.run_here()).await
    }

    async fn run_here(self) -> anyhow::Result<Outcome> {
        let mut streams = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.with_context(|| format!("cannot reach {}", self.address))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let run = Rc::new(Run {
            load: self,
            begun: Instant::now(),
            next: Cell::new(0),
            outcome: RefCell::default(),
        });
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::task::spawn_local(Rc::clone(&run).connection(stream)))
            .collect();
        for task in tasks {
            task.await.context("a connection's task failed")??;
        }
        let mut outcome = run.outcome.take();
        outcome.took = run.begun.elapsed();
        Ok(outcome)
    }
}

impl Run {
    /// Returns the next request and when it is due; none at the end.
    fn take(&self) -> Option<(u64, Instant)> {
        let idx = self.next.get();
        let due = match self.load.pace {
            Pace::Closed => Instant::now(),
            Pace::Open { per_s } => self.begun + Duration::from_secs_f64(crate::float(idx) / per_s),
        };
        if self.load.requests_max <= idx || self.begun + self.load.span <= due {
            return None;
        }
        self.next.set(idx + 1);
        Some((idx, due))
    }

    async fn connection(self: Rc<Self>, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut request = Request::new(&self.load);
        let mut answer = BytesMut::with_capacity(16 * 1024);
        let mut latencies = Histogram::default();
        let mut statuses = BTreeMap::new();
        while let Some((idx, due)) = self.take() {
            if Instant::now() < due {
                sleep_until(due).await;
            }
            stream.write_all(request.number(self.load.bodies.number(idx))).await?;
            let status = read_answer(&mut stream, &mut answer).await?;
            latencies.record(due.elapsed());
            *statuses.entry(status).or_insert(0) += 1;
        }
        let mut outcome = self.outcome.borrow_mut();
        outcome.latencies.merge(&latencies);
        for (status, n) in statuses {
            *outcome.statuses.entry(status).or_default() += n;
        }
        Ok(())
    }
}

/// The bytes of a request, in which a number is changed in place.
struct Request {
    bytes: Vec<u8>,
    holes: Vec<usize>,
}

impl Request {
    fn new(load: &Load) -> Self {
        let body = &load.bodies.template;
        let token = load.token.as_ref();
        let token = token.map(|it| format!("authorization: Bearer {it}\r\n")).unwrap_or_default();
        let text = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\n{token}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            load.path,
            load.address,
            body.len(),
        );
        let holes = text.match_indices(HOLE).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), holes }
    }

    fn number(&mut self, mut number: u64) -> &[u8] {
        let mut digits = [b'0'; HOLE.len()];
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
        for at in &self.holes {
            if let Some(hole) = self.bytes.get_mut(*at..at + HOLE.len()) {
                hole.copy_from_slice(&digits);
            }
        }
        &self.bytes
    }
}

/// Reads one answer and returns its status.
///
/// # Errors
///
/// When the connection ends, or the answer has no length.
async fn read_answer(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<u16> {
    let head_len = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if HEAD_BYTES_MAX < buffer.len() {
            bail!("the head of an answer does not end");
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server has closed the connection");
        }
    };
    let (status, body_len) = {
        let head = buffer.get(..head_len).unwrap_or_default();
        (status(head).context("no status")?, body_len(head).context("no content-length")?)
    };
    let whole = head_len + body_len;
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server has closed the connection within an answer");
        }
    }
    buffer.advance(whole);
    Ok(status)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

fn body_len(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = head.windows(NAME.len()).position(|it| it.eq_ignore_ascii_case(NAME))? + NAME.len();
    let digits = head.get(at..)?.iter().take_while(|it| it.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pace: Pace) -> Load {
        Load {
            address: ([127, 0, 0, 1], 1).into(),
            path: "/publish_event",
            token: None,
            connections: 1,
            span: Duration::from_secs(1),
            requests_max: 10,
            pace,
            bodies: Bodies::distinct(7),
        }
    }

    #[test]
    fn a_request_holds_the_body_that_is_told() {
        let load = load(Pace::Closed);
        let mut request = Request::new(&load);
        let text = String::from_utf8(request.number(8).to_vec()).unwrap();
        assert!(text.ends_with(&load.bodies.body(1)), "{text}");
        assert!(text.contains("s-000000008"));
        assert!(text.contains(&format!("content-length: {}\r\n", load.bodies.body(0).len())));
        assert_eq!(Bodies::repeated(3).body(1), Bodies::repeated(3).body(4));
    }

    #[test]
    fn every_alert_of_a_group_has_a_number_of_its_own() {
        let load = Load { bodies: Bodies::groups(7, 100), ..load(Pace::Closed) };
        let mut request = Request::new(&load);
        let text = String::from_utf8(request.number(8).to_vec()).unwrap();
        assert!(text.ends_with(&load.bodies.body(1)) && !text.contains(HOLE), "{text}");
        let group: serde_json::Value = serde_json::from_str(&load.bodies.body(1)).unwrap();
        let alerts = group["alerts"].as_array().unwrap().iter();
        let keys: std::collections::BTreeSet<_> =
            alerts.map(|it| it["fingerprint"].as_str().unwrap()).collect();
        assert_eq!(keys.len(), 100);
        assert!(keys.iter().all(|it| it.len() == 16 && it.starts_with("000000008")), "{keys:?}");
    }

    #[test]
    fn an_answer_is_read_as_far_as_needed() {
        let head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 42\r\n\r\n";
        assert_eq!(status(head), Some(503));
        assert_eq!(body_len(head), Some(42));
    }

    #[tokio::test]
    async fn a_server_is_asked_as_often_as_wanted_and_at_the_pace() {
        let floor = crate::floor::Bare::serve().await.unwrap();
        for pace in [Pace::Closed, Pace::Open { per_s: 1000.0 }] {
            let load = Load { address: floor, connections: 3, ..load(pace) };
            let outcome = load.run().await.unwrap();
            assert_eq!((outcome.latencies.n(), outcome.n(200)), (10, 10));
            if matches!(pace, Pace::Open { .. }) {
                assert!(Duration::from_millis(9) <= outcome.took);
            }
        }
    }
}
