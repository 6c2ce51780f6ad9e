//! Actions: the closed list of what hands can do.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    check::Check,
    redact,
    secret::Text,
    span::Span,
    target::{Handle, ProcessHandle, Target},
};

/// The name of an action, as in runbooks and allow-lists.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ActionName {
    /// Stops the process if it lives, and starts it.
    #[serde(rename = "process.restart")]
    ProcessRestart,
    /// Restarts the container.
    #[serde(rename = "docker.restart")]
    DockerRestart,
    /// Starts the container.
    #[serde(rename = "docker.start")]
    DockerStart,
    /// Stops the container.
    #[serde(rename = "docker.stop")]
    DockerStop,
    /// Runs a program, without a shell.
    #[serde(rename = "command.run")]
    CommandRun,
    /// Sends an HTTP request.
    #[serde(rename = "http.request")]
    HttpRequest,
    /// Removes old files that match a pattern inside named directories.
    #[serde(rename = "disk.clean")]
    DiskClean,
}

impl ActionName {
    /// All actions there are.
    pub const ALL: [Self; 7] = [
        Self::ProcessRestart,
        Self::DockerRestart,
        Self::DockerStart,
        Self::DockerStop,
        Self::CommandRun,
        Self::HttpRequest,
        Self::DiskClean,
    ];

    /// Returns the name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProcessRestart => "process.restart",
            Self::DockerRestart => "docker.restart",
            Self::DockerStart => "docker.start",
            Self::DockerStop => "docker.stop",
            Self::CommandRun => "command.run",
            Self::HttpRequest => "http.request",
            Self::DiskClean => "disk.clean",
        }
    }
}

impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An action with everything it needs, so that what was approved is what is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action")]
pub enum Action {
    /// Stops the process if it lives, and starts it.
    #[serde(rename = "process.restart")]
    ProcessRestart {
        /// The target.
        target: String,
        /// Its handle.
        process: ProcessHandle,
    },
    /// Restarts the container.
    #[serde(rename = "docker.restart")]
    DockerRestart {
        /// The container, as in the handle.
        container: String,
    },
    /// Starts the container.
    #[serde(rename = "docker.start")]
    DockerStart {
        /// The container, as in the handle.
        container: String,
    },
    /// Stops the container.
    #[serde(rename = "docker.stop")]
    DockerStop {
        /// The container, as in the handle.
        container: String,
    },
    /// Runs a program, without a shell.
    #[serde(rename = "command.run")]
    CommandRun {
        /// Program and arguments.
        command: Vec<String>,
        /// Working directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dir: Option<String>,
        /// The whole environment besides `PATH`, `HOME`, `LANG`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, Text>,
    },
    /// Sends an HTTP request.
    #[serde(rename = "http.request")]
    HttpRequest {
        /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        method: String,
        /// Where to.
        url: String,
        /// Headers.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, Text>,
        /// Body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Text>,
        /// Statuses that mean success (default: 200 to 299).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        status: Vec<u16>,
    },
    /// Removes old files that match a pattern inside named directories.
    #[serde(rename = "disk.clean")]
    DiskClean {
        /// Absolute directories; nothing outside of them is touched.
        directories: Vec<String>,
        /// Patterns of file names, such as `*.log.*`; at least one.
        patterns: Vec<String>,
        /// Only files last changed longer ago than this.
        older_than: Span,
        /// Only list what would be removed.
        #[serde(default)]
        dry_run: bool,
    },
}

impl Action {
    /// Returns the name of the action.
    #[must_use]
    pub const fn name(&self) -> ActionName {
        match self {
            Self::ProcessRestart { .. } => ActionName::ProcessRestart,
            Self::DockerRestart { .. } => ActionName::DockerRestart,
            Self::DockerStart { .. } => ActionName::DockerStart,
            Self::DockerStop { .. } => ActionName::DockerStop,
            Self::CommandRun { .. } => ActionName::CommandRun,
            Self::HttpRequest { .. } => ActionName::HttpRequest,
            Self::DiskClean { .. } => ActionName::DiskClean,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name())?;
        match self {
            Self::ProcessRestart { target, .. } => f.write_str(target),
            Self::DockerRestart { container }
            | Self::DockerStart { container }
            | Self::DockerStop { container } => f.write_str(container),
            Self::CommandRun { command, .. } => f.write_str(&redact::text(&command.join(" "))),
            Self::HttpRequest { method, url, .. } => write!(f, "{method} {}", redact::text(url)),
            Self::DiskClean { directories, patterns, older_than, .. } => write!(
                f,
                "{} older than {older_than} in {}",
                patterns.join(" "),
                directories.join(" ")
            ),
        }
    }
}

