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

use crate::{case, findings::Findings};

/// Dependencies that are looked at; the nearest come first.
const DEPENDENCIES_MAX: usize = 20;

/// A look takes at least this long before it is given up, and at most that long, whatever
/// the checks allow themselves.
const LOOK_MIN: Duration = Duration::from_millis(1500);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What the answer may take on its way, on top of the look itself.
const ON_THE_WAY: Duration = Duration::from_millis(300);

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
    let question = |targets, measures| Question { targets, measures };
    let here = ask(bus, &target.zone, question(&near, &work.measures), until, stop);
    let there =
        zones.iter().map(|(zone, targets)| ask(bus, zone, question(targets, &[]), soon, stop));
    let (here, there) = join(here, join_all(there)).await;

    for (zone, reply) in zones.keys().zip(there) {
        match reply {
            Some(reply) => findings.dependencies.extend(reply.targets),
            None => findings.silent_zones.push((*zone).to_owned()),
        }
    }
    let Some(reply) = here else {
        findings.silent_zones.push(target.zone.clone());
        return findings;
    };
    findings.n_samples = 1;
    findings.measured.clone_from(&reply.measured);
    let again = is_doubtful(work, target, &reply);
    findings.take(target, reply);
    if again && stop.run_until_cancelled(sleep(DOUBT)).await.is_some() {
        let soon = until.min(Instant::now() + LOOK_MAX);
        if let Some(reply) = ask(bus, &target.zone, question(&[target], &[]), soon, stop).await {
            findings.n_samples = 2;
            findings.take(target, reply);
        }
    }
    // The rules count back from the last look.
    findings.now = Utc::now();
    findings
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
}

/// Asks the monitors of a zone until one answers.
async fn ask(
    bus: &Bus,
    zone: &str,
    question: Question<'_>,
    until: Instant,
    stop: &CancellationToken,
) -> Option<ProbeReply> {
    let first = question.targets.first()?;
    let subject = bus.subjects().probe(zone);
    let mut pause = PAUSE_MIN;
    loop {
        let (request, look) = request(question, until.saturating_duration_since(Instant::now()));
        // Plain data always has a form in JSON.
        let payload = Bytes::from(serde_json::to_vec(&request).ok()?);
        let asked = bus.request(subject.clone(), payload, look + ON_THE_WAY);
        let answer = timeout_at(until, asked).await.ok()?;
        match answer.map(|bytes| serde_json::from_slice::<ProbeReply>(&bytes)) {
            Ok(Ok(reply)) if find(&reply, &first.name).is_some() => return Some(reply),
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
    let Question { targets, measures } = question;
    let left = left.saturating_sub(2 * ON_THE_WAY).max(MEASURE_MIN);
    let in_time = |it: &Measure| {
        let left = Span::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Measure { timeout: it.timeout.min(left), ..it.clone() }
    };
    let measures: Vec<_> = measures.iter().map(in_time).collect();
    let checks = targets.iter().flat_map(|target| &target.checks).map(|it| it.timeout);
    let longest = checks.chain(measures.iter().map(|it| it.timeout)).max().unwrap_or_default();
    let look = (longest.to_std() + ON_THE_WAY).clamp(LOOK_MIN, LOOK_MAX);
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
            let question = Question { targets: &[&target], measures: &measures };
            let (request, look) = request(question, Duration::from_secs(left));
            assert_eq!(u128::from(request.timeout_ms), look.as_millis());
            (request.measures[0].timeout.as_millis(), look.as_millis())
        };
        assert_eq!(asked(1, 60), (1000, 2300), "the check may take longer");
        assert_eq!(asked(4, 60), (4000, 4300));
        assert_eq!(asked(5, 60), (5000, 5000));
        assert_eq!(asked(5, 3), (2400, 2700), "its answer is there in time");
        assert_eq!(asked(5, 0), (100, 2300));
    }
}
