//! Who is there: processes, targets, and a policy, all by chance.

use chrono::TimeDelta;
use domain::{
    action::{ActionName, StepSpec},
    autonomy::{Autonomy, Risk},
    check::Check,
    config::Config,
    matcher::Matchers,
    policy::{Freeze, Limit, Notifier, Policy, RunbookPolicy},
    runbook::{Runbook, Verify, When},
    silence::{InhibitRule, Window},
    span::{Rate, Rates, Span},
    target::{DockerHandle, ProcessHandle, Target},
    time_zone::TimeZone,
};

use crate::{
    clock::{MINUTE, Micros, utc},
    options::{Options, Part},
    rng::Rng,
    world::Kind,
};

/// Configurations that a run changes between.
const CONFIGS: usize = 3;

const MIB: u64 = 1024 * 1024;

/// The scene of a run.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) kinds: Vec<Kind>,
    /// What each may do at all, if it is a fixer whose list is short.
    pub(crate) allows: Vec<Option<String>>,
    /// The first is in force at the beginning.
    pub(crate) configs: Vec<Config>,
    /// Agents come back under other names, on other hosts.
    pub(crate) are_pods: bool,
    /// Mean time between two breakages of a target.
    pub(crate) breaks_every: Micros,
    /// Bytes at which the ledger is full, if ever: so few that they are reached here.
    pub(crate) ledger_bytes_max: Option<u64>,
    /// The broker loses its disk once.
    pub(crate) loses_disk: bool,
}

impl Scene {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed, "scene");
        let mut kinds = Vec::new();
        for (kind, low, high) in [
            (Kind::Supervisor, 1, 4),
            (Kind::Monitor, 1, 3),
            (Kind::Analyzer, 1, 3),
            (Kind::Fixer, 1, 4),
            (Kind::Gateway, 1, 3),
        ] {
            kinds.extend((0..rng.range(low, high)).map(|_| kind));
        }
        let allows = kinds.iter().map(|kind| {
            let lists = ["process.restart", "http.request", "docker.start,docker.restart"];
            let is_short = *kind == Kind::Fixer && rng.percent(15);
            is_short.then(|| (*rng.pick(&lists)).to_owned())
        });
        let allows = allows.collect();
        let n_targets = *rng.pick(&[1, 2, 3, 3, 4, 5, 6, 8, 12]);
        let targets: Vec<Target> = (0..n_targets).map(|n| target(&mut rng, n)).collect();
        let mut targets = targets;
        if rng.percent(15) {
            // A configuration that is larger than one message, of few targets or of many.
            let bytes = 300_000 / targets.len();
            for target in &mut targets {
                let text = "x".repeat(bytes.min(150_000));
                target.labels.insert("about".to_owned(), text);
            }
        }
        let end = options.minutes * MINUTE;
        let mut configs: Vec<Config> = Vec::new();
        for n in 0..CONFIGS {
            let policy = policy(&mut rng, end);
            let mut targets = targets.clone();
            if 0 < n && 1 < targets.len() && rng.percent(30) {
                // One target is not configured any more.
                let gone = targets.swap_remove(rng.index(targets.len())).name;
                targets.iter_mut().for_each(|it| it.depends_on.retain(|name| *name != gone));
            }
            let quiet = quiet(&mut Rng::new(options.seed, &format!("quiet {n}")), options, end);
            configs.push(Config {
                targets,
                policy,
                maintenance: quiet.0,
                inhibit: quiet.1,
                runbooks: runbooks(&mut rng),
                ..Config::default()
            });
        }
        if !options.has(Part::Changes) {
            configs.truncate(1);
        }
        for config in &configs {
            let findings = config.findings();
            assert!(findings.is_empty(), "a scene is no configuration: {findings:?}");
        }
        let breaks_every = rng.range(3, 15) * MINUTE;
        let are_pods = Rng::new(options.seed, "pods").percent(60);
        let limits = [None, None, Some(3 * MIB), Some(3 * MIB), Some(5 * MIB)];
        let mut rng = Rng::new(options.seed, "ledger");
        let ledger_bytes_max = *rng.pick(&limits);
        // Where it may have been shortened, a log alone is not enough.
        let loses_disk = ledger_bytes_max.is_none() && rng.percent(45);
        Self { kinds, allows, configs, are_pods, breaks_every, ledger_bytes_max, loses_disk }
    }
}

