//! Asks the monitors how things are.

use std::{collections::BTreeMap, time::Duration};

use bus::Bus;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    measure::Measure,
    span::Span,
    target::Target,
    wire::{DiagnoseWork, ProbeReply, ProbeRequest, TargetProbe},
};
use futures_util::future::{join, join_all};
use service::Chain;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    case::{self, Life},
    findings::Findings,
};

/// Dependencies that are looked at; the nearest come first.
const DEPENDENCIES_MAX: usize = 20;

/// A look may take at least this long, whatever the checks allow themselves: on a busy host the
/// state of a process takes its time, and so does a container engine. One that is complete sooner
/// is answered sooner. Doubles with each look that was not complete.
const LOOK_MIN: Duration = Duration::from_secs(3);
/// At most this long.
const LOOK_MAX: Duration = Duration::from_secs(20);

/// Less is no look, whatever time is left.
const LOOK_LEAST: Duration = Duration::from_millis(500);

/// Looks at most while they are not complete.
const LOOKS_MAX: u32 = 8;

/// What the answer may take on its way, on top of the look itself.
const ON_THE_WAY: Duration = Duration::from_millis(300);

/// Waited for an answer beyond the time of the look: a busy host sends it late.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Kept back from the time that is left, for judging and reporting.
const REPORTING: Duration = Duration::from_secs(1);

/// There is always time for one try: our clock may differ from the broker's.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Other zones are asked for dependencies only; the target's cause is not kept waiting.
const PATIENCE_ELSEWHERE: Duration = Duration::from_secs(4);

/// Pause after a question that nobody heard; doubles up to the second one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A measure has at least this long, whatever is left.
const MEASURE_MIN: Duration = Duration::from_millis(100);

/// A doubtful sample is taken again after this time.
const DOUBT: Duration = Duration::from_millis(300);

/// What outlived a dead target may take so long to end before people are asked about it.
const OUTLIVED: Duration = Duration::from_secs(6);
const OUTLIVED_STEP: Duration = Duration::from_millis(500);

/// Events of monitors come after several failed samples; those of others may tell of one.
const THRESHOLDS_KEPT_BY: &str = "selfheal/monitor";

/// Looks at the target of a piece of work, and at what it needs.
///
/// While no monitor answers it asks again, until nobody waits for the diagnosis any more
/// or `stop` is cancelled.
pub(crate) async fn gather(bus: &Bus, work: &DiagnoseWork, stop: &CancellationToken) -> Findings {
    let mut findings = Findings::none(Utc::now());
    let Some(target) = &work.target else { return findings };
    let until = Instant::now() + patience(work, findings.now);

    let mut zones: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for dependency in work.dependencies.iter().take(DEPENDENCIES_MAX) {
        zones.entry(&dependency.zone).or_default().push(dependency);
    }
    let mut near = vec![target];
    near.extend(zones.remove(target.zone.as_str()).unwrap_or_default());
    let soon = until.min(Instant::now() + PATIENCE_ELSEWHERE);
    let question = |targets, measures| Question { targets, measures, least: LOOK_MIN };
    let here = ask(bus, &target.zone, question(&near, &work.measures), until, stop);
    let there =
        zones.iter().map(|(zone, targets)| ask(bus, zone, question(targets, &[]), soon, stop));
    let (here, there) = join(here, join_all(there)).await;

    for (zone, reply) in zones.keys().zip(there) {
        match reply {
            Some((reply, _)) => findings.dependencies.extend(reply.targets),
            None => findings.silent_zones.push((*zone).to_owned()),
        }
    }
    let Some((reply, allowed)) = here else {
        findings.silent_zones.push(target.zone.clone());
        return findings;
    };
    findings.n_samples = 1;
    findings.allowed = allowed;
    findings.measured.clone_from(&reply.measured);
    let again = is_doubtful(work, target, &reply);
    findings.take(target, reply);
    if again && stop.run_until_cancelled(sleep(DOUBT)).await.is_some() {
        let soon = until.min(Instant::now() + LOOK_MAX);
        let asked = ask(bus, &target.zone, question(&[target], &[]), soon, stop).await;
        if let Some((reply, allowed)) = asked {
            findings.n_samples = 2;
            findings.allowed = allowed;
            findings.take(target, reply);
        }
    }
    complete(bus, &near, &mut findings, until, stop).await;
    outlived(bus, target, &mut findings, until, stop).await;
    // The rules count back from the last look.
    findings.now = Utc::now();
    findings
}

