//! The file of the local list, as this fixer reads it.

use std::path::{Path, PathBuf};

use service::{
    ConfigError,
    local_list::{self, ListFile, Placed},
};

use super::{AllowList, by_default, system};

/// How the file is named.
const FLAG: &str = "--allow-file (SELFHEAL_FIXER_ALLOW_FILE)";

/// Reads the list from a file.
pub(super) fn read(path: &Path) -> Result<AllowList, ConfigError> {
    of(path, local_list::read(path, FLAG)?)
}

/// Reads the list from the text of a file.
#[cfg(test)]
pub(super) fn parse(path: &Path, text: &str) -> Result<AllowList, ConfigError> {
    of(path, ListFile::parse(path, text)?)
}

fn of(path: &Path, file: ListFile) -> Result<AllowList, ConfigError> {
    let directories = |list: Vec<Placed<String>>| {
        list.into_iter().map(|it| directory(path, it)).collect::<Result<_, _>>()
    };
    Ok(AllowList {
        actions: file.actions.map_or_else(by_default, |it| it.into_iter().collect()),
        programs: file.programs,
        env: file.env,
        hosts: file.hosts,
        containers: file.containers,
        directories: file.directories.map(directories).transpose()?,
        writes: file.writes,
        ..AllowList::default()
    })
}

fn directory(path: &Path, (text, place): Placed<String>) -> Result<PathBuf, ConfigError> {
    let Some(why) = system::refusal(Path::new(&text)) else { return Ok(PathBuf::from(text)) };
    let message = format!("`{text}` cannot be allowed: {why}");
    let hint = "name a directory of your own, such as /var/log/shop";
    Err(local_list::refused(path, place, &message, hint))
}