fn target(rng: &mut Rng, n: usize) -> Target {
    let name = format!("t{n}");
    let mut target = Target::named(&name);
    match rng.range(0, 10) {
        0..6 => target.docker = Some(DockerHandle { container: format!("c-{name}") }),
        6..9 => {
            target.process = Some(ProcessHandle {
                command: vec![format!("/srv/{name}/server"), "--serve".to_owned()],
                dir: None,
                env: std::collections::BTreeMap::new(),
                // Some programs write a file of their own.
                pid_file: (n % 3 == 1).then(|| format!("/run/{name}.pid")),
                log: None,
                stop_timeout: Span::from_secs(5),
                user: None,
                group: None,
            });
        }
        _ => {}
    }
    let http = Check {
        // A process listens on its host, where it is seen who answers.
        http: Some(match target.process {
            Some(_) => format!("http://127.0.0.1:{}/health", 8000 + n),
            None => format!("http://{name}/health"),
        }),
        every: Span::from_millis(*rng.pick(&[500, 1000, 1000, 2000])),
        timeout: Span::from_millis(*rng.pick(&[500, 1000, 2000])),
        fail_after: *rng.pick(&[1, 2, 2, 3]),
        pass_after: *rng.pick(&[1, 1, 2]),
        ..Check::blank()
    };
    if target.handle().is_none() || rng.percent(80) {
        target.checks.push(http);
    }
    for other in 0..n {
        if rng.percent(if other + 1 == n { 35 } else { 10 }) {
            target.depends_on.push(format!("t{other}"));
        }
    }
    if rng.percent(60) {
        let label = std::collections::BTreeMap::from([("service".to_owned(), name.clone())]);
        target.select.push(label);
    }
    if rng.percent(15) {
        target.autonomy = Some(*rng.pick(&[Autonomy::Approve, Autonomy::Suggest, Autonomy::Auto]));
    }
    target
}

/// Maintenance windows, and what is only the consequence of something else.
fn quiet(rng: &mut Rng, options: &Options, end: Micros) -> (Vec<Window>, Vec<InhibitRule>) {
    let (mut windows, mut rules) = (Vec::new(), Vec::new());
    if !options.has(Part::Silences) {
        return (windows, rules);
    }
    let fits = |text: &str| Matchers(text.parse().into_iter().collect());
    if rng.percent(30) {
        let from = utc(rng.range(0, end.max(1)));
        let long = TimeDelta::seconds(i64::try_from(rng.range(20, 300)).unwrap_or(0));
        windows.push(Window {
            name: "patches".to_owned(),
            matchers: fits(if rng.percent(50) { "source=outside" } else { "target=~t[0-2]" }),
            from: Some(from),
            until: Some(from + long),
            cron: None,
            lasts: None,
            time_zone: TimeZone::default(),
            reason: "patches".to_owned(),
        });
    }
    if rng.percent(20) {
        let equal = vec!["target".to_owned()];
        rules.push(InhibitRule { when: fits("type=service_down"), mute: fits("type=odd"), equal });
    }
    (windows, rules)
}

fn secs(rng: &mut Rng, of: &[u64]) -> Span {
    Span::from_secs(*rng.pick(of))
}

fn rates(rng: &mut Rng, low: u32, high: u32) -> Rates {
    let count = low + u32::try_from(rng.range(0, u64::from(high - low))).unwrap_or(0);
    let per = Span::from_secs(*rng.pick(&[60, 600, 3600]));
    Rates(vec![Rate { count, per }])
}