/// Looks again, with more and more patience, while parts of the look did not arrive: nothing may
/// be concluded from what is missing.
async fn complete(
    bus: &Bus,
    near: &[&Target],
    findings: &mut Findings,
    until: Instant,
    stop: &CancellationToken,
) {
    let Some(target) = near.first() else { return };
    let mut least = LOOK_MIN;
    for _ in 0..LOOKS_MAX {
        let missing = |it: &&&Target| {
            let own = findings.target.as_ref().filter(|probe| probe.target == it.name);
            let probe = own.or_else(|| findings.dependency(&it.name));
            probe.is_some_and(|probe| !case::is_complete(probe))
        };
        if !near.iter().any(|it| missing(&it)) || until <= Instant::now() {
            return;
        }
        if !matches!(timeout_at(until, stop.run_until_cancelled(sleep(DOUBT))).await, Ok(Some(())))
        {
            return;
        }
        least = (least * 2).min(LOOK_MAX);
        // The target first: whose answer it is is told by it.
        let again: Vec<&Target> =
            near.iter().take(1).chain(near.iter().skip(1).filter(missing)).copied().collect();
        let question = Question { targets: &again, measures: &[], least };
        debug!(target = target.name, ?least, "evidence is incomplete, looking again");
        let Some((reply, allowed)) = ask(bus, &target.zone, question, until, stop).await else {
            return;
        };
        findings.allowed = allowed;
        findings.take(target, reply);
    }
}

/// Looks again for a while when the target is dead and something answers in its place: workers
/// that outlived it may be about to end.
async fn outlived(
    bus: &Bus,
    target: &Target,
    findings: &mut Findings,
    until: Instant,
    stop: &CancellationToken,
) {
    let until = until.min(Instant::now() + OUTLIVED);
    loop {
        let is_held = |probe: &TargetProbe| {
            let is_answered = !probe.answered_by.is_empty() || !probe.answered_by_left.is_empty();
            case::life(target, probe) == Life::Dead && is_answered
        };
        if !findings.target.as_ref().is_some_and(is_held) {
            return;
        }
        let rest = stop.run_until_cancelled(sleep(OUTLIVED_STEP));
        if !matches!(timeout_at(until, rest).await, Ok(Some(()))) {
            return;
        }
        let near = [target];
        let question = Question { targets: &near, measures: &[], least: LOOK_MIN };
        let Some((reply, allowed)) = ask(bus, &target.zone, question, until, stop).await else {
            return;
        };
        findings.allowed = allowed;
        findings.take(target, reply);
    }
}

/// Returns how long monitors are asked while none answers.
#[must_use]
pub fn patience(work: &DiagnoseWork, now: DateTime<Utc>) -> Duration {
    let left = (work.not_after - now).to_std().unwrap_or_default();
    left.saturating_sub(REPORTING).clamp(PATIENCE_MIN, PATIENCE_MAX)
}

/// Returns whether one more sample could turn the picture.
#[must_use]
pub fn is_doubtful(work: &DiagnoseWork, target: &Target, reply: &ProbeReply) -> bool {
    let Some(probe) = find(reply, &target.name) else { return false };
    let failed = case::failed(target, probe);
    let is_soft = !failed.is_empty() && failed.iter().all(|it| !it.how.is_hard());
    is_soft && work.event.source != THRESHOLDS_KEPT_BY
}

fn find<'a>(reply: &'a ProbeReply, name: &str) -> Option<&'a TargetProbe> {
    reply.targets.iter().find(|probe| probe.target == name)
}

/// What a monitor is asked: how these targets are, and what else it shall measure.
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    targets: &'a [&'a Target],
    measures: &'a [Measure],
    /// The look may take at least this long.
    least: Duration,
}

