//! Targets: they die, hang, flap, heal by themselves, ignore fixes and break others. What
//! is true of them is known here, whatever anybody believes.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use domain::{
    check::{Check, Probe},
    plan::Plan,
    target::{Handle, Target},
};
use fixer::is_start;
use host::process::{Found, Run as HostRun, Running, present::Obstacle};
use monitor::sample::{Finding, RunId};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    bug::Bug,
    clock::{MS, Micros, SECOND, micros},
    hosts::{Answers, Hosts, Role},
    intruders,
    options::{Options, Part},
    rng::Rng,
    scene::Scene,
    sim::{OUTSIDE, Sim},
    world::World,
};

/// How it works while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fine,
    Hung,
    Failing,
}

/// One run of a process or container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) id: u64,
    pub(crate) started: Micros,
    pub(crate) ready: Micros,
}

#[derive(Debug)]
struct State {
    run: Option<Run>,
    ended: Option<Micros>,
    mode: Mode,
    /// Counts breakages, so that an old one's recovery does not end a new one.
    n_breakages: u64,
    starts: Vec<Micros>,
    /// When it became well or sick.
    truth: Vec<(Micros, bool)>,
}

/// How a target takes a fix, in per cent.
#[derive(Clone, Copy, Debug)]
struct Nature {
    fails_step: u64,
    hangs_step: u64,
    stays_sick: u64,
    dies_again: u64,
    breaks_other: u64,
    start: Micros,
    /// How long a step takes besides.
    drag: Micros,
}

/// Why a step did not do what it should.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// It has touched nothing.
    pub(crate) is_refusal: bool,
}

impl Failure {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_refusal: false }
    }
}

fn refused(obstacle: &Obstacle) -> Failure {
    let reason = match obstacle {
        Obstacle::Unclear(reason) => reason.clone(),
        Obstacle::Held(holder) => format!("port {} is held by another", holder.port),
    };
    Failure { reason, is_refusal: true }
}

/// One target.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) target: Target,
    state: RefCell<State>,
    nature: Nature,
    needs: Vec<usize>,
    needed_by: Vec<usize>,
    /// Something about it is different.
    pub(crate) changed: Rc<Notify>,
}

/// All targets that there ever are, configured or not.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) spots: Vec<Spot>,
    rng: RefCell<Rng>,
    stutters: RefCell<Rng>,
    n_runs: Cell<u64>,
    /// Where those live that are processes.
    pub(crate) hosts: Hosts,
    /// Nothing breaks by itself any more.
    pub(crate) is_calm: Cell<bool>,
}

impl Targets {
    pub(crate) fn new(scene: &Scene, options: &Options) -> Self {
        let mut rng = Rng::new(options.seed, "targets");
        let all = &scene.configs[0].targets;
        let place = |name: &String| all.iter().position(|it| it.name == *name);
        let spots = all.iter().map(|target| {
            let bad = options.has(Part::BadFixes);
            let nature = Nature {
                fails_step: if bad { *rng.pick(&[0, 0, 5, 40]) } else { 0 },
                hangs_step: if bad { *rng.pick(&[0, 0, 0, 5]) } else { 0 },
                stays_sick: if bad { *rng.pick(&[0, 0, 20, 90]) } else { 0 },
                dies_again: if bad { *rng.pick(&[0, 0, 10, 50]) } else { 0 },
                breaks_other: if bad { *rng.pick(&[0, 0, 10, 40]) } else { 0 },
                start: rng.range(30, 3000) * MS,
                drag: *rng.pick(&[0, 0, 1, 4]) * SECOND,
            };
            Spot {
                target: target.clone(),
                state: RefCell::new(State {
                    run: Some(Run { id: 0, started: 0, ready: 0 }),
                    ended: None,
                    mode: Mode::Fine,
                    n_breakages: 0,
                    starts: vec![0],
                    truth: vec![(0, true)],
                }),
                nature,
                needs: target.depends_on.iter().filter_map(place).collect(),
                needed_by: all
                    .iter()
                    .enumerate()
                    .filter(|(_, it)| it.depends_on.contains(&target.name))
                    .map(|(idx, _)| idx)
                    .collect(),
                changed: Rc::default(),
            }
        });
        let spots = spots.collect();
        let hosts = Hosts::new(options, all);
        let (rng, n_runs, is_calm) = (RefCell::new(rng), Cell::new(0), Cell::new(false));
        let stutters = RefCell::new(Rng::new(options.seed, "stutters"));
        Self { spots, rng, stutters, n_runs, hosts, is_calm }
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.spots.iter().position(|it| it.target.name == name)
    }