fn policy(rng: &mut Rng, end: Micros) -> Policy {
    let mut policy = Policy {
        attempts: *rng.pick(&[1, 2, 3, 3, 5]),
        backoff: secs(rng, &[0, 1, 2, 10]),
        soak: secs(rng, &[1, 2, 3, 3, 10]),
        verify_within: secs(rng, &[5, 10, 30]),
        approval_timeout: secs(rng, &[60, 120, 600]),
        hold_timeout: secs(rng, &[60, 300, 900]),
        plan_max_age: secs(rng, &[5, 60, 60]),
        event_max_age: secs(rng, &[60, 900]),
        diagnosis_timeout: secs(rng, &[20, 60, 60]),
        storm: Limit { percent: *rng.pick(&[10, 50, 100]), count: *rng.pick(&[3, 20]) },
        ..Policy::default()
    };
    policy.autonomy = *rng.pick(&[
        Autonomy::Auto,
        Autonomy::Auto,
        Autonomy::Auto,
        Autonomy::Auto,
        Autonomy::Approve,
        Autonomy::Suggest,
    ]);
    policy.budget.blast_radius =
        Limit { percent: *rng.pick(&[20, 50, 100]), count: *rng.pick(&[1, 2, 5, 5]) };
    policy.budget.per_target = rates(rng, 1, 12);
    policy.budget.per_runbook = rates(rng, 2, 30);
    policy.budget.fleet = rates(rng, 2, 40);
    if rng.percent(40) {
        policy.cooldown.per_target = secs(rng, &[0, 10, 60]);
        policy.cooldown.per_runbook = secs(rng, &[0, 0, 5]);
        policy.cooldown.fleet = secs(rng, &[0, 0, 2]);
    }
    policy.breaker.failures = *rng.pick(&[1, 2, 5, 5]);
    policy.breaker.within = secs(rng, &[60, 600]);
    policy.breaker.reset_after = secs(rng, &[30, 300]);
    for name in ["restart-container", "restart-hung-process", "start-container"] {
        if rng.percent(30) {
            let autonomy = *rng.pick(&[Autonomy::Auto, Autonomy::Auto, Autonomy::Approve]);
            let budget = rng.percent(30).then(|| rates(rng, 1, 6));
            let stated = RunbookPolicy { autonomy: Some(autonomy), budget, approvals: None };
            policy.runbooks.insert(name.to_owned(), stated);
        }
    }
    if rng.percent(25) {
        let from = utc(rng.range(0, end.max(1)));
        let long = TimeDelta::seconds(i64::try_from(rng.range(20, 400)).unwrap_or(0));
        policy.freeze.push(Freeze { from, until: from + long, reason: "sale".to_owned() });
    }
    if rng.percent(50) {
        policy.notify.push(Notifier { webhook: None, log: Some(true) });
    }
    policy
}

/// Cures of one's own: one that can be taken back, and one of two steps.
fn runbooks(rng: &mut Rng) -> Vec<Runbook> {
    let mut runbooks = Vec::new();
    if rng.percent(75) {
        let mut reload = step(ActionName::HttpRequest, "http://127.0.0.1/reload/{target}");
        reload.timeout = Span::from_secs(5);
        reload.undo =
            Some(Box::new(step(ActionName::HttpRequest, "http://127.0.0.1/rollback/{target}")));
        let mut steps = vec![reload];
        if rng.percent(70) {
            steps.push(step(ActionName::HttpRequest, "http://127.0.0.1/warm/{target}"));
        }
        runbooks.push(Runbook {
            name: "reload".to_owned(),
            title: "Read the settings again".to_owned(),
            when: When {
                causes: ["service_failing", "container_hung", "process_hung"]
                    .map(str::to_owned)
                    .to_vec(),
                ..When::default()
            },
            risk: *rng.pick(&[Risk::Low, Risk::Low, Risk::Medium, Risk::High]),
            autonomy: None,
            order: 10,
            attempts: 1 + u32::from(rng.percent(50)),
            steps,
            verify: Verify { checks: Vec::new(), soak: None, within: Some(Span::from_secs(10)) },
        });
    }
    runbooks
}

fn step(action: ActionName, url: &str) -> StepSpec {
    StepSpec {
        action,
        name: None,
        timeout: Span::from_secs(10),
        pre_check: None,
        undo: None,
        command: None,
        dir: None,
        env: std::collections::BTreeMap::new(),
        container: None,
        method: None,
        url: Some(url.to_owned()),
        headers: std::collections::BTreeMap::new(),
        body: None,
        status: Vec::new(),
        directories: Vec::new(),
        patterns: Vec::new(),
        older_than: None,
        dry_run: false,
    }
}
