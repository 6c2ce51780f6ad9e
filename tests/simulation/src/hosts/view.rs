//! The host as the rules of `host::process` see it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use domain::check::Check;
use host::process::{
    Doubt, Ending, Found, Host, MARK_TARGET, Notes, Record, Run, Search, find,
    pid_file::Content,
    ports::Holder,
    present::{self, Obstacle, Present},
    scan::Entry,
};

use super::{Hosts, Process, State, address_of, boot_id};
use crate::clock::utc;

/// What is known of one target.
#[derive(Clone, Copy, Debug)]
struct View<'a>(&'a Hosts, usize);

impl Hosts {
    /// Finds a target as monitors do.
    pub(crate) fn found(&self, idx: usize, checks: &[Check]) -> Found {
        self.asked(idx, checks, |search| find::find(search, || self.entries()))
            .unwrap_or(Found::NotRunning { leftovers: Vec::new() })
    }

    /// Looks for what is to be ended before a start, as fixers do.
    pub(crate) fn present(&self, idx: usize, checks: &[Check]) -> Result<Present, Obstacle> {
        self.asked(idx, checks, |search| present::present(search, &self.entries()))
            .unwrap_or(Ok(Present { running: None, rest: Vec::new() }))
    }

    /// Looks again when all was ended, as fixers do.
    pub(crate) fn started_meanwhile(
        &self,
        idx: usize,
        checks: &[Check],
    ) -> Result<Option<Run>, Obstacle> {
        let look = |search: Search<'_>| present::started_meanwhile(search, || self.entries());
        self.asked(idx, checks, look).unwrap_or(Ok(None))
    }

    fn asked<T>(
        &self,
        idx: usize,
        checks: &[Check],
        ask: impl FnOnce(Search<'_>) -> T,
    ) -> Option<T> {
        let view = View(self, idx);
        let handle = self.places[idx].handle.as_ref()?;
        let configured = Some(&self.configured);
        Some(ask(Search { host: &view, files: &view, handle, checks, configured }))
    }

    fn entries(&self) -> Vec<Entry> {
        let state = self.state.borrow();
        state.all.values().map(|it| self.entry(&state, it)).collect()
    }

    fn entry(&self, state: &State, process: &Process) -> Entry {
        let (target, mark) = process.mark.clone().unzip();
        Entry {
            run: self.shown(state, process),
            parent: process.parent,
            group: process.group,
            session: process.group,
            state_dir: target.as_ref().map(|_| self.state_dir.to_string_lossy().into_owned()),
            target,
            mark,
            has_environment: true,
            arguments: process.arguments.clone(),
        }
    }

    /// Returns the run that a process is taken for: its own, but for a bug.
    fn shown(&self, state: &State, process: &Process) -> Run {
        let run = process.run;
        if !self.compares_numbers {
            return run;
        }
        // As if only numbers were compared: it seems as old as the run that was noted.
        let records = state.beside.iter().filter_map(|it| it.record.as_ref());
        let noted = records.map(|it| it.run).find(|it| it.pid == run.pid);
        noted.unwrap_or(run)
    }

    fn of<T>(&self, pid: i32, read: impl FnOnce(&State, &Process) -> T) -> Option<T> {
        let state = self.state.borrow();
        state.all.get(&pid).map(|it| read(&state, it))
    }
}

impl Host for View<'_> {
    fn boot_id(&self) -> String {
        boot_id(self.0.state.borrow().boot.0)
    }

    fn now(&self) -> SystemTime {
        // What has had time to listen listens: nothing here is slow to.
        self.boot_time() + Duration::from_secs(1_000_000_000)
    }

    fn boot_time(&self) -> SystemTime {
        let since = self.0.state.borrow().boot.1;
        let beginning = SystemTime::from(utc(0));
        match u64::try_from(since) {
            Ok(after) => beginning + Duration::from_micros(after),
            Err(_) => beginning - Duration::from_micros(since.unsigned_abs()),
        }
    }