    /// Returns whether all checks of a target would pass now.
    pub(crate) fn is_well(&self, idx: usize, now: Micros) -> bool {
        let spot = &self.spots[idx];
        let state = spot.state.borrow();
        let is_up = match spot.target.handle() {
            Some(_) => {
                state.run.is_some_and(|run| run.ready <= now || spot.target.checks.is_empty())
            }
            None => true,
        };
        let works = spot.target.checks.is_empty()
            || state.mode == Mode::Fine && spot.needs.iter().all(|it| self.is_well(*it, now));
        is_up && works
    }

    /// Returns when a target became well or sick, the oldest first.
    pub(crate) fn truth(&self, idx: usize) -> Vec<(Micros, bool)> {
        self.spots[idx].state.borrow().truth.clone()
    }

    pub(crate) fn run_of(&self, idx: usize) -> (Option<Run>, Option<Micros>, Vec<Micros>) {
        let state = self.spots[idx].state.borrow();
        (state.run, state.ended, state.starts.clone())
    }

    /// Looks once, as a probe of a monitor does. Returns how long the look takes, too.
    pub(crate) fn look(&self, idx: usize, check: &Check, now: Micros) -> (Finding, Duration) {
        let spot = &self.spots[idx];
        let state = spot.state.borrow();
        let quick = Duration::from_millis(1);
        let answer = match check.probe() {
            Ok(Probe::Process) => return (self.process(idx), quick),
            Ok(Probe::Docker) => match state.run {
                Some(run) => {
                    return (Finding::passed("it runs").of_run(RunId(run.id.to_string())), quick);
                }
                None => Finding::failed("ended with exit code 137"),
            },
            _ => {
                let has_handle = spot.target.handle().is_some();
                let is_up = state.run.is_some_and(|it| it.ready <= now);
                let answers = self.hosts.answers(idx);
                if self.hosts.has(idx) && matches!(answers, Answers::Another(_)) {
                    Finding::passed("answered 200")
                } else if has_handle && !is_up {
                    Finding::failed("cannot connect: Connection refused (os error 111)")
                } else if state.mode == Mode::Hung {
                    let wait = check.timeout.to_std();
                    let why = format!("no answer within {} ms", wait.as_millis());
                    return (Finding::failed(why), wait);
                } else if state.mode == Mode::Failing {
                    Finding::failed("answered 500")
                } else if !spot.needs.iter().all(|it| self.is_well(*it, now)) {
                    Finding::failed("answered 503")
                } else {
                    Finding::passed("answered 200")
                }
            }
        };
        (answer, quick)
    }

    /// Looks for the process of a target, as the probe of monitors does.
    fn process(&self, idx: usize) -> Finding {
        match self.hosts.found(idx, &self.spots[idx].target.checks) {
            Found::Running(Running { main, .. }) => {
                let words = format!("process {} runs", main.pid);
                let found = Finding::passed(words).with("pid", json!(main.pid));
                found.of_run(RunId(main.to_string()))
            }
            Found::Unclear { processes, reason } => {
                let pids: Vec<i32> = processes.iter().map(|it| it.pid).collect();
                Finding::failed(reason).with("unclear_pids", json!(pids))
            }
            Found::NotRunning { .. } => Finding::failed("ended with signal 9"),
        }
    }

    /// Looks once and waits for the answer: one that hangs and goes on answers then, late.
    pub(crate) async fn probe(world: &Rc<World>, idx: usize, check: &Check) -> Finding {
        let until = world.sim.now() + micros(check.timeout.to_std());
        loop {
            let changed = world.targets.spots[idx].changed.notified();
            let now = world.sim.now();
            let (finding, took) = world.targets.look(idx, check, now);
            let wait = micros(took);
            if wait < micros(check.timeout.to_std()) {
                Sim::sleep(world, wait).await;
                return finding;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = Sim::sleep(world, until.saturating_sub(now)) => return finding,
            }
        }
    }

    /// Notes what is true now, and tells those who watch.
    pub(crate) fn touch(&self, world: &World, idx: usize) {
        let now = world.sim.now();
        let mut next = vec![idx];
        let mut done = Vec::new();
        while let Some(idx) = next.pop() {
            if done.contains(&idx) {
                continue;
            }
            done.push(idx);
            next.extend(&self.spots[idx].needed_by);
            let is_well = self.is_well(idx, now);
            let mut state = self.spots[idx].state.borrow_mut();
            if state.truth.last().is_some_and(|(_, well)| *well != is_well) {
                state.truth.push((now, is_well));
                world.trace.mark(2, u64::try_from(idx).unwrap_or(0) * 2 + u64::from(is_well));
                world.trace.say(now, || {
                    let how = if is_well { "well" } else { "sick" };
                    format!("in truth, {} is {how}", self.spots[idx].target.name)
                });
            }
            drop(state);
            self.spots[idx].changed.notify_waiters();
        }
    }

