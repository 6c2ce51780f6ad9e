//! The target's process is alive. The kernel tells its end at once.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use host::process::{Found, KnownBy, Running};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Follower, Question, count};
use crate::{
    processes::{Ending, OomCount, PidFd, Run, run_id},
    sample::{Begun, Finding, Sample},
};

/// How often the pid file is looked at right after an exit: whoever starts the process
/// again does it soon.
const SEARCH_STEP: Duration = Duration::from_millis(10);

/// How long it is looked at so often.
const SEARCH_EAGER: Duration = Duration::from_secs(1);

/// How often all processes are looked through for one that carries the target's name,
/// at most; doubles up to [`SCAN_STEP_MAX`] while there is none.
const SCAN_STEP_MIN: Duration = Duration::from_millis(250);

/// A scan costs milliseconds; so rarely it costs nothing.
const SCAN_STEP_MAX: Duration = Duration::from_secs(5);

/// How often the process is looked at when the kernel gives no descriptor for it.
const WITHOUT_DESCRIPTOR: Duration = Duration::from_millis(100);

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        match question.instruments.processes.look(&question.target).await {
            Some(Found::Running(running)) => alive(&running.main),
            found => absent(question, found).await,
        }
    })
}

fn alive(living: &Run) -> Finding {
    let pid = living.pid;
    Finding::passed(format!("process {pid} runs")).with("pid", json!(pid)).of_run(run_id(living))
}

/// Says why no process can be called the target's.
async fn absent(question: &Question, found: Option<Found>) -> Finding {
    if question.target.process.is_none() {
        return Finding::failed("the target has no process handle");
    }
    if let Some(Found::Unclear { processes, reason }) = found {
        let pids: Vec<i32> = processes.iter().map(|it| it.pid).collect();
        return Finding::failed(reason).with("unclear_pids", json!(pids));
    }
    let finding = match question.instruments.processes.how_it_ended(&question.target).await {
        Some(ending) => dead(&ending),
        None => Finding::failed("no process of the target runs"),
    };
    match found {
        Some(Found::NotRunning { leftovers }) if !leftovers.is_empty() => {
            let pids: Vec<i32> = leftovers.iter().map(|it| it.pid).collect();
            finding.with("left_pids", json!(pids))
        }
        Some(Found::NotRunning { .. } | Found::Unclear { .. } | Found::Running(_)) | None => {
            finding
        }
    }
}

fn dead(ending: &Ending) -> Finding {
    Finding::failed(ending.words()).with("pid", json!(ending.pid)).with("exit", json!(ending))
}

pub(super) fn follow(question: Arc<Question>, follower: Follower) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // A first look that finds nothing is told at once; later an exit was told already.
        let mut tell_after = Duration::ZERO;
        loop {
            let living = search(&question, &follower, tell_after).await;
            stay(&question, &follower, living).await;
            tell_after = question.check.every.to_std();
        }
    })
}

/// Looks for a living process; tells each `every` that there is none.
async fn search(question: &Question, follower: &Follower, tell_after: Duration) -> Run {
    let every = question.check.every.to_std();
    let since = Instant::now();
    let mut scan_step = SCAN_STEP_MIN;
    let mut scan_at = since;
    let mut tell_at = since + tell_after;
    loop {
        let now = Instant::now();
        let scan = scan_at <= now;
        let begun = Begun::now();
        let found = seek(question, scan).await;
        if let Some(Found::Running(running)) = found {
            return running.main;
        }
        if scan {
            scan_at = now + scan_step;
            scan_step = (scan_step * 2).min(SCAN_STEP_MAX);
        }
        if tell_at <= now {
            tell(question, follower, begun.ended(unfound(question, found).await)).await;
            tell_at = now + every;
        }
        let eager = now - since < SEARCH_EAGER;
        let step = if eager { SEARCH_STEP } else { every.min(scan_step) };
        tokio::select! {
            () = sleep(step) => {}
            () = follower.hurry.notified() => tell_at = Instant::now(),
        }
    }
}

/// Looks for the target; through all processes only when `scan` is set.
async fn seek(question: &Question, scan: bool) -> Option<Found> {
    let processes = &question.instruments.processes;
    if scan {
        return processes.look(&question.target).await;
    }
    let main = processes.find(&question.target, false).await?;
    let by = KnownBy::Record;
    Some(Found::Running(Running { main, by, starter: None }))
}

/// The same as [`absent`], after a look that may not have gone through all processes.
async fn unfound(question: &Question, found: Option<Found>) -> Finding {
    match found {
        Some(found) => absent(question, Some(found)).await,
        None => absent(question, question.instruments.processes.look(&question.target).await).await,
    }
}

async fn tell(question: &Question, follower: &Follower, sample: Sample) {
    count(question, &sample);
    follower.tell(sample).await;
}

/// Stays with one run until it has ended, or another one has taken its place.
async fn stay(question: &Question, follower: &Follower, living: Run) {
    let processes = &question.instruments.processes;
    let every = question.check.every.to_std();
    let name = &question.target.name;
    let oom_before = living.id().and_then(OomCount::read);
    let fd = match PidFd::open(&living) {
        Ok(Some(fd)) => Some(fd),
        // It ended between the look and this one.
        Ok(None) => {
            let begun = Begun::now();
            let ending = processes.note_ending(name, &living, oom_before.as_ref());
            return tell(question, follower, begun.ended(dead(&ending))).await;
        }
        Err(error) => {
            tracing::warn!(target = %name, pid = living.pid, %error, "the kernel gives no descriptor for this process, its end is noticed by looking");
            None
        }
    };
    loop {
        let begun = Begun::now();
        // We may have been held up since it was seen last.
        let is_alive = processes.look_alive(name, &living);
        if is_alive {
            tell(question, follower, begun.ended(alive(&living))).await;
        }
        let next = begun.at + every;
        let ended = !is_alive
            || tokio::select! {
                () = ended(fd.as_ref(), &living) => true,
                () = sleep_until(next) => false,
                () = follower.hurry.notified() => false,
            };
        if ended {
            let begun = Begun::now();
            let ending = processes.note_ending(name, &living, oom_before.as_ref());
            return tell(question, follower, begun.ended(dead(&ending))).await;
        }
        // Somebody may have started another one and written its number.
        if processes.find(&question.target, false).await.is_some_and(|found| found != living) {
            return;
        }
    }
}

/// Waits for the end of a run.
async fn ended(fd: Option<&PidFd>, living: &Run) {
    if let Some(fd) = fd
        && fd.ended().await.is_ok()
    {
        return;
    }
    while living.is_alive() {
        sleep(WITHOUT_DESCRIPTOR).await;
    }
}