/// Asks the monitors of a zone until one answers. Returns how long its look was allowed to take,
/// too.
async fn ask(
    bus: &Bus,
    zone: &str,
    question: Question<'_>,
    until: Instant,
    stop: &CancellationToken,
) -> Option<(ProbeReply, Duration)> {
    let first = question.targets.first()?;
    let subject = bus.subjects().probe(zone);
    let mut pause = PAUSE_MIN;
    loop {
        let (request, look) = request(question, until.saturating_duration_since(Instant::now()));
        // Plain data always has a form in JSON.
        let payload = Bytes::from(serde_json::to_vec(&request).ok()?);
        let asked = bus.request(subject.clone(), payload, look + ANSWER_GRACE);
        let answer = timeout_at(until, asked).await.ok()?;
        match answer.map(|bytes| serde_json::from_slice::<ProbeReply>(&bytes)) {
            Ok(Ok(reply)) if find(&reply, &first.name).is_some() => {
                return Some((reply, look));
            }
            Ok(Ok(_)) => debug!(zone, "a monitor answered about other targets"),
            Ok(Err(error)) => debug!(zone, %error, "a monitor's answer cannot be read"),
            Err(error) => debug!(zone, error = %Chain(&error), "no monitor answered yet"),
        }
        let rest = stop.run_until_cancelled(sleep(pause));
        timeout_at(until, rest).await.ok()??;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Returns what a monitor is asked when so much time is left, and how long the look may take.
///
/// A check that has its own time must be given it, or a slow answer would pass for none. A
/// measure has what is left at most: people want it, but the cause does not wait for it.
fn request(question: Question<'_>, left: Duration) -> (ProbeRequest, Duration) {
    let Question { targets, measures, least } = question;
    let in_all = left;
    let left = left.saturating_sub(2 * ON_THE_WAY).max(MEASURE_MIN);
    let in_time = |it: &Measure| {
        let left = Span::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Measure { timeout: it.timeout.min(left), ..it.clone() }
    };
    let measures: Vec<_> = measures.iter().map(in_time).collect();
    let checks = targets.iter().flat_map(|target| &target.checks).map(|it| it.timeout);
    let longest = checks.chain(measures.iter().map(|it| it.timeout)).max().unwrap_or_default();
    // Whoever answers later is not heard. What was cut short by that is no failure.
    let in_time = in_all.saturating_sub(ANSWER_GRACE).max(LOOK_LEAST);
    let look = (longest.to_std() + ON_THE_WAY).clamp(least, LOOK_MAX).min(in_time);
    let request = ProbeRequest {
        targets: targets.iter().map(|target| (*target).clone()).collect(),
        measures,
        logs: true,
        timeout_ms: u64::try_from(look.as_millis()).unwrap_or(u64::MAX),
    };
    (request, look)
}

#[cfg(test)]
mod tests {
    use domain::{check::Check, measure::PrometheusQuery};

    use super::*;

    #[test]
    fn a_measure_never_takes_time_that_the_diagnosis_does_not_have() {
        let measure = |s| Measure {
            name: "queue length".to_owned(),
            prometheus: PrometheusQuery { url: "http://p".to_owned(), query: "q".to_owned() },
            unit: None,
            headers: BTreeMap::new(),
            timeout: Span::from_secs(s),
        };
        let check = Check { timeout: Span::from_secs(2), ..Check::blank() };
        let target = Target { checks: vec![check], ..Target::named("shop") };
        let asked = |s: u64, left: u64| {
            let measures = [measure(s)];
            let question = Question { targets: &[&target], measures: &measures, least: LOOK_MIN };
            let (request, look) = request(question, Duration::from_secs(left));
            assert_eq!(u128::from(request.timeout_ms), look.as_millis());
            (request.measures[0].timeout.as_millis(), look.as_millis())
        };
        assert_eq!(asked(1, 60), (1000, 3000), "the look may take longer");
        assert_eq!(asked(4, 60), (4000, 4300));
        assert_eq!(asked(30, 60), (30000, 20000));
        assert_eq!(asked(5, 3), (2400, 2000), "its answer is there in time");
        assert_eq!(asked(5, 0), (100, 500));
    }
}
