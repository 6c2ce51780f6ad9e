//! The gateway: events and commands of others go into the inbox, and whoever sent them
//! hears what became of them. Notices go out.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use domain::{
    event::{self, Context, Event, Origin},
    wire::{Command, Envelope, Input, NoticeReport, NotifyWork, WorkKind},
};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{
    Agent,
    hand::{self, Fate},
    lane::Lanes,
};
use crate::{broker::Job, bug::Bug, world::Asked};

/// How long the leader's answer is waited for once the broker has the input.
/// Who the gateway takes all senders for. Each uses several doors, and is one sender at each.
const ORIGIN: &str = event::NATS;
const ANSWER: Duration = Duration::from_secs(5);

/// What the sender hears.
#[derive(Clone, Debug)]
pub(crate) enum Answered {
    /// 200.
    Done,
    /// 202: the broker has it.
    Accepted,
    /// 503: send it again.
    Unavailable,
    /// 400.
    Refused,
}

pub(crate) fn start(agent: &Agent, asked: UnboundedReceiver<Asked>) {
    // What our own agents report was seen by checks.
    let lanes = if agent.world.bug(Bug::PassingChecksProveAnything) {
        Lanes::of_agent()
    } else {
        Lanes::default()
    };
    let (owned, own_lanes) = (agent.clone(), lanes.clone());
    let notify = move |job: Job| {
        let (agent, lanes) = (owned.clone(), own_lanes.clone());
        async move { notify(&agent, &lanes, &job).await }
    };
    agent.spawn(hand::serve(agent.clone(), WorkKind::Notify, 8, notify));
    let owned = agent.clone();
    agent.spawn(async move { serve(&owned, &lanes, asked).await });
}

async fn serve(agent: &Agent, lanes: &Lanes, mut asked: UnboundedReceiver<Asked>) {
    let n = Rc::new(std::cell::Cell::new(0_u64));
    while let Some(asked) = asked.recv().await {
        n.set(n.get() + 1);
        let (owned, lanes, n) = (agent.clone(), lanes.clone(), n.get());
        agent.spawn(async move {
            match asked {
                Asked::Http(body, sender) => {
                    let answered = take(&owned, &lanes, &body, n).await;
                    drop(sender.send(answered));
                }
                Asked::Command(command, id, sender) => {
                    let answered = command_of(&owned, &lanes, *command, id).await;
                    drop(sender.send(answered));
                }
                Asked::Probe(..) | Asked::Open(..) | Asked::Live(..) => {}
            }
        });
    }
}

async fn take(agent: &Agent, lanes: &Lanes, body: &Bytes, n: u64) -> Answered {
    let made_up = || format!("{}-{n}", agent.member);
    let decoded = event::json(body).and_then(|value| {
        let context = Context { id: made_up(), kind: None, at: agent.utc() };
        event::plain(value, &context)
    });
    let Ok(mut event) = decoded else { return Answered::Refused };
    if agent.world.bug(Bug::DedupeDropped) {
        event.id = made_up();
    }
    if !agent.world.bug(Bug::PassingChecksProveAnything) {
        event = event.sent_by(Origin::new(ORIGIN));
    }
    mistaken(agent, &mut event);
    let id = event.delivery().to_string();
    ask(agent, lanes, Input::Event(event), id).await
}

/// Makes of an event what the desk must not be told.
fn mistaken(agent: &Agent, event: &mut Event) {
    let world = &agent.world;
    if world.bug(Bug::PassingChecksProveAnything) {
        event.source = "selfheal/outside".to_owned();
    }
    if world.bug(Bug::LabelsIgnored) && event.target.is_some() {
        event.labels.clear();
        if let Some(payload) = event.payload.as_object_mut() {
            payload.remove("service");
        }
    }
    if world.bug(Bug::FingerprintOfTheConfigured) {
        let config = world.node(agent.node).config.borrow().clone();
        let target = config.and_then(|(_, it)| it.target_of(event).map(|it| it.name.clone()));
        event.fingerprint = Some(format!("{}@{target:?}", event.kind));
    }
}

async fn command_of(agent: &Agent, lanes: &Lanes, command: Command, id: String) -> Answered {
    ask(agent, lanes, Input::Command(command), id).await
}

/// Puts an input into the inbox and waits for the leader's answer.
async fn ask(agent: &Agent, lanes: &Lanes, input: Input, id: String) -> Answered {
    let subject = format!("_INBOX.{}.{id}.{}", agent.member, agent.now());
    let (sender, answer) = oneshot::channel();
    agent.world.inboxes.borrow_mut().insert(subject.clone(), sender);
    let envelope = Envelope { reply_to: Some(subject.clone()), ..Envelope::new(id, input) };
    if agent.world.bug(Bug::AnswerBeforeAppend) {
        let (lanes, owned) = (lanes.clone(), agent.clone());
        agent.spawn(async move {
            lanes.submit(&owned, &envelope).await.ok();
        });
        return Answered::Accepted;
    }
    let answered = match lanes.submit(agent, &envelope).await {
        Err(_) => Answered::Unavailable,
        Ok(_) => {
            let told = tokio::select! {
                biased;
                told = answer => told.ok(),
                () = agent.sleep(ANSWER) => None,
            };
            told.map_or(Answered::Accepted, |_| Answered::Done)
        }
    };
    agent.world.inboxes.borrow_mut().remove(&subject);
    agent.output().await;
    answered
}

async fn notify(agent: &Agent, lanes: &Lanes, job: &Job) -> Fate {
    let work: NotifyWork = serde_json::from_slice(&job.payload).expect("work can be read");
    agent.output().await;
    let report = NoticeReport {
        work: work.work,
        notice: work.notice.clone(),
        by: agent.member.to_string(),
        outcome: Ok("told".to_owned()),
        again: false,
        keep: None,
    };
    let id = format!("{}/notice/{}/{}", work.work.incident, work.notice, agent.member);
    let envelope = Envelope::new(id, Input::Notice(report));
    match lanes.submit(agent, &envelope).await {
        Ok(_) => Fate::Done,
        Err(_) => Fate::Later(Duration::from_secs(1)),
    }
}
