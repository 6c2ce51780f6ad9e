//! The analyzer: asks monitors as `analyzer::gather` does, and judges with
//! `analyzer::diagnose`.

use std::time::Duration;

use ::analyzer::{Findings, diagnose, is_doubtful, patience, report_id, report_of};
use domain::{
    catalogue::Catalogue,
    target::Target,
    wire::{DiagnoseWork, Envelope, Hypothesis, Input, ProbeReply, ProbeRequest, WorkKind, cause},
};
use tokio::sync::oneshot;

use super::{
    Agent,
    hand::{self, Fate},
    lane::Lanes,
};
use crate::{
    broker::Job,
    bug::Bug,
    clock::{Micros, micros},
    world::{Asked, Kind},
};

const LOOK: Duration = Duration::from_millis(2300);
const ON_THE_WAY: Duration = Duration::from_millis(300);
const DOUBT: Duration = Duration::from_millis(300);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn start(agent: &Agent) {
    let lanes = Lanes::default();
    let owned = agent.clone();
    let work = move |job: Job| {
        let (agent, lanes) = (owned.clone(), lanes.clone());
        async move { run(&agent, &lanes, &job).await }
    };
    agent.spawn(hand::serve(agent.clone(), WorkKind::Diagnose, 16, work));
}

async fn run(agent: &Agent, lanes: &Lanes, job: &Job) -> Fate {
    let work: DiagnoseWork = serde_json::from_slice(&job.payload).expect("work can be read");
    let begun = agent.now();
    let findings = gather(agent, &work).await;
    let own = agent.world.node(agent.node).config.borrow().clone();
    let own = own.as_ref().map(|(_, config)| config.runbooks.as_slice());
    let catalogue = Catalogue::with(own.unwrap_or_default());
    let mut found = diagnose(&work, &findings, &catalogue);
    let probe = findings.target.as_ref();
    if probe.is_some_and(|it| !it.unseen.is_empty() || !it.unseen_checks.is_empty()) {
        agent.world.laws.borrow_mut().words.incomplete(work.work);
        if agent.world.bug(Bug::IncompleteLookIsFinal) {
            let incomplete = |it: &&mut Hypothesis| it.cause == cause::EVIDENCE_INCOMPLETE;
            found.hypotheses.iter_mut().filter(incomplete).for_each(|it| {
                "unexplained".clone_into(&mut it.cause);
            });
        }
    }
    let took = Duration::from_micros(agent.now() - begun);
    let report = report_of(&work, found, &agent.member, took);
    agent.say(|| {
        let first = report.hypotheses.first();
        let runbook = first.and_then(|it| it.runbook.as_deref());
        format!("{} diagnosed: {:?}, {runbook:?}", work.work.incident, first.map(|it| &it.cause))
    });
    let envelope = Envelope::new(report_id(&report), Input::Analysis(report));
    match lanes.submit(agent, &envelope).await {
        Ok(_) => Fate::Done,
        Err(_) => Fate::Later(AGAIN),
    }
}

async fn gather(agent: &Agent, work: &DiagnoseWork) -> Findings {
    let mut findings = Findings::none(agent.utc());
    let Some(target) = &work.target else { return findings };
    let until = agent.now() + micros(patience(work, findings.now));
    let mut near = vec![target.clone()];
    near.extend(work.dependencies.iter().cloned());
    let Some(reply) = ask(agent, near, until).await else {
        findings.silent_zones.push(target.zone.clone());
        return findings;
    };
    findings.n_samples = 1;
    let again = is_doubtful(work, target, &reply);
    findings.take(target, reply);
    if again {
        agent.sleep(DOUBT).await;
        if let Some(reply) = ask(agent, vec![target.clone()], until).await {
            findings.n_samples = 2;
            findings.take(target, reply);
        }
    }
    findings.now = agent.utc();
    findings
}

async fn ask(agent: &Agent, targets: Vec<Target>, until: Micros) -> Option<ProbeReply> {
    let mut pause = Duration::from_millis(50);
    while agent.now() < until {
        agent.output().await;
        let (answer, answered) = oneshot::channel();
        let request = ProbeRequest {
            targets: targets.clone(),
            measures: Vec::new(),
            logs: true,
            timeout_ms: 2000,
        };
        let asked = Asked::Probe(Box::new(request), answer);
        agent.world.ask(Kind::Monitor, agent.node, asked);
        let reply = async {
            match answered.await {
                Ok(reply) => reply,
                Err(_lost) => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            biased;
            reply = reply => Some(reply),
            () = agent.sleep(LOOK + ON_THE_WAY) => None,
        };
        if told.is_some() {
            return told;
        }
        agent.sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    None
}
