//! The local list: what this fixer may do at all.
//!
//! It comes from flags, the environment and a file of this host. Nothing that arrives
//! over the wire can widen it.
//!
//! | list | limits | absent | empty |
//! |---|---|---|---|
//! | `actions` | names of actions | the harmless ones: see [`crate::Args::allow`] | nothing |
//! | `programs` | `process.restart`, `command.run` | any program | none |
//! | `writes` | where logs and pid files of `process.restart` may lie | anywhere | the state directory |
//! | `hosts` | `http.request` | any host but link-local addresses | none |
//! | `containers` | `docker.*` | any container | none |
//! | `directories` | `disk.clean` | none, unless all is allowed | none |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use domain::{
    action::{Action, ActionName},
    check::{Check, Probe},
    target::ProcessHandle,
    wire::{FixMode, FixOrder},
};
use glob::{MatchOptions, Pattern};
use service::ConfigError;

use crate::{Args, actions, environment::Environment};

mod file;
mod system;

/// Patterns match parts of paths: `*` stops at `/`, `**` does not.
const BY_PARTS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What this fixer may do at all.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    actions: BTreeSet<ActionName>,
    /// Whether everything was allowed in so many words.
    all: bool,
    programs: Option<Vec<Pattern>>,
    hosts: Option<Vec<Pattern>>,
    containers: Option<Vec<Pattern>>,
    directories: Option<Vec<PathBuf>>,
    writes: Option<Vec<PathBuf>>,
}

/// Why something is not allowed here, and how it would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} on this fixer; {hint}")]
pub(crate) struct Denied {
    what: String,
    hint: String,
}

impl Denied {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
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
        if let (Some(writes), Ok(state)) = (&mut list.writes, std::path::absolute(&args.state_dir))
        {
            writes.push(state);
        }
        if let Some(names) = given(&args.allow) {
            list.name_actions(&names)?;
        }
        Ok(list)
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
    /// [`Denied`] names the first thing that is not allowed.
    pub(crate) fn permits(
        &self,
        order: &FixOrder,
        environment: &Environment,
    ) -> Result<(), Denied> {
        for step in &order.plan.steps {
            match order.mode {
                FixMode::Apply => {
                    self.action(&step.action, environment)?;
                    if let Some(check) = &step.pre_check {
                        self.pre_check(check, environment)?;
                    }
                }
                FixMode::Undo => {}
            }
            if let Some(undo) = &step.undo {
                self.action(undo, environment)?;
            }
        }
        Ok(())
    }