    fn living(&self, pid: i32) -> Option<Run> {
        self.0.of(pid, |state, it| self.0.shown(state, it))
    }

    fn is_alive(&self, run: &Run) -> bool {
        self.living(run.pid) == Some(*run)
    }

    fn variable(&self, pid: i32, name: &str) -> Option<String> {
        let target = self.0.of(pid, |_, it| it.mark.clone())??.0;
        (name == MARK_TARGET).then_some(target)
    }

    fn shows_environment(&self, _pid: i32) -> bool {
        true
    }

    fn arguments(&self, pid: i32) -> Vec<String> {
        self.0.of(pid, |_, it| it.arguments.clone()).unwrap_or_default()
    }

    fn program(&self, pid: i32) -> Option<String> {
        self.arguments(pid).into_iter().next()
    }

    fn short_name(&self, pid: i32) -> Option<String> {
        let program = self.program(pid)?;
        Some(program.rsplit('/').next()?.chars().take(15).collect())
    }

    fn directory(&self, _pid: i32) -> Option<PathBuf> {
        Some(PathBuf::from("/"))
    }

    fn canonical(&self, path: &str) -> Option<PathBuf> {
        Some(PathBuf::from(if path == "." { "/" } else { path }))
    }

    fn members_of_cgroup(&self, _dir: &str) -> Vec<i32> {
        Vec::new()
    }

    fn local_addresses(&self, checks: &[Check]) -> Vec<SocketAddr> {
        checks.iter().filter_map(|it| address_of(it.http.as_deref()?)).collect()
    }

    fn holders(&self, addresses: &[SocketAddr]) -> Vec<Holder> {
        let state = self.0.state.borrow();
        let ports: BTreeSet<u16> = addresses.iter().map(SocketAddr::port).collect();
        let holder = |port: u16| {
            let own = state.all.values().filter(|it| it.port == Some(port));
            let processes: Vec<Run> = own.map(|it| self.0.shown(&state, it)).collect();
            (!processes.is_empty()).then_some(Holder { port, processes })
        };
        ports.into_iter().filter_map(holder).collect()
    }

    fn listen(&self, runs: &[Run], addresses: &[SocketAddr]) -> bool {
        self.holders(addresses).iter().any(|it| it.processes.iter().any(|it| runs.contains(it)))
    }

    fn listens_elsewhere(&self, run: Run, addresses: &[SocketAddr]) -> bool {
        let port = self.0.of(run.pid, |_, it| it.port).flatten();
        port.is_some_and(|port| addresses.iter().all(|it| it.port() != port))
    }
}

impl Notes for View<'_> {
    fn target(&self) -> &str {
        &self.0.places[self.1].name
    }

    fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    fn has_named_pid_file(&self) -> bool {
        self.0.places[self.1].handle.as_ref().is_some_and(|it| it.pid_file.is_some())
    }

    fn record(&self) -> Option<Record> {
        self.0.state.borrow().beside[self.1].record.clone()
    }

    fn pid_file(&self) -> Option<Content> {
        self.0.state.borrow().beside[self.1].pid_file.clone()
    }

    fn pid_file_at(&self, _path: &str) -> Option<Content> {
        None
    }

    fn exit_of(&self, target: &str) -> Option<Ending> {
        let idx = self.0.places.iter().position(|it| it.name == target)?;
        self.0.state.borrow().beside[idx].exit.clone()
    }

    fn unfinished(&self) -> Option<String> {
        None
    }

    fn doubts(&self) -> Vec<Doubt> {
        Vec::new()
    }

    fn others(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, Record)> {
        let state = self.0.state.borrow();
        let all = self.0.places.iter().zip(&state.beside).enumerate();
        let others = all.filter(|(idx, (place, _))| *idx != self.1 && wanted(&place.name));
        let read = |(_, (place, beside)): (_, (&super::Place, &super::Beside))| {
            Some((place.name.clone(), beside.record.clone()?))
        };
        others.filter_map(read).collect()
    }
}
