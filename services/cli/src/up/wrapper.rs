//! Runs a program that dies with its parent.
//!
//! When `up` is killed with no chance to clean up, its children must not live on. The kernel can see to
//! that, but only a process itself can ask for it: so we start ourselves, ask, and become the program.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use crate::exit::{Exit, Failure};

/// Becomes `command`; with `is_private`, what it makes is for our own user alone. Returns only when
/// that fails.
///
/// # Errors
///
/// When the parent has gone meanwhile, or the program cannot be started.
pub(crate) fn become_child(
    parent: u32,
    is_private: bool,
    command: &[OsString],
) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Exit::Usage, "no program to run"));
    };
    die_with_parent(parent)?;
    if is_private {
        private::umask::restrict();
    }
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(Exit::Failed, format!("cannot run {}", program.display())).because(error))
}

#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| {
        Failure::new(Exit::Failed, "cannot ask to die with the parent").because(error)
    })?;
    // It may have died before we asked; then nobody will tell us.
    let present = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if present != Some(parent) {
        return Err(Failure::new(Exit::Failed, format!("parent process {parent} is gone")));
    }
    Ok(())
}

/// Elsewhere the next `up` ends what was left behind, by its roster.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: u32) -> Result<(), Failure> {
    Ok(())
}
