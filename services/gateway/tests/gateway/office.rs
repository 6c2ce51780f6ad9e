//! A desk that decides for real, in place of a whole supervisor: it reads the inbox, answers,
//! wants work done, and tells what it knows.

use std::sync::{Arc, Mutex};

use bus::{Bus, Server, testing::Broker};
use chrono::Utc;
use domain::{
    config::Config,
    desk::Desk,
    event::Event,
    id::{IncidentId, Position},
    view::{IncidentDetail, Query, TimelineEntry},
    wire::{AnalysisReport, Command, Envelope, Evidence, Hypothesis, Input, Verb, WorkKind},
};
use tokio::task::JoinHandle;

use crate::fixture::PATIENCE;

/// A desk that decides for real.
pub(crate) struct Office {
    pub(crate) bus: Bus,
    desk: Arc<Mutex<Desk>>,
    reading: JoinHandle<()>,
    _queries: Server,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads a configuration, with targets `db` and `api`, and a runbook that needs an approval.
pub(crate) fn config(notify: &str) -> Config {
    let text = format!(
        "targets:\n  - {{name: db, labels: {{team: data}}, docker: {{container: db}}}}\n  - {{name: api, docker: {{container: api}}}}\npolicy: {{retry: {{for: 0s}}}}\n{RUNBOOK}notify:\n{notify}"
    );
    domain::config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"))
}

const RUNBOOK: &str = "runbooks:
  - name: fail-over
    title: Restart <it>
    when: {causes: [container_exited]}
    risk: medium
    steps: [{name: restart, action: docker.restart}]
";

impl Office {
    /// Opens one with this configuration.
    pub(crate) async fn open(broker: &Broker, config: Config) -> Self {
        let bus = broker.bus().await.unwrap();
        bus.config_store().put(serde_json::to_vec(&config).unwrap().into(), 0).await.unwrap();
        let desk = Arc::new(Mutex::new(Desk::default()));
        let reading = tokio::spawn(read(bus.clone(), Arc::clone(&desk)));
        let known = Arc::clone(&desk);
        let all = bus.subjects().query_all();
        let answer = move |asked: bus::Served| {
            let Query::Incident { id } = serde_json::from_slice(&asked.payload).unwrap() else {
                panic!("another question")
            };
            let detail = known.lock().unwrap().detail(id);
            async move { Ok(serde_json::to_vec(&detail).unwrap().into()) }
        };
        let queries = bus.serve(all, "office", answer).await.unwrap();
        let office = Self { bus, desk, reading, _queries: queries };
        let verb = Verb::configure(config);
        office.send(Input::Command(Command::new("test", verb))).await;
        office
    }

    pub(crate) async fn send(&self, input: Input) {
        let kind = input.kind();
        let envelope = Envelope::new(uuid::Uuid::new_v4().to_string(), input);
        self.bus.inbox_writer().submit(kind, envelope).await.unwrap();
    }

    /// Opens an incident of this target.
    pub(crate) async fn down(&self, target: &str) -> IncidentId {
        let mut event = Event::new(target, "service_down".parse().unwrap(), "test");
        event.target = Some(target.to_owned());
        self.send(Input::Event(event)).await;
        let found = self.wait("the incident is open", |desk| {
            desk.open_incidents().find(|it| it.target.as_deref() == Some(target)).map(|it| it.id)
        });
        found.await
    }

    /// Says that nothing explains it: a person is called.
    pub(crate) async fn escalate(&self, target: &str) -> IncidentId {
        let id = self.down(target).await;
        self.diagnose(id, None).await;
        id
    }

    /// Says that a plan of medium risk would cure it: an approval is wanted.
    pub(crate) async fn propose(&self, target: &str) -> (IncidentId, String) {
        let id = self.down(target).await;
        self.diagnose(id, Some("fail-over")).await;
        self.waits_for(id, "approval_requested").await;
        let hash = self.desk.lock().unwrap().incident(id).unwrap().plan().unwrap().hash();
        (id, hash)
    }

