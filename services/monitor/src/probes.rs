//! Probes: one look at one thing, by each kind of check.
//!
//! A new one is a file in `probes/` and its two lines here. What it looks at is a field
//! of [`Check`] and a variant of [`domain::check::Probe`].

use std::{sync::Arc, time::Duration};

use domain::{
    check::{Check, Probe},
    target::Target,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    instruments::Instruments,
    sample::{Begun, Finding, Outcome, Sample},
    share,
};

#[rustfmt::skip]
static LIST: [Entry; 9] = [
    Entry { name: "command", sample: command::sample, follow: poll },
    Entry { name: "cpu", sample: cpu::sample, follow: poll },
    Entry { name: "disk", sample: disk::sample, follow: poll },
    Entry { name: "docker", sample: docker::sample, follow: docker::follow },
    Entry { name: "http", sample: http::sample, follow: poll },
    Entry { name: "memory", sample: memory::sample, follow: poll },
    Entry { name: "process", sample: process::sample, follow: process::follow },
    Entry { name: "prometheus", sample: prometheus::sample, follow: poll },
    Entry { name: "tcp", sample: tcp::sample, follow: poll },
];
mod command;
mod cpu;
mod disk;
mod docker;
mod http;
mod memory;
mod process;
mod prometheus;
mod tcp;

/// A kind of probe.
struct Entry {
    /// As in the configuration.
    name: &'static str,
    /// Looks once.
    sample: for<'a> fn(&'a Question) -> BoxFuture<'a, Finding>,
    /// Looks again and again, and at once when the platform tells of a change.
    follow: fn(Arc<Question>, Follower) -> BoxFuture<'static, ()>,
}

/// What is looked at, and with what.
#[derive(Clone, Debug)]
pub struct Question {
    /// The target.
    pub target: Arc<Target>,
    /// Its check.
    pub check: Check,
    /// What all probes share.
    pub instruments: Instruments,
}

impl Question {
    /// Says whether the local list lets it be asked.
    fn permitted(&self) -> Result<(), String> {
        self.instruments.allow().permits(&self.check)
    }
}

/// A sample of the check with this index.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Index among all checks of the target.
    pub check_idx: usize,
    /// What was seen.
    pub sample: Sample,
}

/// Where samples of one check go.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Index among all checks of the target.
    pub check_idx: usize,
    /// Takes the samples.
    pub samples: mpsc::Sender<Seen>,
    /// Asks for a sample at once.
    pub hurry: Arc<Notify>,
}

impl Follower {
    async fn tell(&self, sample: Sample) {
        let sample = Sample { finding: sample.finding.aged(), ..sample };
        // The receiver is gone when nobody is interested any more; then this ends too.
        let seen = Seen { check_idx: self.check_idx, sample };
        if self.samples.send(seen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns the name of a probe, as in the configuration.
#[must_use]
pub const fn name(probe: Probe<'_>) -> &'static str {
    match probe {
        Probe::Http(_) => "http",
        Probe::Tcp(_) => "tcp",
        Probe::Process => "process",
        Probe::Docker => "docker",
        Probe::Command(_) => "command",
        Probe::Disk(_) => "disk",
        Probe::Memory => "memory",
        Probe::Cpu => "cpu",
        Probe::Prometheus(_) => "prometheus",
    }
}

/// Returns the name of a check's probe.
#[must_use]
pub fn name_of(check: &Check) -> &'static str {
    check.probe().map_or("invalid", name)
}

fn entry(check: &Check) -> Result<&'static Entry, String> {
    let name = name(check.probe().map_err(|error| error.to_string())?);
    LIST.iter().find(|entry| entry.name == name).ok_or_else(|| format!("no probe {name}"))
}

/// Looks once, for no longer than the check's time limit.
pub async fn look(question: &Question) -> Sample {
    look_within(question, question.check.timeout.to_std()).await
}

/// Looks once, for no longer than `limit`.
pub async fn look_within(question: &Question, limit: Duration) -> Sample {
    let begun = Begun::now();
    let entry = entry(&question.check);
    let finding = match entry.and_then(|it| question.permitted().map(|()| it)) {
        Ok(entry) => tokio::time::timeout(limit, (entry.sample)(question))
            .await
            .unwrap_or_else(|_elapsed| no_answer(&question.check, limit)),
        Err(why) => Finding::not_asked(why),
    };
    let sample = begun.ended(finding);
    count(question, &sample);
    sample
}

/// Returns what it means that there was no answer within `limit`.
///
/// A target that does not answer in the time that its check allows has failed. What this host or
/// its container engine does not tell in time says nothing about the target, and neither does a
/// look that was cut short.
fn no_answer(check: &Check, limit: Duration) -> Finding {
    let detail = format!("no answer within {} ms", limit.as_millis());
    match check.probe() {
        Ok(Probe::Docker) => {
            Finding::unseen(detail).with(docker::UNREACHABLE, serde_json::json!(true))
        }
        Ok(Probe::Process) => Finding::unseen(detail),
        Ok(_) | Err(_) if limit < check.timeout.to_std() => Finding::unseen(detail),
        Ok(_) | Err(_) => Finding::failed(detail),
    }
}

/// Looks again and again, until dropped.
pub fn follow(question: Arc<Question>, follower: Follower) -> BoxFuture<'static, ()> {
    let follow = entry(&question.check).map_or(poll as fn(_, _) -> _, |entry| entry.follow);
    follow(question, follower)
}

/// Counts a sample that was taken.
fn count(question: &Question, sample: &Sample) {
    let result = match sample.finding.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Between => "between",
        Outcome::Unseen => "unseen",
        Outcome::NotAsked => "not_asked",
    };
    let probe = name_of(&question.check);
    metrics::counter!("selfheal_checks_total", "probe" => probe, "result" => result).increment(1);
    metrics::histogram!("selfheal_check_seconds", "probe" => probe)
        .record(sample.took.as_secs_f64());
}

/// Looks at once, and then each `every`, counted from beginning to beginning.
fn poll(question: Arc<Question>, follower: Follower) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let every = question.check.every.to_std();
        let phase = share::phase(&question.target.name, &question.check.label());
        let mut wait = every.mul_f64(phase);
        let mut n_failed = 0_u32;
        loop {
            let begun = Instant::now();
            let sample = look(&question).await;
            let failed = sample.finding.outcome == Outcome::Failed;
            n_failed = if failed { n_failed.saturating_add(1) } else { 0 };
            // A first failure is looked into sooner: most of the time to detect would
            // otherwise be spent waiting to be sure.
            let in_doubt = failed && n_failed < question.check.fail_after;
            let next = begun + if in_doubt { wait.min(every / 2) } else { wait };
            wait = every;
            follower.tell(sample).await;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = follower.hurry.notified() => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_the_folder_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let listed: Vec<_> = LIST.iter().map(|entry| entry.name.to_owned()).collect();
        assert_eq!(listed, files);
    }

    #[test]
    fn every_probe_of_the_configuration_is_in_the_list() {
        let command = [String::new()];
        let (url, query) = (String::new(), String::new());
        let asked = domain::check::PrometheusCheck { url, query, sick: None };
        for probe in [
            Probe::Http(""),
            Probe::Tcp(""),
            Probe::Process,
            Probe::Docker,
            Probe::Command(&command),
            Probe::Disk(""),
            Probe::Memory,
            Probe::Cpu,
            Probe::Prometheus(&asked),
        ] {
            assert!(LIST.iter().any(|entry| entry.name == name(probe)), "{probe:?}");
        }
    }
}
