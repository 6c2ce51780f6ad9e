//! A gateway, a broker, and a desk that answers what a test wants answered.

use std::{process::Stdio, sync::Arc, time::Duration};

use bus::{Bus, Server, testing::Broker};
use bytes::Bytes;
use domain::{
    id::{IncidentId, Position},
    wire::{Answer, AnswerStatus, Envelope},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

/// Longest wait for anything; a busy machine is slow, a defect is endless.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway. Killed when dropped.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    log: watch::Receiver<Vec<Value>>,
}

/// A command line of the gateway with nothing of this process's environment.
pub(crate) fn command(broker: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal-gateway"));
    command
        .env_clear()
        .env("SELFHEAL_LISTEN", "127.0.0.1:0")
        .env("SELFHEAL_SECRET_ENV", "LINKS,SIGNING,TOKEN,URL,KEY,HOOK,NO")
        .args(["--nats-url", broker, "--log-format", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Gateway {
    /// Starts one, and waits until it is ready.
    pub(crate) async fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = command(&broker.url());
        command.args(arguments);
        let mut gateway = Self::spawn(command).await;
        gateway.line("ready").await;
        gateway
    }

    /// Starts one, and waits until it listens.
    pub(crate) async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tx, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                tx.send_modify(|log: &mut Vec<Value>| log.push(line));
            }
        });
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let mut gateway = Self { child, url: String::new(), http, log };
        let listening = gateway.line("listening").await;
        gateway.url = format!("http://{}", listening["address"].as_str().unwrap());
        gateway
    }

    /// Waits for a log line with this message.
    pub(crate) async fn line(&mut self, message: &str) -> Value {
        self.line_with(message, "message", message).await
    }

    /// Waits for a log line with this message whose field has this value.
    pub(crate) async fn line_with(&mut self, message: &str, field: &str, value: &str) -> Value {
        let is_it = |line: &&Value| line["message"] == message && line[field] == value;
        let find = |log: &Vec<Value>| log.iter().find(is_it).cloned();
        let mut log = self.log.clone();
        let found = tokio::time::timeout(PATIENCE, log.wait_for(|log| find(log).is_some())).await;
        match found.ok().and_then(|seen| find(&*seen.ok()?)) {
            Some(line) => line,
            None => panic!("no line `{message}` in {:#?}", *self.log.borrow()),
        }
    }

    /// Returns whether there has been a log line with this message.
    pub(crate) fn has_said(&self, message: &str) -> bool {
        self.log.borrow().iter().any(|line| line["message"] == message)
    }

    /// Returns all log lines so far, as one text.
    pub(crate) fn log_text(&self) -> String {
        self.log.borrow().iter().map(|line| format!("{line}\n")).collect()
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub(crate) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    pub(crate) fn delete(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.delete(format!("{}{path}", self.url))
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    /// Posts JSON and returns status and body.
    pub(crate) async fn send(&self, path: &str, body: Value) -> (u16, Value) {
        heard(self.post(path).json(&body)).await
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the gateway ends").unwrap().code()
    }
}

/// Waits for a condition; tells what it last saw when it never comes.
pub(crate) async fn eventually<T, S: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let begun = std::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if PATIENCE < begun.elapsed() => {
                panic!("never came: {what}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Sends a request and returns status and body.
pub(crate) async fn heard(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

type Decide = dyn Fn(&Envelope) -> Option<Answer> + Send + Sync;

/// In place of a supervisor: keeps what comes in and says what a test wants said.
pub(crate) struct Desk {
    pub(crate) bus: Bus,
    pub(crate) seen: watch::Receiver<Vec<Envelope>>,
    reading: JoinHandle<()>,
    _queries: Server,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Returns an incident's id for tests.
pub(crate) fn an_incident() -> IncidentId {
    IncidentId::derive(chrono::DateTime::UNIX_EPOCH, Position::new(1, 0), "test")
}

pub(crate) fn answer(status: AnswerStatus) -> Option<Answer> {
    Some(Answer {
        status,
        incident_id: Some(an_incident()),
        message: "Incident logged and under analysis.".to_owned(),
    })
}

impl Desk {
    /// Opens a desk that answers everything in this way.
    pub(crate) async fn open(
        broker: &Broker,
        decide: impl Fn(&Envelope) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::at(broker.bus().await.unwrap(), decide).await
    }

    /// Opens a desk on a connection of one's own.
    pub(crate) async fn at(
        bus: Bus,
        decide: impl Fn(&Envelope) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let (tx, seen) = watch::channel(Vec::new());
        let reading = tokio::spawn(read(bus.clone(), Arc::new(decide), tx));
        let all = bus.subjects().query_all();
        let queries = bus.serve(all, "desk", async |asked| Ok(said(&asked.payload))).await.unwrap();
        Self { bus, seen, reading, _queries: queries }
    }

    /// Waits until so many inputs have come, and returns them.
    pub(crate) async fn inputs(&mut self, n_inputs: usize) -> Vec<Envelope> {
        let enough = self.seen.wait_for(|seen| n_inputs <= seen.len());
        tokio::time::timeout(PATIENCE, enough).await.expect("the inputs come").unwrap().clone()
    }
}

async fn read(bus: Bus, decide: Arc<Decide>, tx: watch::Sender<Vec<Envelope>>) {
    let mut inbox = bus.read_inbox(0).await.unwrap();
    loop {
        for message in inbox.next_batch(100, PATIENCE).await.unwrap() {
            let frame: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
            for envelope in frame {
                if let (Some(to), Some(answer)) = (envelope.reply_to.clone(), decide(&envelope)) {
                    let answer = serde_json::to_vec(&answer).unwrap();
                    bus.publish_core(to, answer.into()).await.unwrap();
                }
                tx.send_modify(|seen| seen.push(envelope));
            }
        }
    }
}

/// Answers questions: incident `an_incident()` has a plan, others are not known.
fn said(question: &[u8]) -> Bytes {
    let question: Value = serde_json::from_slice(question).unwrap();
    let answer = match question["what"].as_str().unwrap() {
        "incident" if question["id"] == json!(an_incident()) => {
            json!({ "id": an_incident(), "status": "awaiting_approval", "plan": { "hash": "abc" } })
        }
        "incident" => Value::Null,
        "status" => json!({ "leader": "supervisor-00000000", "n_targets": 2 }),
        _ => json!({ "incidents": [], "next": null, "total": 0, "asked": question }),
    };
    serde_json::to_vec(&answer).unwrap().into()
}