/// A step of a runbook, as it is written: an action's name and the arguments that
/// it takes; what is absent comes from the target's handle.
///
/// In texts, `{target}` stands for the target's name and `{label:x}` for its label x.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::schema::arguments)]
pub struct StepSpec {
    /// The action.
    pub action: ActionName,
    /// Name in reports (default: the action's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Longest time it may take (default 30 s).
    #[serde(default = "step_timeout")]
    pub timeout: Span,
    /// Must pass immediately before the step; otherwise the step is not run and the fix fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_check: Option<Check>,
    /// What takes the step back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Box<Self>>,
    /// `command.run`: program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// `command.run`: working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// `command.run`: environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
    /// `docker.*`: the container (default: the target's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// `http.request`: method (default `POST`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http.request`: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `http.request`: headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// `http.request`: body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Text>,
    /// `http.request`: statuses that mean success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// `disk.clean`: directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<String>,
    /// `disk.clean`: patterns of file names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// `disk.clean`: least age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Span>,
    /// `disk.clean`: only list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

fn step_timeout() -> Span {
    Span::from_secs(30)
}

/// Why a step cannot be carried out on a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The action needs an argument.
    #[error("{action} needs `{field}`")]
    Missing {
        /// The action.
        action: ActionName,
        /// The field.
        field: &'static str,
    },
    /// An argument makes no sense.
    #[error("{action}: `{field}` {why}")]
    Wrong {
        /// The action.
        action: ActionName,
        /// The field.
        field: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The target has no such handle.
    #[error("{action} needs a target with a `{handle}` handle")]
    Handle {
        /// The action.
        action: ActionName,
        /// The kind of handle.
        handle: &'static str,
    },
}

impl StepSpec {
    /// Returns the arguments' faults that show without a target.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Wrong`].
    pub fn validate(&self) -> Result<(), Error> {
        let action = self.action;
        let missing = |field| Err(Error::Missing { action, field });
        let wrong = |field, why| Err(Error::Wrong { action, field, why });
        match action {
            ActionName::CommandRun if self.command.as_ref().is_none_or(Vec::is_empty) => {
                return missing("command");
            }
            ActionName::HttpRequest => match &self.url {
                None => return missing("url"),
                Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                    return wrong("url", "must begin with http:// or https://");
                }
                Some(_) => {}
            },
            ActionName::DiskClean => {
                if self.directories.is_empty() {
                    return missing("directories");
                }
                if self.directories.iter().any(|it| !it.starts_with('/') || it.contains("..")) {
                    return wrong("directories", "must be absolute paths without `..`");
                }
                if self.patterns.is_empty() {
                    return missing("patterns");
                }
                if self.patterns.iter().any(|it| it.contains('/') || it.is_empty()) {
                    return wrong("patterns", "are patterns of file names, without `/`");
                }
                if self.older_than.is_none() {
                    return missing("older_than");
                }
            }
            ActionName::CommandRun
            | ActionName::ProcessRestart
            | ActionName::DockerRestart
            | ActionName::DockerStart
            | ActionName::DockerStop => {}
        }
        const NO_PLACE: &str = "has a secret that is not exactly one of `env` and `file`";
        let mistaken =
            |texts: &BTreeMap<String, Text>| texts.values().any(|it| it.mistake().is_some());
        if mistaken(&self.env) {
            return wrong("env", NO_PLACE);
        }
        if mistaken(&self.headers) {
            return wrong("headers", NO_PLACE);
        }
        if self.body.as_ref().is_some_and(|it| it.mistake().is_some()) {
            return wrong("body", NO_PLACE);
        }
        self.undo.as_ref().map_or(Ok(()), |undo| undo.validate())
    }

    /// Fills in what the step takes from the target.
    ///
    /// # Errors
    ///
    /// [`Error`] when an argument is missing or wrong or the handle does not fit.
    pub fn resolve(&self, target: &Target) -> Result<Action, Error> {
        self.validate()?;
        let action = self.action;
        let text = |it: &String| fill(it, target);
        let missing = |field| Error::Missing { action, field };
        Ok(match action {
            ActionName::ProcessRestart => {
                let Some(Handle::Process(process)) = target.handle() else {
                    return Err(Error::Handle { action, handle: "process" });
                };
                Action::ProcessRestart { target: target.name.clone(), process: process.clone() }
            }
            ActionName::DockerRestart => {
                Action::DockerRestart { container: self.container_of(target)? }
            }
            ActionName::DockerStart => {
                Action::DockerStart { container: self.container_of(target)? }
            }
            ActionName::DockerStop => Action::DockerStop { container: self.container_of(target)? },
            ActionName::CommandRun => Action::CommandRun {
                command: self.command.iter().flatten().map(text).collect(),
                dir: self.dir.as_ref().map(text),
                env: self.env.iter().map(|(key, value)| (key.clone(), value.map(text))).collect(),
            },
            ActionName::HttpRequest => Action::HttpRequest {
                method: self.method.clone().unwrap_or_else(|| "POST".to_owned()).to_uppercase(),
                url: self.url.as_ref().map(text).ok_or_else(|| missing("url"))?,
                headers: self.headers.clone(),
                body: self.body.as_ref().map(|it| it.map(text)),
                status: self.status.clone(),
            },
            ActionName::DiskClean => Action::DiskClean {
                directories: self.directories.clone(),
                patterns: self.patterns.clone(),
                older_than: self.older_than.ok_or_else(|| missing("older_than"))?,
                dry_run: self.dry_run,
            },
        })
    }

    fn container_of(&self, target: &Target) -> Result<String, Error> {
        match (&self.container, target.handle()) {
            (Some(container), _) => Ok(fill(container, target)),
            (None, Some(Handle::Docker(docker))) => Ok(docker.container.clone()),
            (None, Some(Handle::Process(_)) | None) => {
                Err(Error::Handle { action: self.action, handle: "docker" })
            }
        }
    }
}

/// Replaces `{target}` and `{label:x}`. The result is one argument, never parsed again.
fn fill(text: &str, target: &Target) -> String {
    let mut out = text.replace("{target}", &target.name);
    for (key, value) in &target.labels {
        out = out.replace(&format!("{{label:{key}}}"), value);
    }
    out
}
