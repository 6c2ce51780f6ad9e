//! What may be looked at for others: the targets and measures of the configuration, and nothing
//! that a message brings. A question names them; what is run and where it is asked stands in the
//! configuration, which supervisors have signed.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use domain::{
    measure::{Measure, Measured},
    target::Target,
    wire::{ProbeReply, ProbeRequest, TargetProbe},
};

/// In [`TargetProbe::unseen`]: the target is not configured here, or not yet.
const CONFIGURATION: &str = "configuration";

/// The targets of the configuration that is known here, of all zones.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<RwLock<BTreeMap<String, Arc<Target>>>>);

/// What a question asks that is not configured, with its places in the answer.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    targets: Vec<(usize, String)>,
    measures: Vec<(usize, String)>,
}

impl Known {
    /// Takes the targets of a new configuration.
    pub(crate) fn set(&self, targets: &[Arc<Target>]) {
        let named = targets.iter().map(|it| (it.name.clone(), Arc::clone(it)));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = named.collect();
    }

    /// Puts what is configured in the place of what a question brings. Returns what is not.
    pub(crate) fn only(&self, request: &mut ProbeRequest) -> Unknown {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut unknown = Unknown::default();
        let targets = std::mem::take(&mut request.targets);
        for (at, asked) in targets.into_iter().enumerate() {
            match known.get(&asked.name) {
                Some(target) => request.targets.push(Target::clone(target)),
                None => unknown.targets.push((at, asked.name)),
            }
        }
        let is_known = |asked: &Measure| {
            let mut all = known.values().flat_map(|it| &it.evidence);
            // A diagnosis that has less time left gives it less.
            all.any(|it| Measure { timeout: asked.timeout, ..it.clone() } == *asked)
        };
        let measures = std::mem::take(&mut request.measures);
        for (at, asked) in measures.into_iter().enumerate() {
            if is_known(&asked) {
                request.measures.push(asked);
            } else {
                unknown.measures.push((at, asked.name));
            }
        }
        unknown
    }
}

impl Unknown {
    /// Says in their places that these are not configured.
    pub(crate) fn fill(self, reply: &mut ProbeReply) {
        for (at, target) in self.targets {
            let unseen = vec![CONFIGURATION.to_owned()];
            let probe = TargetProbe { target, unseen, ..TargetProbe::default() };
            reply.targets.insert(at.min(reply.targets.len()), probe);
        }
        for (at, name) in self.measures {
            let failure = Some("it is not in the configuration of this monitor".to_owned());
            let measured = Measured { name, failure, ..Measured::default() };
            reply.measured.insert(at.min(reply.measured.len()), measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{check::Check, measure::PrometheusQuery, span::Span};

    use super::*;

    fn runs(name: &str, command: &str) -> Target {
        let command = Some(vec![command.to_owned()]);
        Target { checks: vec![Check { command, ..Check::blank() }], ..Target::named(name) }
    }

    fn measure(url: &str, timeout_s: u64) -> Measure {
        Measure {
            name: "rate".to_owned(),
            prometheus: PrometheusQuery { url: url.to_owned(), query: "up".to_owned() },
            unit: None,
            headers: BTreeMap::new(),
            timeout: Span::from_secs(timeout_s),
        }
    }

    #[test]
    fn what_a_message_brings_is_neither_run_nor_asked() {
        let known = Known::default();
        let db = Target { evidence: vec![measure("http://prom", 5)], ..runs("db", "/bin/true") };
        known.set(&[Arc::new(db.clone())]);
        let mut request = ProbeRequest {
            targets: vec![runs("stranger", "/bin/evil"), runs("db", "/bin/evil"), runs("x", "y")],
            measures: vec![measure("http://evil", 1), measure("http://prom", 1)],
            logs: false,
            timeout_ms: 1000,
        };
        let unknown = known.only(&mut request);
        assert_eq!(request.targets, [db]);
        assert_eq!(request.measures, [measure("http://prom", 1)]);
        let of_db = TargetProbe { target: "db".to_owned(), ..TargetProbe::default() };
        let measured = Measured { name: "rate".to_owned(), ..Measured::default() };
        let mut reply =
            ProbeReply { targets: vec![of_db], measured: vec![measured], ..ProbeReply::default() };
        unknown.fill(&mut reply);
        let names: Vec<_> = reply.targets.iter().map(|it| it.target.as_str()).collect();
        assert_eq!(names, ["stranger", "db", "x"]);
        assert_eq!(reply.targets[0].unseen, ["configuration"]);
        let failed: Vec<_> = reply.measured.iter().map(|it| it.failure.is_some()).collect();
        assert_eq!(failed, [true, false]);
    }
}