    /// Ends a target. Returns the number that its process had.
    fn kill(&self, world: &Rc<World>, idx: usize) -> Option<i32> {
        let mut state = self.spots[idx].state.borrow_mut();
        if state.run.take().is_some() {
            state.ended = Some(world.sim.now());
        }
        drop(state);
        let may_leave = world.options.has(Part::Intruders) && !self.is_calm.get();
        let number = self.hosts.end_main(idx, world.sim.now(), may_leave);
        self.touch(world, idx);
        number
    }

    /// Ends a target by itself, and lets happen what happens then.
    fn die(&self, world: &Rc<World>, idx: usize) {
        let (run, now) = (self.spots[idx].state.borrow().run, world.sim.now());
        let number = self.kill(world, idx);
        let lived = run.map_or(0, |it| now - it.started);
        intruders::died(world, idx, number, lived);
    }

    /// Returns whether a target runs, in truth.
    pub(crate) fn runs(&self, idx: usize) -> bool {
        self.spots[idx].state.borrow().run.is_some()
    }

    /// Lets a target be dead whose host was started anew.
    pub(crate) fn rebooted(&self, world: &World, idx: usize) {
        let mut state = self.spots[idx].state.borrow_mut();
        if state.run.take().is_some() {
            state.ended = Some(world.sim.now());
        }
        drop(state);
        self.touch(world, idx);
    }

    /// Somebody starts a target by hand, if it is dead and nobody holds its port.
    pub(crate) fn start_by_hand(&self, world: &Rc<World>, idx: usize) {
        if self.runs(idx) || self.hosts.answers(idx) != Answers::Nobody {
            return;
        }
        world
            .trace
            .say(world.sim.now(), || format!("somebody starts {}", self.spots[idx].target.name));
        if !self.hosts.has(idx) || self.hosts.spawn(idx, world.sim.now(), None).is_some() {
            self.start(world, idx, Mode::Fine);
        }
    }

    fn set_mode(&self, world: &World, idx: usize, mode: Mode) {
        self.spots[idx].state.borrow_mut().mode = mode;
        self.touch(world, idx);
    }

    /// Starts it; it works after a while, or does not.
    fn start(&self, world: &Rc<World>, idx: usize, mode: Mode) {
        let now = world.sim.now();
        let start = self.spots[idx].nature.start;
        self.n_runs.set(self.n_runs.get() + 1);
        let ready = now + self.rng.borrow_mut().range(start / 2, start + 1);
        {
            let mut state = self.spots[idx].state.borrow_mut();
            state.run = Some(Run { id: self.n_runs.get(), started: now, ready });
            state.mode = mode;
            state.starts.push(now);
        }
        self.touch(world, idx);
        world.sim.at(ready, move |world| world.targets.touch(world, idx));
    }

    /// Breaks it by itself.
    fn break_down(&self, world: &Rc<World>, idx: usize) {
        let (kind, heals, wait) = {
            let mut rng = self.rng.borrow_mut();
            (rng.range(0, 10), rng.percent(30), rng.range(200, 120_000) * MS)
        };
        let n = {
            let mut state = self.spots[idx].state.borrow_mut();
            state.n_breakages += 1;
            state.n_breakages
        };
        let has_handle = self.spots[idx].target.handle().is_some();
        world.trace.say(world.sim.now(), || {
            format!("{} breaks ({kind}, heals: {heals})", self.spots[idx].target.name)
        });
        match kind {
            0..5 if has_handle => self.die(world, idx),
            5..7 => self.set_mode(world, idx, Mode::Hung),
            _ => self.set_mode(world, idx, Mode::Failing),
        }
        if heals && world.options.has(Part::Recoveries) {
            world.sim.after(wait, move |world| world.targets.recover(world, idx, n));
        }
    }

    /// Breaks one of them now: trouble comes when it is least wanted.
    pub(crate) fn break_one(&self, world: &Rc<World>) {
        if world.options.has(Part::Breakages) && !self.is_calm.get() {
            let idx = self.rng.borrow_mut().index(self.spots.len());
            self.break_down(world, idx);
        }
    }