    /// Proposes the same plan again, after somebody has asked for another try.
    pub(crate) async fn propose_again(&self, id: IncidentId) {
        self.command(Verb::Retry { incident: id }).await;
        drop(self.decided(id, "retried", 1).await);
        self.diagnose(id, Some("fail-over")).await;
        drop(self.decided(id, "approval_requested", 2).await);
    }

    async fn diagnose(&self, id: IncidentId, runbook: Option<&str>) {
        let work = self.desk.lock().unwrap().incident(id).unwrap().work();
        let hypothesis = |runbook: &str| Hypothesis {
            cause: "container_exited".to_owned(),
            confidence_percent: 90,
            summary: "it has <exited> & stays so".to_owned(),
            because: vec!["exit code 137".to_owned()],
            elsewhere: None,
            runbook: Some(runbook.to_owned()),
            target: None,
        };
        let evidence = Evidence {
            source: "container".to_owned(),
            target: None,
            summary: "exited (137) 3 s ago".to_owned(),
            detail: serde_json::Value::Null,
        };
        let hypotheses = runbook.map(hypothesis).into_iter().collect();
        let metric = Evidence {
            source: Evidence::METRIC.to_owned(),
            summary: "error rate: 0.25 /s".to_owned(),
            ..evidence.clone()
        };
        let (by, evidence) = ("analyzer-1".to_owned(), vec![evidence, metric]);
        self.send(Input::Analysis(AnalysisReport { work, by, hypotheses, evidence, took_ms: 1 }))
            .await;
    }

    pub(crate) async fn command(&self, verb: Verb) {
        self.send(Input::Command(Command::new("ann", verb))).await;
    }

    /// Returns what is known of an incident.
    pub(crate) fn detail(&self, id: IncidentId) -> IncidentDetail {
        self.desk.lock().unwrap().detail(id).unwrap()
    }

    /// Waits until something was decided about an incident, so many times, and returns it.
    pub(crate) async fn decided(&self, id: IncidentId, what: &str, n: usize) -> TimelineEntry {
        let found = self.wait(what, |desk| {
            let timeline = desk.detail(id)?.timeline;
            timeline.into_iter().filter(|it| it.decision == what).nth(n - 1)
        });
        found.await
    }

    async fn waits_for(&self, id: IncidentId, what: &str) {
        drop(self.decided(id, what, 1).await);
    }

    /// Waits for something that the desk knows.
    pub(crate) async fn wait<T>(&self, what: &str, look: impl Fn(&Desk) -> Option<T>) -> T {
        let looking = async {
            loop {
                let found = look(&self.desk.lock().unwrap());
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => panic!("in vain: {what}: {:#?}", self.timelines()),
        }
    }

    fn timelines(&self) -> Vec<Vec<TimelineEntry>> {
        let desk = self.desk.lock().unwrap();
        desk.open_incidents().filter_map(|it| Some(desk.detail(it.id)?.timeline)).collect()
    }
}

async fn read(bus: Bus, desk: Arc<Mutex<Desk>>) {
    let mut inbox = bus.read_inbox(0).await.unwrap();
    loop {
        for message in inbox.next_batch(100, PATIENCE).await.unwrap() {
            let frame: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
            for (idx, envelope) in frame.into_iter().enumerate() {
                let position = Position::new(message.seq, u32::try_from(idx).unwrap());
                let (answer, wishes) = {
                    let mut desk = desk.lock().unwrap();
                    let handled = desk.receive(&envelope.input, position, Utc::now());
                    assert_eq!(handled.faults, []);
                    (handled.answer, desk.pending())
                };
                if let (Some(to), Some(answer)) = (envelope.reply_to, answer) {
                    let answer = serde_json::to_vec(&answer).unwrap();
                    bus.publish_core(to, answer.into()).await.unwrap();
                }
                for wish in wishes.iter().filter(|it| it.kind() == WorkKind::Notify) {
                    let payload = wish.payload().unwrap().into();
                    let work = bus.work();
                    work.publish(wish.kind(), wish.zone(), wish.id(), payload).await.unwrap();
                }
            }
        }
    }
}
