//! Whom a fixer stops and starts: nobody but the target is stopped, and no second copy of it is
//! started beside one that runs.

use std::rc::Rc;

use crate::{hosts::Role, world::World};

/// Looks at what fixers do to processes.
#[derive(Debug)]
pub(crate) struct Who;

impl Who {
    /// A fixer ends a process for the sake of a target. `is_start`: its plan is for one that does
    /// not run.
    #[expect(clippy::unused_self, reason = "as all laws that are asked by their subject")]
    pub(crate) fn stopped(&self, world: &Rc<World>, idx: usize, pid: i32, is_start: bool) {
        let targets = &world.targets;
        let name = &targets.spots[idx].target.name;
        match targets.hosts.role(pid) {
            // It has ended by itself.
            None => {}
            Some(Role::Main(of)) if of == idx && is_start => {
                let why = format!("{name}, process {pid}, for a plan that starts the dead");
                world.fail("what runs is not stopped to be started", why);
            }
            Some(Role::Main(of) | Role::Worker(of)) if of == idx => {}
            Some(Role::Main(_) | Role::Worker(_) | Role::Stranger) => {
                let why = format!("process {pid} is not of {name}");
                world.fail("nobody else's process is stopped", why);
            }
        }
    }

    /// A fixer starts a target.
    #[expect(clippy::unused_self, reason = "as all laws that are asked by their subject")]
    pub(crate) fn started(&self, world: &Rc<World>, idx: usize) {
        if world.targets.runs(idx) {
            let why = format!("{} runs", world.targets.spots[idx].target.name);
            world.fail("no second copy is started beside the first", why);
        }
    }
}