    /// Lets a target hang for a moment, now and then, while its health is to be proven: not for so
    /// long that a look fails, but longer than may be missed.
    pub(crate) fn stutter(&self, world: &Rc<World>, idx: usize) {
        if !world.options.has(Part::Breakages) || self.is_calm.get() {
            return;
        }
        let (hit, soon, wait) = {
            let mut rng = self.stutters.borrow_mut();
            (rng.percent(12), rng.range(0, 2500) * MS, rng.range(950, 1950) * MS)
        };
        if !hit {
            return;
        }
        world.sim.after(soon, move |world| {
            let targets = &world.targets;
            if targets.is_calm.get() || !targets.is_well(idx, world.sim.now()) {
                return;
            }
            world.trace.say(world.sim.now(), || {
                format!("{} hangs for a moment", targets.spots[idx].target.name)
            });
            targets.set_mode(world, idx, Mode::Hung);
            let run = targets.spots[idx].state.borrow().run.map(|it| it.id);
            world.sim.after(wait, move |world| {
                let state = world.targets.spots[idx].state.borrow();
                let is_same = state.mode == Mode::Hung && state.run.map(|it| it.id) == run;
                drop(state);
                if is_same {
                    world.targets.set_mode(world, idx, Mode::Fine);
                }
            });
        });
    }

    fn recover(&self, world: &Rc<World>, idx: usize, n: u64) {
        let state = self.spots[idx].state.borrow();
        if state.n_breakages != n {
            return;
        }
        let is_dead = state.run.is_none();
        drop(state);
        if is_dead {
            self.start_by_hand(world, idx);
        } else {
            self.set_mode(world, idx, Mode::Fine);
        }
    }

    /// Lets a target break down again and again.
    pub(crate) async fn age(world: Rc<World>, idx: usize) {
        let mean = world.scene.breaks_every;
        loop {
            let wait = world.targets.rng.borrow_mut().waiting(mean);
            Sim::sleep(&world, wait).await;
            if world.targets.is_calm.get() {
                return;
            }
            world.targets.break_down(&world, idx);
            // Some flap.
            while world.targets.rng.borrow_mut().percent(15) {
                let wait = world.targets.rng.borrow_mut().range(10, 5000) * MS;
                Sim::sleep(&world, wait).await;
                let n = world.targets.spots[idx].state.borrow().n_breakages;
                world.targets.recover(&world, idx, n);
                let wait = world.targets.rng.borrow_mut().range(10, 9000) * MS;
                Sim::sleep(&world, wait).await;
                if !world.targets.is_calm.get() {
                    world.targets.break_down(&world, idx);
                }
            }
        }
    }

    /// Does to a target what a step of a fix does. `restarts`: it is stopped first;
    /// `starts`: it runs afterwards.
    pub(crate) async fn treat(
        world: &Rc<World>,
        idx: usize,
        restarts: bool,
        starts: bool,
    ) -> Result<String, String> {
        let targets = &world.targets;
        let nature = targets.spots[idx].nature;
        let roll = |percent: u64| targets.rng.borrow_mut().percent(percent);
        if roll(nature.hangs_step) {
            Sim::sleep(world, micros(Duration::from_secs(3600))).await;
        }
        let wait = targets.rng.borrow_mut().range(2 * MS, 400 * MS) + nature.drag;
        if restarts {
            let _number = targets.kill(world, idx);
            Sim::sleep(world, wait).await;
        }
        if roll(nature.fails_step) {
            return Err("the engine says no".to_owned());
        }
        let before = targets.spots[idx].state.borrow().mode;
        let mode = if roll(nature.stays_sick) {
            if before == Mode::Fine { Mode::Failing } else { before }
        } else {
            Mode::Fine
        };
        let is_dead = targets.spots[idx].state.borrow().run.is_none();
        if starts && is_dead {
            targets.start(world, idx, mode);
        } else if !starts {
            Sim::sleep(world, wait).await;
            targets.set_mode(world, idx, mode);
        }
        targets.treated(world, idx);
        Ok("done".to_owned())
    }

    /// Lets happen what comes of a fix later.
    fn treated(&self, world: &Rc<World>, idx: usize) {
        let nature = self.spots[idx].nature;
        let roll = |percent: u64| self.rng.borrow_mut().percent(percent);
        if roll(nature.dies_again) {
            let wait = self.rng.borrow_mut().range(100 * MS, 20 * SECOND);
            world.sim.after(wait, move |world| world.targets.break_down(world, idx));
        }
        if roll(nature.breaks_other) {
            let spot = &self.spots[idx];
            let near: Vec<usize> = spot.needs.iter().chain(&spot.needed_by).copied().collect();
            if let Some(other) = near.first().copied() {
                let wait = self.rng.borrow_mut().range(0, 3000) * MS;
                world.sim.after(wait, move |world| world.targets.break_down(world, other));
            }
        }
    }

