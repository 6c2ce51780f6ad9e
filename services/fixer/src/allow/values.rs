//! What the lists say of commands, files, hosts, containers and directories.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use domain::{redact, secret::without_secrets, target::ProcessHandle};
use glob::Pattern;
use service::local_list::{BY_PARTS, Programs};

use super::{AllowList, Denied, Setting, system};

impl AllowList {
    /// Checks a command against `programs`, and its variables against `env`.
    pub(crate) fn command(
        &self,
        command: &[String],
        dir: Option<&str>,
        env: &BTreeMap<String, String>,
        setting: Setting<'_>,
    ) -> Result<(), Denied> {
        let is_free = self.all && self.programs.is_none() && self.env.is_none();
        let denied =
            |name: &&String| !is_free && !self.env.as_ref().is_some_and(|it| it.allow(name));
        if let Some(name) = env.keys().find(denied) {
            return Err(Denied::new(
                format!("setting the variable {name} is not allowed"),
                "remove it from the runbook, or add it to `env` of the --allow-file",
            ));
        }
        match &self.programs {
            None if self.all => Ok(()),
            None => {
                let command = redact::text(&command.join(" ")).into_owned();
                Err(Denied::new(
                    format!("the command `{command}` is not allowed"),
                    "add it to `programs` of the --allow-file",
                ))
            }
            Some(programs) => listed(programs, command, dir, env, setting),
        }
    }

    /// Checks a handle: it must be the one of its target, and its files and its program must be
    /// allowed.
    pub(crate) fn process(
        &self,
        target: &str,
        process: &ProcessHandle,
        setting: Setting<'_>,
    ) -> Result<(), Denied> {
        match setting.known.map(|it| it.difference(target, process)) {
            Some(None) => {}
            Some(Some(difference)) => {
                return Err(Denied::by_configuration(
                    format!(
                        "starting what is not in the active configuration ({difference}) is not allowed"
                    ),
                    "the configuration has changed since it was planned, or the order is none of a supervisor's: plan it anew",
                ));
            }
            None if self.all => {}
            None => return Err(unknown_configuration()),
        }
        self.files(process)?;
        // Its variables are the configuration's.
        self.programs.as_ref().map_or(Ok(()), |programs| {
            let env = without_secrets(&process.env);
            listed(programs, &process.command, process.dir.as_deref(), &env, setting)
        })
    }

    /// Checks where the files of a process lie that its handle names, against `writes`.
    pub(super) fn files(&self, process: &ProcessHandle) -> Result<(), Denied> {
        if self.writes.is_none() && self.all {
            return Ok(());
        }
        for file in [&process.log, &process.pid_file].into_iter().flatten() {
            let path = std::path::absolute(file).unwrap_or_else(|_error| PathBuf::from(file));
            let is_straight = !path.components().any(|it| it == Component::ParentDir);
            let mut places = self.writes.iter().flatten().chain(&self.state_dir);
            if !is_straight || !places.any(|it| path.starts_with(it)) {
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
    pub(super) fn host(&self, with_port: &str, host: &str) -> Result<(), Denied> {
        let is_allowed = match &self.hosts {
            Some(hosts) => hosts.allow(host, with_port),
            None => self.all,
        };
        if !is_allowed {
            return Err(Denied::new(
                format!("the host {with_port} is not allowed"),
                "add it to `hosts` of the --allow-file",
            ));
        }
        // Names are looked at when they are resolved.
        let Ok(address) = host.trim_matches(['[', ']']).parse() else { return Ok(()) };
        self.outgoing().check(address).map_err(|forbidden| {
            Denied::new(
                format!("{forbidden}; that is not allowed"),
                "or name it in `hosts` of the --allow-file",
            )
        })
    }

    /// Checks a container's name, as it is written in its handle, against `containers`.
    pub(crate) fn container(&self, name: &str, setting: Setting<'_>) -> Result<(), Denied> {
        let hint = "add it to `containers` of the --allow-file";
        let denied = || format!("the container {name} is not allowed");
        let is_it = |it: &Pattern| it.matches_with(name, BY_PARTS);
        match (&self.containers, setting.known) {
            (Some(all), _) if all.iter().any(is_it) => Ok(()),
            (Some(_), _) => Err(Denied::new(denied(), hint)),
            (None, _) if self.all => Ok(()),
            (None, Some(known)) if known.has_container(name) => Ok(()),
            (None, Some(_)) => {
                let what = format!("{}, as no target of the active configuration is it,", denied());
                Err(Denied::by_configuration(what, hint))
            }
            (None, None) => Err(unknown_configuration()),
        }
    }
}

fn unknown_configuration() -> Denied {
    Denied::by_configuration(
        "the active configuration is not known yet, and so nothing is allowed",
        "see whether a supervisor leads, and whether this fixer has its public key (SELFHEAL_TRUSTED_KEYS)",
    )
}

/// Checks a command against a list of programs.
///
/// A bare name counts only as what was found in the fixer's own `PATH`.
fn listed(
    programs: &Programs,
    command: &[String],
    dir: Option<&str>,
    env: &BTreeMap<String, String>,
    setting: Setting<'_>,
) -> Result<(), Denied> {
    let name = command.first().map_or("", String::as_str);
    let found = setting.environment.find(command, dir, env).map_err(|error| {
        Denied::new(format!("{error}, so `{name}` cannot be allowed"), error.hint())
    })?;
    if programs.allow(command, &found, !env.contains_key("PATH")) {
        return Ok(());
    }
    let arguments = command.get(1..).unwrap_or_default().join(" ");
    let what = format!("{} {}", found.display(), redact::text(&arguments));
    Err(Denied::new(
        format!("the program {} is not allowed", what.trim_end()),
        "add it with patterns for its arguments to `programs` of the --allow-file: `PROGRAM ...` for any arguments",
    ))
}
