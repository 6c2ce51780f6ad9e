//! The host of the targets that are processes: numbers that are used again, start times, marks,
//! ports and files, as monitors and fixers see them through `host::process`.

mod view;

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, path::PathBuf};

use chrono::{DateTime, Utc};
use domain::target::{Handle, ProcessHandle, Target};
use host::process::{Configured, Ending, Record, Run, pid_file::Content};

use crate::{
    bug::Bug,
    clock::{Micros, SECOND, utc},
    options::Options,
    rng::Rng,
};

/// Numbers of processes are this host's again after so many.
const NUMBERS: std::ops::Range<i32> = 300..400;
/// Before the beginning the host has run for so long.
const UP_BEFORE_S: i64 = 1000;
/// A clock tick of the kernel.
const TICK_US: i64 = 10_000;

/// What a process is in truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A target itself.
    Main(usize),
    /// Started by it, and answering its port as it does.
    Worker(usize),
    /// Nobody's.
    Stranger,
}

#[derive(Clone, Debug)]
struct Process {
    run: Run,
    parent: i32,
    group: i32,
    /// The target whose mark it carries, and the mark of the run.
    mark: Option<(String, String)>,
    arguments: Vec<String>,
    port: Option<u16>,
    role: Role,
}

/// What is noted beside a target.
#[derive(Debug, Default)]
struct Beside {
    record: Option<Record>,
    pid_file: Option<Content>,
    exit: Option<Ending>,
    is_locked: bool,
}

#[derive(Debug)]
struct State {
    /// How often the host was started, and when it was last, in microseconds.
    boot: (u32, i64),
    next: i32,
    all: BTreeMap<i32, Process>,
    beside: Vec<Beside>,
    /// The main process of each target that runs.
    mains: Vec<Option<i32>>,
}

impl State {
    /// While a group has members, the kernel gives its number to no process.
    fn is_taken(&self, number: i32) -> bool {
        self.all.values().any(|it| it.run.pid == number || it.group == number)
    }
}

/// A target of this host, as it is configured.
#[derive(Debug)]
struct Place {
    name: String,
    handle: Option<ProcessHandle>,
    port: Option<u16>,
    /// How many workers it starts.
    n_workers: u64,
}

/// The host.
#[derive(Debug)]
pub(crate) struct Hosts {
    places: Vec<Place>,
    configured: Configured,
    state: RefCell<State>,
    rng: RefCell<Rng>,
    compares_numbers: bool,
    state_dir: PathBuf,
}

/// Who answers a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The target, or a worker of the target that runs.
    Itself,
    /// What an ended run has left behind, or somebody else's program.
    Another(i32),
    Nobody,
}

impl Hosts {
    pub(crate) fn new(options: &Options, targets: &[Target]) -> Self {
        let mut rng = Rng::new(options.seed, "hosts");
        let place = |target: &Target| Place {
            name: target.name.clone(),
            handle: match target.handle() {
                Some(Handle::Process(process)) => Some(process.clone()),
                Some(Handle::Docker(_)) | None => None,
            },
            port: port_of(target),
            n_workers: *rng.pick(&[0, 0, 1, 2]),
        };
        let places: Vec<Place> = targets.iter().map(place).collect();
        let state = State {
            boot: (1, -UP_BEFORE_S * 1_000_000),
            next: NUMBERS.start,
            all: BTreeMap::new(),
            beside: places.iter().map(|_| Beside::default()).collect(),
            mains: vec![None; places.len()],
        };
        let hosts = Self {
            configured: Configured::of(targets),
            state: RefCell::new(state),
            rng: RefCell::new(rng),
            compares_numbers: options.bug == Some(Bug::NumberIsIdentity),
            state_dir: PathBuf::from("/var/lib/selfheal/run"),
            places,
        };
        for idx in 0..hosts.places.len() {
            // Some were started by a fixer long ago, some by an init system.
            let mark = hosts.rng.borrow_mut().percent(50).then(|| "before".to_owned());
            hosts.spawn(idx, 0, mark);
        }
        hosts
    }