    fn action(&self, action: &Action, environment: &Environment) -> Result<(), Denied> {
        self.named(action.name())?;
        let listed = actions::listed(action.name());
        listed.map_or(Ok(()), |listed| (listed.permit)(action, self, environment))
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
    fn pre_check(&self, check: &Check, environment: &Environment) -> Result<(), Denied> {
        match check.probe() {
            Ok(Probe::Command(command)) => {
                self.named(ActionName::CommandRun)?;
                self.program(command, None, &BTreeMap::new(), environment)
            }
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

    /// Checks a program against `programs`.
    ///
    /// A pattern without `/` allows a program by its name alone, but then only one
    /// that was found in the fixer's own `PATH`.
    pub(crate) fn program(
        &self,
        command: &[String],
        dir: Option<&str>,
        env: &BTreeMap<String, String>,
        environment: &Environment,
    ) -> Result<(), Denied> {
        let Some(patterns) = &self.programs else { return Ok(()) };
        let name = command.first().map_or("", String::as_str);
        let hint = "add it to `programs` of the --allow-file";
        if let Some(key) = env.keys().find(|it| it.starts_with("LD_")) {
            return Err(Denied::new(
                format!(
                    "the variable {key}, which puts foreign code into `{name}`, is not allowed"
                ),
                "remove it from the plan",
            ));
        }
        let found = environment.find(command, dir, env).map_err(|error| {
            Denied::new(format!("{error}, so `{name}` cannot be allowed"), error.hint())
        })?;
        let straight = !found.components().any(|it| it == Component::ParentDir);
        let by_name = !name.contains('/') && !env.contains_key("PATH");
        let allowed = patterns.iter().any(|it| {
            if it.as_str().contains('/') {
                straight && it.matches_path_with(&found, BY_PARTS)
            } else {
                by_name && it.matches_with(name, BY_PARTS)
            }
        });
        if allowed {
            return Ok(());
        }
        Err(Denied::new(format!("the program {} is not allowed", found.display()), hint))
    }

    /// Checks where the files of a process lie that its handle names, against `writes`.
    pub(crate) fn files(&self, process: &ProcessHandle) -> Result<(), Denied> {
        let Some(places) = &self.writes else { return Ok(()) };
        for file in [&process.log, &process.pid_file].into_iter().flatten() {
            let path = std::path::absolute(file).unwrap_or_else(|_error| PathBuf::from(file));
            let straight = !path.components().any(|it| it == Component::ParentDir);
            if !straight || !places.iter().any(|it| path.starts_with(it)) {
                return Err(Denied::new(
                    format!("writing {} is not allowed", path.display()),
                    "add its directory to `writes` of the --allow-file, or leave it out of the handle",
                ));
            }
        }
        Ok(())
    }

    /// Checks a directory against `directories`, and against what is never allowed.
    pub(crate) fn directory(&self, path: &Path) -> Result<(), Denied> {
        if let Some(why) = system::refusal(path) {
            return Err(Denied::new(
                format!("cleaning {} is not allowed: {why}", path.display()),
                "name a directory of your own below it; this cannot be allowed",
            ));
        }
        let allowed = match &self.directories {
            Some(allowed) => allowed.iter().any(|it| path.starts_with(it)),
            None => self.all,
        };
        if allowed {
            return Ok(());
        }
        Err(Denied::new(
            format!("cleaning {} is not allowed", path.display()),
            "add it to `directories` of the --allow-file",
        ))
    }

    /// Checks the host of a URL against `hosts`.
    pub(crate) fn url(&self, url: &str) -> Result<(), Denied> {
        let parsed = reqwest::Url::parse(url).ok();
        let Some(host) = parsed.as_ref().and_then(reqwest::Url::host_str) else {
            return Err(Denied::new(
                format!("`{url}` is no URL and cannot be asked"),
                "correct it in the runbook",
            ));
        };
        let port = parsed.as_ref().and_then(reqwest::Url::port_or_known_default).unwrap_or(0);
        self.host(&format!("{host}:{port}"), host)
    }

    /// Checks a host: patterns may name it with or without its port.
    fn host(&self, with_port: &str, host: &str) -> Result<(), Denied> {
        let matches = |it: &Pattern| it.matches(with_port) || it.matches(host);
        if self.hosts.is_none() && is_link_local(host) {
            return Err(Denied::new(
                format!("{host}, where clouds keep credentials, is not allowed"),
                "if it is meant, name it in `hosts` of the --allow-file",
            ));
        }
        if self.hosts.as_ref().is_none_or(|all| all.iter().any(matches)) {
            return Ok(());
        }
        Err(Denied::new(
            format!("the host {with_port} is not allowed"),
            "add it to `hosts` of the --allow-file",
        ))
    }

    /// Checks a container's name, as it is written in its handle, against `containers`.
    pub(crate) fn container(&self, name: &str) -> Result<(), Denied> {
        let matches = |it: &Pattern| it.matches_with(name, BY_PARTS);
        if self.containers.as_ref().is_none_or(|all| all.iter().any(matches)) {
            return Ok(());
        }
        Err(Denied::new(
            format!("the container {name} is not allowed"),
            "add it to `containers` of the --allow-file",
        ))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.actions.iter().map(|it| it.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

fn is_link_local(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(|it| it.is_link_local())
        }
        Err(_) => false,
    }
}

/// What is allowed where nothing is said.
fn by_default() -> BTreeSet<ActionName> {
    actions::ACTIONS.iter().filter(|it| it.by_default).map(|it| it.name).collect()
}

#[cfg(test)]
mod tests;
