//! The local list: what this fixer may do at all.
//!
//! It comes from flags, the environment and a file of this host. Nothing that arrives
//! over the wire can widen it. What is not listed is not allowed: without any list only the
//! handles of the active configuration, which supervisors have signed, are started and restarted.
//!
//! | list | limits | absent | with `--allow all` |
//! |---|---|---|---|
//! | `actions` | names of actions | see [`crate::Args::allow`] | all |
//! | `programs` | `command.run`; where it is given also `process.restart` | none | any |
//! | `env` | variables of `command.run` | none | any, unless `programs` is given |
//! | `writes` | where logs and pid files of `process.restart` may lie | the state directory | anywhere |
//! | `hosts` | `http.request` and pre-checks | none; for pre-checks what checks of targets ask | any |
//! | `containers` | `docker.*` | those of targets | any |
//! | `directories` | `disk.clean` | none | any |
//!
//! An empty list allows nothing. Whatever the list says, a `process.restart` is done only with the
//! handle that the active configuration has for its target, and no connection leads to an address
//! that [`service::outgoing`] refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use domain::{
    action::{Action, ActionName},
    check::{Check, Probe},
    wire::{FixMode, FixOrder},
};
use glob::Pattern;
use service::{
    ConfigError,
    local_list::{EnvNames, Hosts, Programs},
    outgoing::Outgoing,
};

use crate::{Args, actions, environment::Environment, known::Known};

mod file;
mod system;
mod values;

/// What this fixer may do at all.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    actions: BTreeSet<ActionName>,
    /// Whether everything was allowed in so many words.
    all: bool,
    programs: Option<Programs>,
    env: Option<EnvNames>,
    hosts: Option<Hosts>,
    containers: Option<Vec<Pattern>>,
    directories: Option<Vec<PathBuf>>,
    writes: Option<Vec<PathBuf>>,
    /// Where the files of targets lie that name no others.
    state_dir: Option<PathBuf>,
    outgoing: Outgoing,
}

/// What an order is judged by besides the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) environment: &'a Environment,
    /// The active configuration, once it is known.
    pub(crate) known: Option<&'a Known>,
}

/// Why something is not allowed here, and how it would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} on this fixer; {hint}")]
pub(crate) struct Denied {
    what: String,
    hint: String,
    /// Whether another configuration may allow it.
    pub(crate) is_for_now: bool,
}

impl Denied {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), is_for_now: false }
    }

    /// Denies what another configuration may allow.
    fn by_configuration(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_for_now: true, ..Self::new(what, hint) }
    }
}

impl AllowList {
    /// Puts the list together from the flags and the file.
    ///
    /// The names of `--allow` replace those of the file; its other lists hold in any case.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with line and column of what is wrong in the file.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let given = |text: &Option<String>| text.clone().filter(|it| !it.trim().is_empty());
        let mut list = match given(&args.allow_file) {
            Some(path) => file::read(Path::new(&path))?,
            None => Self { actions: by_default(), ..Self::default() },
        };
        list.state_dir = std::path::absolute(&args.state_dir).ok();
        if let Some(names) = given(&args.allow) {
            list.name_actions(&names)?;
        }
        Ok(list)
    }

    /// Takes what the operator of this host lists of addresses. An address that `hosts` writes out
    /// is listed, too.
    #[must_use]
    pub fn with_outgoing(self, outgoing: &Outgoing) -> Self {
        Self { outgoing: outgoing.clone(), ..self }
    }

    /// Returns which addresses may be reached.
    pub(crate) fn outgoing(&self) -> Outgoing {
        self.outgoing.and(self.hosts.iter().flat_map(Hosts::addresses))
    }

    fn name_actions(&mut self, names: &str) -> Result<(), ConfigError> {
        self.actions.clear();
        for name in names.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            if name == "all" {
                self.all = true;
                self.actions = ActionName::ALL.into();
            } else if let Some(known) = ActionName::ALL.into_iter().find(|it| it.as_str() == name) {
                self.actions.insert(known);
            } else {
                let known: Vec<_> = ActionName::ALL.iter().map(|it| it.as_str()).collect();
                return Err(ConfigError::new(
                    format!("`{name}` in --allow is no action"),
                    format!("use `all`, or some of {}", known.join(", ")),
                ));
            }
        }
        Ok(())
    }

    /// Checks everything that an order might do, before anything is done.
    ///
    /// # Errors
    ///
    /// [`Denied`] names the first thing that is not allowed; what no configuration would allow
    /// counts before what another one may.
    pub(crate) fn permits(&self, order: &FixOrder, setting: Setting<'_>) -> Result<(), Denied> {
        let mut judged = Ok(());
        for step in &order.plan.steps {
            let is_apply = order.mode == FixMode::Apply;
            let actions = is_apply.then_some(&step.action).into_iter().chain(&step.undo);
            let pre_check = step.pre_check.iter().filter(|_| is_apply);
            let of_actions = actions.map(|it| self.action(it, setting));
            let of_checks = pre_check.map(|it| self.pre_check(it, setting));
            for denied in of_actions.chain(of_checks).filter_map(Result::err) {
                if !denied.is_for_now {
                    return Err(denied);
                }
                judged = judged.and(Err(denied));
            }
        }
        judged
    }

    fn action(&self, action: &Action, setting: Setting<'_>) -> Result<(), Denied> {
        self.named(action.name())?;
        let listed = actions::listed(action.name());
        listed.map_or(Ok(()), |listed| (listed.permit)(action, self, setting))
    }

    fn named(&self, name: ActionName) -> Result<(), Denied> {
        if self.actions.contains(&name) {
            return Ok(());
        }
        Err(Denied::new(
            format!("{name} is not allowed"),
            format!(
                "to allow it, start the fixer with --allow (SELFHEAL_FIXER_ALLOW) or an --allow-file (SELFHEAL_FIXER_ALLOW_FILE) that names {name}"
            ),
        ))
    }

    /// A check that runs or reaches something needs the same permission as the action that does.
    fn pre_check(&self, check: &Check, setting: Setting<'_>) -> Result<(), Denied> {
        // What a check of a target asks all the time, a pre-check may ask as well.
        let is_asked =
            |what: &str| self.hosts.is_none() && setting.known.is_some_and(|it| it.is_asked(what));
        match check.probe() {
            Ok(Probe::Command(command)) => {
                self.named(ActionName::CommandRun)?;
                self.command(command, None, &BTreeMap::new(), setting)
            }
            Ok(Probe::Http(asked) | Probe::Tcp(asked)) if is_asked(asked) => Ok(()),
            Ok(Probe::Http(url)) => self.url(url),
            Ok(Probe::Tcp(address)) => {
                self.host(address, address.rsplit_once(':').map_or(address, |it| it.0))
            }
            Ok(Probe::Process | Probe::Docker) => Ok(()),
            Ok(Probe::Disk(_) | Probe::Memory | Probe::Cpu | Probe::Prometheus(_)) => {
                Err(Denied::new(
                    format!("`{}` cannot be a pre-check", check.label()),
                    "use http, tcp, process, docker or command",
                ))
            }
            Err(error) => Err(Denied::new(
                format!("a pre-check makes no sense ({error})"),
                "correct it in the runbook",
            )),
        }
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.actions.iter().map(|it| it.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

/// What is allowed where nothing is said.
fn by_default() -> BTreeSet<ActionName> {
    actions::ACTIONS.iter().filter(|it| it.by_default).map(|it| it.name).collect()
}

#[cfg(test)]
mod tests;