    /// Returns whether a target is a process of this host.
    pub(crate) fn has(&self, idx: usize) -> bool {
        self.places[idx].handle.is_some()
    }

    /// Starts the program of a target, with a mark if a fixer does it. `None`: its port was
    /// taken, so that it has ended at once.
    pub(crate) fn spawn(&self, idx: usize, now: Micros, mark: Option<String>) -> Option<Run> {
        let place = &self.places[idx];
        let handle = place.handle.as_ref()?;
        let is_free = place.port.is_none_or(|port| self.holder(port).is_none());
        let run = self.new_run(now);
        let mut state = self.state.borrow_mut();
        if let Some(mark) = &mark {
            let mut record = Record::new(run, mark.clone(), handle);
            record.boot_id = boot_id(state.boot.0);
            state.beside[idx].record = Some(record);
        }
        if mark.is_some() || handle.pid_file.is_some() {
            // Written by the program itself where the handle names it, else by the fixer.
            state.beside[idx].pid_file = Some(Content::of(run.pid, utc(now).into()));
        }
        if !is_free {
            return None;
        }
        let process = Process {
            run,
            parent: 1,
            group: run.pid,
            mark: mark.map(|mark| (place.name.clone(), mark)),
            arguments: handle.command.clone(),
            port: place.port,
            role: Role::Main(idx),
        };
        state.mains[idx].get_or_insert(run.pid);
        state.all.insert(run.pid, process.clone());
        drop(state);
        for _ in 0..place.n_workers {
            let own = self.new_run(now);
            let worker =
                Process { run: own, parent: run.pid, role: Role::Worker(idx), ..process.clone() };
            self.state.borrow_mut().all.insert(own.pid, worker);
        }
        Some(run)
    }

    /// Ends a target that runs; now and then its workers go on. Returns its number.
    pub(crate) fn end_main(&self, idx: usize, now: Micros, may_leave: bool) -> Option<i32> {
        let (leaves, is_seen) = {
            let mut rng = self.rng.borrow_mut();
            (rng.percent(35), rng.percent(70))
        };
        let mut state = self.state.borrow_mut();
        let pid = state.mains[idx].take()?;
        let ended = state.all.remove(&pid)?;
        let beside = &mut state.beside[idx];
        if is_seen && beside.record.as_ref().is_some_and(|it| it.run == ended.run) {
            let at: DateTime<Utc> = utc(now);
            beside.exit =
                Some(Ending { pid, exit_code: None, signal: Some(9), oom_killed: Some(false), at });
        }
        let stays = leaves && may_leave;
        state.all.retain(|_, it| stays || it.parent != pid);
        state.all.values_mut().filter(|it| it.parent == pid).for_each(|it| it.parent = 1);
        Some(pid)
    }

    /// Ends a process that is no target.
    pub(crate) fn end(&self, pid: i32) {
        self.state.borrow_mut().all.remove(&pid);
    }

    /// Ends a process, if it is this very run.
    pub(crate) fn end_run(&self, run: &Run) -> bool {
        let mut state = self.state.borrow_mut();
        let is_it = state.all.get(&run.pid).is_some_and(|it| it.run == *run);
        is_it && state.all.remove(&run.pid).is_some()
    }

    /// Ends what earlier runs of a target have left behind.
    pub(crate) fn end_leftovers(&self, idx: usize) {
        let is_left = |it: &Process| it.role == Role::Worker(idx) && it.parent == 1;
        self.state.borrow_mut().all.retain(|_, it| !is_left(it));
    }

    /// Somebody starts another program: under this number if it is free, at the port of this
    /// target if that is free.
    pub(crate) fn intrude(
        &self,
        number: Option<i32>,
        at: Option<usize>,
        now: Micros,
    ) -> Option<Run> {
        if number.is_some_and(|it| self.state.borrow().is_taken(it)) {
            return None;
        }
        let port = at.and_then(|idx| self.places[idx].port);
        if at.is_some() && port.is_none_or(|port| self.holder(port).is_some()) {
            return None;
        }
        let mut run = self.new_run(now);
        run.pid = number.unwrap_or(run.pid);
        let namesake = self.places.iter().filter_map(|it| it.handle.as_ref()).next();
        let program = namesake.map_or("sleep", |it| it.command[0].as_str());
        let programs = ["sleep", "python3", program];
        let program = *self.rng.borrow_mut().pick(&programs);
        let process = Process {
            run,
            parent: 1,
            group: run.pid,
            mark: None,
            arguments: vec![program.to_owned(), "999".to_owned()],
            port,
            role: Role::Stranger,
        };
        self.state.borrow_mut().all.insert(run.pid, process);
        Some(run)
    }