    /// Restarts a process, as `process.restart` does: what it decides is `host::process`.
    pub(crate) async fn restart(
        world: &Rc<World>,
        idx: usize,
        plan: &Plan,
    ) -> Result<String, Failure> {
        let targets = &world.targets;
        let (hosts, nature, is_start) = (&targets.hosts, targets.spots[idx].nature, is_start(plan));
        let roll = |percent: u64| targets.rng.borrow_mut().percent(percent);
        if roll(nature.hangs_step) {
            Sim::sleep(world, micros(Duration::from_secs(3600))).await;
        }
        let wait = targets.rng.borrow_mut().range(2 * MS, 400 * MS) + nature.drag;
        let Some(_lock) = hosts.lock(idx) else {
            return Err(Failure::new("another fixer works on it at this moment"));
        };
        let checks = &plan.success.checks;
        let before = targets.spots[idx].state.borrow().mode;
        if !(is_start && world.bug(Bug::StartWithoutLook)) {
            let present = hosts.present(idx, checks).map_err(|it| refused(&it))?;
            if is_start && let Some(running) = &present.running {
                let found = format!("found it running, as process {}", running.main.pid);
                // When that is all of the plan, nothing was done.
                let nothing = Failure { is_refusal: true, ..Failure::new(found.clone()) };
                return if plan.steps.len() == 1 { Err(nothing) } else { Ok(found) };
            }
            let heads = present.running.iter().flat_map(|it| [Some(it.main), it.starter]);
            let ended: Vec<HostRun> = heads.flatten().chain(present.rest).collect();
            for run in &ended {
                world.laws.borrow_mut().who.stopped(world, idx, run.pid, is_start);
                targets.stop(world, run.pid);
            }
            Sim::sleep(world, if ended.is_empty() { wait / 4 } else { wait }).await;
            let again = hosts.started_meanwhile(idx, checks);
            if let Some(run) = again.map_err(|it| Failure { is_refusal: false, ..refused(&it) })? {
                return Ok(format!("found it started again by somebody else, as {run}"));
            }
        }
        if roll(nature.fails_step) {
            return Err(Failure::new("the kernel says no"));
        }
        let stays_sick = roll(nature.stays_sick);
        let sick = if before == Mode::Fine { Mode::Failing } else { before };
        world.laws.borrow_mut().who.started(world, idx);
        let mark = format!("run-{}", targets.n_runs.get());
        let Some(run) = hosts.spawn(idx, world.sim.now(), Some(mark)) else {
            targets.touch(world, idx);
            return Err(Failure::new("it ended at once with exit code 1; its log tells why"));
        };
        targets.start(world, idx, if stays_sick { sick } else { Mode::Fine });
        targets.treated(world, idx);
        Ok(format!("started process {}", run.pid))
    }

    /// Ends one process, whatever it is.
    fn stop(&self, world: &Rc<World>, pid: i32) {
        match self.hosts.role(pid) {
            Some(Role::Main(idx)) => {
                let _number = self.kill(world, idx);
            }
            Some(Role::Worker(_) | Role::Stranger) | None => self.hosts.end(pid),
        }
    }

    /// Starts what lets targets break.
    pub(crate) fn begin(world: &Rc<World>) {
        if !world.options.has(Part::Breakages) {
            return;
        }
        for idx in 0..world.targets.spots.len() {
            world.sim.spawn(OUTSIDE, Self::age(Rc::clone(world), idx));
        }
    }

    /// Returns the target that an action acts upon.
    pub(crate) fn acted_upon(&self, action: &domain::action::Action) -> Option<usize> {
        use domain::action::Action as A;
        match action {
            A::ProcessRestart { target, .. } => self.index(target),
            A::DockerRestart { container }
            | A::DockerStart { container }
            | A::DockerStop { container } => {
                let is_it = |it: &Spot| match it.target.handle() {
                    Some(Handle::Docker(docker)) => docker.container == *container,
                    Some(Handle::Process(_)) | None => false,
                };
                self.spots.iter().position(is_it)
            }
            A::HttpRequest { url, .. } => self.index(url.rsplit('/').next()?),
            A::CommandRun { .. } | A::DiskClean { .. } => None,
        }
    }
}
