//! What the tests of the fixer share: places, plans, and things to break.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    action::Action,
    check::Check,
    id::{IncidentId, Position},
    plan::{Parts, Plan, Risk, Step, Success},
    span::Span,
    target::ProcessHandle,
    wire::{FixMode, FixOrder, FixOutcome, Refusal, WorkRef},
};
use fixer::{AllowList, Args, Ended, Progress, Tools};
use rustix::process::Signal;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest time that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of one test; what was started with its name is killed with it.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static N: AtomicU64 = AtomicU64::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = format!("selfheal-fixer-{}-{n}", std::process::id());
        let path = std::env::temp_dir().canonicalize().unwrap().join(name);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Returns what a fixer without limits works with.
    pub(crate) fn tools(&self) -> Arc<Tools> {
        self.tools_with(&Args { allow: Some("all".to_owned()), ..Args::default() })
    }

    /// Returns the same, which starts processes by this program.
    pub(crate) fn tools_started_by(&self, starter: &std::path::Path) -> Arc<Tools> {
        let allow = AllowList::load(&Args { allow: Some("all".to_owned()), ..Args::default() });
        let tasks = TaskTracker::new();
        let tools = Tools::new(allow.unwrap(), self.state(), tasks, CancellationToken::new());
        Arc::new(tools.with_starter(starter.to_path_buf()))
    }

    pub(crate) fn tools_with(&self, args: &Args) -> Arc<Tools> {
        // Another test of this binary may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let allow = AllowList::load(args).unwrap();
        let tools = Tools::new(allow, self.state(), TaskTracker::new(), CancellationToken::new());
        // The binary of these tests is none that becomes what is started.
        Arc::new(tools.with_starter(env!("CARGO_BIN_EXE_selfheal-fixer").into()))
    }
}

impl Place {
    /// Kills everything that lives and has the place in its environment or its arguments,
    /// with its group; tells whether there was anything.
    fn kill_all(&self) -> bool {
        let place = self.path.as_os_str().as_encoded_bytes();
        let mut any = false;
        for pid in pids().into_iter().filter(|pid| is_alive(*pid)) {
            let named = ["environ", "cmdline"].iter().any(|file| {
                let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                content.windows(place.len()).any(|it| it == place)
            });
            if named {
                any = true;
                let group = rustix::process::Pid::from_raw(pid).unwrap();
                let _no_leader = rustix::process::kill_process_group(group, Signal::KILL);
                signal(pid, Signal::KILL);
            }
        }
        any
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Again and again, because one that is listed may fork before it is killed.
        while self.kill_all() {}
        drop(fs::remove_dir_all(&self.path));
    }
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// A process that somebody else started; killed and counted at the end.
pub(crate) struct Stranger(pub(crate) Child);

impl Stranger {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until something is there, and tells what is missing when it does not come.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn until(what: &str, mut look: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(look().then_some(()))).await;
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    // It may be gone already, which is as well.
    let _gone = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|it| (*it).to_owned()).collect()
}

pub(crate) fn handle(command: &[&str]) -> ProcessHandle {
    ProcessHandle {
        command: words(command),
        dir: None,
        env: BTreeMap::new(),
        pid_file: None,
        log: None,
        stop_timeout: Span::from_secs(5),
        user: None,
        group: None,
    }
}

/// Starts a script of the shell as a target.
pub(crate) fn script(text: &str) -> ProcessHandle {
    handle(&["sh", "-c", text])
}

pub(crate) fn restart(process: &ProcessHandle) -> Action {
    Action::ProcessRestart { target: "shop".to_owned(), process: process.clone() }
}

pub(crate) fn run(text: &str) -> Action {
    command(&["sh", "-c", text])
}

pub(crate) fn command(command: &[&str]) -> Action {
    Action::CommandRun { command: words(command), dir: None, env: BTreeMap::new() }
}

pub(crate) fn step(name: &str, action: Action) -> Step {
    Step {
        name: name.to_owned(),
        action,
        timeout: Span::from_secs(20),
        pre_check: None,
        undo: None,
    }
}

pub(crate) fn plan(steps: Vec<Step>) -> Plan {
    plan_with(steps, vec![Check::of_process()])
}

/// Returns a plan after which these checks are to pass.
pub(crate) fn plan_with(steps: Vec<Step>, checks: Vec<Check>) -> Plan {
    Plan::new(Parts {
        runbook: "test".to_owned(),
        title: "a test".to_owned(),
        cause: "a test".to_owned(),
        target: "shop".to_owned(),
        zone: "default".to_owned(),
        risk: Risk::Low,
        autonomy: None,
        steps,
        success: Success { checks, soak: Span::ZERO, within: Span::from_secs(1) },
    })
    .unwrap()
}

pub(crate) fn order(steps: Vec<Step>) -> FixOrder {
    order_of(plan(steps))
}

pub(crate) fn order_of(plan: Plan) -> FixOrder {
    static N: AtomicU64 = AtomicU64::new(1);
    let n = N.fetch_add(1, Ordering::Relaxed);
    let now = chrono::Utc::now();
    FixOrder {
        work: WorkRef {
            incident: IncidentId::derive(now, Position::new(n, 0), "test"),
            attempt: 1,
            revision: 3,
        },
        mode: FixMode::Apply,
        plan_hash: plan.hash(),
        plan,
        approved_by: None,
        not_after: now + chrono::TimeDelta::minutes(5),
    }
}

/// Carries out one action, as one step.
pub(crate) async fn act(tools: &Tools, action: Action) -> Result<domain::wire::StepReport, String> {
    act_within(tools, action, Span::from_secs(20)).await
}

pub(crate) async fn act_within(
    tools: &Tools,
    action: Action,
    timeout: Span,
) -> Result<domain::wire::StepReport, String> {
    let ended = carry_out(tools, &order(vec![Step { timeout, ..step("one", action) }])).await;
    let report = ended.steps.into_iter().next().unwrap();
    match ended.outcome {
        FixOutcome::Succeeded => Ok(report),
        FixOutcome::Failed { reason } => {
            assert!(!report.ok);
            Err(format!("{reason}\n{}", report.output))
        }
        FixOutcome::Unknown { reason } | FixOutcome::Refused { reason, .. } => panic!("{reason}"),
    }
}

/// The right to act of a fixer beside which there is no other.
struct Alone;

impl fixer::Lease for Alone {
    fn assure(&self, _: Duration) -> futures_util::future::BoxFuture<'_, Result<(), fixer::Lost>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The right to act of one who was held up, until it was too late, before each step.
pub(crate) struct HeldUp;

impl fixer::Lease for HeldUp {
    fn assure(&self, _: Duration) -> futures_util::future::BoxFuture<'_, Result<(), fixer::Lost>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn may_begin(&self) -> Result<(), fixer::Lost> {
        Err(fixer::Lost { reason: "too late".to_owned(), code: Refusal::TooLate })
    }
}

pub(crate) async fn carry_out(tools: &Tools, order: &FixOrder) -> Ended {
    carry_out_as(tools, order, &Alone).await
}

pub(crate) async fn carry_out_as(
    tools: &Tools,
    order: &FixOrder,
    lease: &dyn fixer::Lease,
) -> Ended {
    let (progress, _lines) = Progress::new("fixer-test".to_owned());
    fixer::carry_out(order, tools, &progress, lease).await
}