    /// The host is started anew: nothing of what ran is there, and ticks count from 0.
    pub(crate) fn reboot(&self, now: Micros) {
        let mut state = self.state.borrow_mut();
        let boot = i64::try_from(now).unwrap_or(0);
        state.boot = (state.boot.0 + 1, boot);
        state.all.clear();
        state.next = NUMBERS.start;
        state.mains.iter_mut().for_each(|it| *it = None);
    }

    /// Returns the number that the record or the pid file of a target names.
    pub(crate) fn noted(&self, idx: usize) -> Option<i32> {
        let state = self.state.borrow();
        let beside = &state.beside[idx];
        let named = || beside.pid_file.as_ref()?.pid.map(|it| it.as_raw_nonzero().get());
        beside.record.as_ref().map(|it| it.run.pid).or_else(named)
    }

    /// Returns what a living process is in truth.
    pub(crate) fn role(&self, pid: i32) -> Option<Role> {
        self.state.borrow().all.get(&pid).map(|it| it.role)
    }

    /// Returns who answers the port of a target.
    pub(crate) fn answers(&self, idx: usize) -> Answers {
        let Some(pid) = self.places[idx].port.and_then(|port| self.holder(port)) else {
            return Answers::Nobody;
        };
        let state = self.state.borrow();
        let is_own = |it: &Process| match it.role {
            Role::Main(of) => of == idx,
            Role::Worker(of) => of == idx && it.parent != 1,
            Role::Stranger => false,
        };
        if state.all.get(&pid).is_some_and(is_own) {
            Answers::Itself
        } else {
            Answers::Another(pid)
        }
    }

    /// Returns the number of a process that has a port.
    fn holder(&self, port: u16) -> Option<i32> {
        let state = self.state.borrow();
        state.all.values().find(|it| it.port == Some(port)).map(|it| it.run.pid)
    }

    fn new_run(&self, now: Micros) -> Run {
        let mut state = self.state.borrow_mut();
        let mut pid = state.next;
        while state.is_taken(pid) {
            pid = if pid + 1 < NUMBERS.end { pid + 1 } else { NUMBERS.start };
        }
        state.next = if pid + 1 < NUMBERS.end { pid + 1 } else { NUMBERS.start };
        let since_boot = i64::try_from(now).unwrap_or(0) - state.boot.1;
        Run { pid, start_ticks: u64::try_from(since_boot / TICK_US).unwrap_or(0) }
    }

    /// Takes the lock of a target; freed when dropped, also by death.
    pub(crate) fn lock(&self, idx: usize) -> Option<Locked<'_>> {
        let mut state = self.state.borrow_mut();
        let is_locked = std::mem::replace(&mut state.beside[idx].is_locked, true);
        drop(state);
        // Not made at all when another holds it: to drop it would free the lock.
        (!is_locked).then(|| Locked(self, idx))
    }
}

/// Held while a fixer works on a target.
pub(crate) struct Locked<'a>(&'a Hosts, usize);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().beside[self.1].is_locked = false;
    }
}

fn boot_id(n: u32) -> String {
    format!("boot-{n}")
}

/// Returns the port of this host that a target's checks connect to.
fn port_of(target: &Target) -> Option<u16> {
    let urls = target.checks.iter().filter_map(|it| it.http.as_deref());
    urls.filter_map(|url| address_of(url).map(|it| it.port())).next()
}

fn address_of(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("http://")?.split('/').next()?.parse().ok()
}

/// A number is not used again so soon after a pid file was written that names it: whoever reads
/// the file could not see by its age that another process is meant.
pub(crate) const NUMBER_RESTS: Micros = 3 * SECOND;
