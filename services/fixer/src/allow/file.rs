//! The file of the local list, with line and column of every mistake.

use std::path::{Component, Path, PathBuf};

use domain::action::ActionName;
use glob::Pattern;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use service::ConfigError;

use super::{AllowList, by_default, system};

/// Largest file that is read; a list has a few lines.
const FILE_BYTES_MAX: u64 = 256 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    actions: Option<Vec<ActionName>>,
    programs: Option<Vec<Spanned<String>>>,
    hosts: Option<Vec<Spanned<String>>>,
    containers: Option<Vec<Spanned<String>>>,
    directories: Option<Vec<Spanned<String>>>,
    writes: Option<Vec<Spanned<String>>>,
}

/// Reads the list from a file.
pub(super) fn read(path: &Path) -> Result<AllowList, ConfigError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::new(
            format!("cannot read the allow-list {}", path.display()),
            "see that the file of --allow-file (SELFHEAL_FIXER_ALLOW_FILE) exists and may be read by the fixer's user",
        )
        .because(error)
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if FILE_BYTES_MAX < size {
        let problem = format!("the allow-list {} has {size} bytes", path.display());
        return Err(ConfigError::new(problem, "a list has a few lines; is it the right file?"));
    }
    parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<AllowList, ConfigError> {
    let contents: Contents = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map_or((0, 0), |it| (it.line(), it.column()));
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default().to_owned();
        refused(
            path,
            place,
            &message,
            "the file may hold the lists actions, programs, hosts, containers, directories and writes",
        )
    })?;
    let patterns =
        |list: Option<Vec<Spanned<String>>>| list.map(|it| compile(path, &it)).transpose();
    Ok(AllowList {
        actions: contents.actions.map_or_else(by_default, |it| it.into_iter().collect()),
        all: false,
        programs: patterns(contents.programs)?,
        hosts: patterns(contents.hosts)?,
        containers: patterns(contents.containers)?,
        directories: contents.directories.map(|it| directories(path, &it)).transpose()?,
        writes: contents.writes.map(|it| places(path, &it)).transpose()?,
    })
}

/// Places to write in: one's own as much as /run or /var/log, but absolute.
fn places(path: &Path, list: &[Spanned<String>]) -> Result<Vec<PathBuf>, ConfigError> {
    let one = |it: &Spanned<String>| {
        let place = PathBuf::from(&it.value);
        if place.is_absolute() && !place.components().any(|it| it == Component::ParentDir) {
            return Ok(place);
        }
        let message = format!("`{}` is no absolute path without `..`", it.value);
        Err(refused(path, self::place(&it.referenced), &message, "write it like /var/log/shop"))
    };
    list.iter().map(one).collect()
}

fn compile(path: &Path, list: &[Spanned<String>]) -> Result<Vec<Pattern>, ConfigError> {
    let one = |it: &Spanned<String>| {
        Pattern::new(&it.value).map_err(|error| {
            let message = format!("`{}` is no pattern: {error}", it.value);
            refused(
                path,
                place(&it.referenced),
                &message,
                "write patterns such as `/opt/shop/bin/*`",
            )
        })
    };
    list.iter().map(one).collect()
}

fn directories(path: &Path, list: &[Spanned<String>]) -> Result<Vec<PathBuf>, ConfigError> {
    let one = |it: &Spanned<String>| match system::refusal(Path::new(&it.value)) {
        None => Ok(PathBuf::from(&it.value)),
        Some(why) => {
            let message = format!("`{}` cannot be allowed: {why}", it.value);
            let hint = "name a directory of your own, such as /var/log/shop";
            Err(refused(path, place(&it.referenced), &message, hint))
        }
    };
    list.iter().map(one).collect()
}

fn place(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

fn refused(path: &Path, (line, column): (u64, u64), message: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!("{}:{line}:{column}: {message}", path.display()), hint)
}
