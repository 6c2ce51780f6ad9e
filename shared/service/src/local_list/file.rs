//! The file of a local list, with line and column of every mistake.

use std::path::{Component, Path, PathBuf};

use domain::action::ActionName;
use glob::Pattern;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{EnvNames, Hosts, Programs};
use crate::ConfigError;

/// Largest file that is read; a list has a few lines.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Something with its line and column.
pub type Placed<T> = (T, (u64, u64));

/// What stands in a local list. What is absent is no list; what is empty allows nothing.
#[derive(Clone, Debug, Default)]
pub struct ListFile {
    /// Actions that a fixer may carry out.
    pub actions: Option<Vec<ActionName>>,
    /// Programs that may be run.
    pub programs: Option<Programs>,
    /// Variables that an order may set for a program.
    pub env: Option<EnvNames>,
    /// Hosts that may be reached.
    pub hosts: Option<Hosts>,
    /// Containers that a fixer may start, restart and stop.
    pub containers: Option<Vec<Pattern>>,
    /// Directories that a fixer may clean.
    pub directories: Option<Vec<Placed<String>>>,
    /// Directories where logs and pid files of processes may lie.
    pub writes: Option<Vec<PathBuf>>,
    /// Directories whose logs a monitor may read.
    pub reads: Option<Vec<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    actions: Option<Vec<ActionName>>,
    programs: Option<Vec<Spanned<Command>>>,
    env: Option<Vec<Spanned<String>>>,
    hosts: Option<Vec<Spanned<String>>>,
    containers: Option<Vec<Spanned<String>>>,
    directories: Option<Vec<Spanned<String>>>,
    writes: Option<Vec<Spanned<String>>>,
    reads: Option<Vec<Spanned<String>>>,
}

/// A command: words between blanks, or a list of words.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Text(String),
    Words(Vec<String>),
}

impl Command {
    fn words(&self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Self::Words(words) => words.clone(),
        }
    }
}

/// Reads a local list. `flag` is how its file was named.
///
/// # Errors
///
/// [`ConfigError`] with line and column of what is wrong in it.
pub fn read(path: &Path, flag: &str) -> Result<ListFile, ConfigError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::new(
            format!("cannot read the allow-list {}", path.display()),
            format!("see that the file of {flag} exists and may be read by this agent's user"),
        )
        .because(error)
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if FILE_BYTES_MAX < size {
        let problem = format!("the allow-list {} has {size} bytes", path.display());
        return Err(ConfigError::new(problem, "a list has a few lines; is it the right file?"));
    }
    ListFile::parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
}

impl ListFile {
    /// Reads the text of a local list.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let contents: Contents = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or((0, 0), |it| (it.line(), it.column()));
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default().to_owned();
            refused(
                path,
                place,
                &message,
                "the file may hold the lists actions, programs, env, hosts, containers, directories, writes and reads",
            )
        })?;
        let patterns =
            |list: Option<Vec<Spanned<String>>>| list.map(|it| compile(path, &it)).transpose();
        let paths =
            |list: Option<Vec<Spanned<String>>>| list.map(|it| places(path, &it)).transpose();
        let placed = |it: &Spanned<String>| (it.value.clone(), place(&it.referenced));
        Ok(Self {
            actions: contents.actions,
            programs: contents.programs.map(|it| programs(path, &it)).transpose()?,
            env: patterns(contents.env)?.map(EnvNames::new),
            hosts: patterns(contents.hosts)?.map(Hosts::new),
            containers: patterns(contents.containers)?,
            directories: contents.directories.map(|it| it.iter().map(placed).collect()),
            writes: paths(contents.writes)?,
            reads: paths(contents.reads)?,
        })
    }
}

fn programs(path: &Path, list: &[Spanned<Command>]) -> Result<Programs, ConfigError> {
    let mut programs = Programs::default();
    for command in list {
        let words = command.value.words();
        programs.add(&words).map_err(|why| {
            let message = format!("`{}` is no command: {why}", words.join(" "));
            refused(
                path,
                place(&command.referenced),
                &message,
                "write the program and a pattern for each argument, such as `docker restart *`, or `...` for any arguments",
            )
        })?;
    }
    Ok(programs)
}

fn places(path: &Path, list: &[Spanned<String>]) -> Result<Vec<PathBuf>, ConfigError> {
    let one = |it: &Spanned<String>| {
        let wanted = PathBuf::from(&it.value);
        if wanted.is_absolute() && !wanted.components().any(|it| it == Component::ParentDir) {
            return Ok(wanted);
        }
        let message = format!("`{}` is no absolute path without `..`", it.value);
        Err(refused(path, place(&it.referenced), &message, "write it like /var/log/shop"))
    };
    list.iter().map(one).collect()
}

fn compile(path: &Path, list: &[Spanned<String>]) -> Result<Vec<Pattern>, ConfigError> {
    let one = |it: &Spanned<String>| {
        Pattern::new(&it.value).map_err(|error| {
            let message = format!("`{}` is no pattern: {error}", it.value);
            refused(path, place(&it.referenced), &message, "write patterns such as `shop-*`")
        })
    };
    list.iter().map(one).collect()
}

fn place(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// Says what is wrong at a place of a file.
#[must_use]
pub fn refused(path: &Path, (line, column): (u64, u64), message: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!("{}:{line}:{column}: {message}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (yaml, place, word) in [
            ("actions: [process.restart]\nprogram: [x]", ":2:", "unknown field"),
            ("actions:\n  - process.restart\n  - reboot\n", ":3:5", "reboot"),
            ("programs:\n  - \"a[\"\n", ":2:5", "no pattern"),
            ("programs:\n  - ls\n  - [a, \"...\", b]\n", ":3:5", "last word"),
            ("programs:\n  - \"\"\n", ":2:5", "no program"),
            ("env:\n  - \"a[\"\n", ":2:5", "no pattern"),
            ("writes:\n  - /srv/../x\n", ":2:5", "no absolute path"),
            ("reads:\n  - logs\n", ":2:5", "no absolute path"),
            ("actions: 7", ":1:", ""),
            ("actions: [", ":1:", ""),
        ] {
            let error = ListFile::parse(Path::new("allow.yaml"), yaml).unwrap_err();
            let told = error.to_string();
            assert!(told.contains(&format!("allow.yaml{place}")), "{yaml}: {told}");
            assert!(told.contains(word), "{yaml}: {told}");
        }
    }

    #[test]
    fn a_command_is_a_text_or_a_list_of_words() {
        let yaml = "programs: [\"docker restart *\", [\"/bin/echo\", \"a b\"]]";
        let list = ListFile::parse(Path::new("allow.yaml"), yaml).unwrap();
        let programs = list.programs.unwrap();
        let allow = |found: &str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
            programs.allow(&words, Path::new(found), true)
        };
        assert!(allow("/usr/bin/docker", &["docker", "restart", "db"]));
        assert!(allow("/bin/echo", &["/bin/echo", "a b"]));
        assert!(!allow("/bin/echo", &["/bin/echo", "a", "b"]));
        assert!(list.hosts.is_none() && list.reads.is_none());
    }
}
