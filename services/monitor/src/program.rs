//! Whether the program of a process handle is there to be started.

use std::{
    env,
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use domain::{secret::Text, target::ProcessHandle};

/// Returns what a start needs and is not there, in words. Looks at the file system.
pub(crate) fn missing(handle: &ProcessHandle) -> Option<String> {
    let dir = handle.dir.as_ref().map(PathBuf::from);
    if let Some(dir) = &dir
        && is_missing(dir)
    {
        return Some(format!("the directory {} does not exist", dir.display()));
    }
    let program = handle.command.first().map(Path::new)?;
    let not_there = || format!("the program {} does not exist", program.display());
    if program.is_absolute() {
        return is_missing(program).then(not_there);
    }
    if 1 < program.components().count() {
        // From where it is started is known only if it is named.
        return dir.filter(|dir| is_missing(&dir.join(program))).map(|_| not_there());
    }
    let path = handle
        .env
        .get("PATH")
        .and_then(Text::plain)
        .map(OsString::from)
        .or_else(|| env::var_os("PATH"))?;
    let is_there = env::split_paths(&path).any(|dir| !is_missing(&dir.join(program)));
    (!is_there).then(|| format!("the program {} is not in the PATH", program.display()))
}

/// What cannot be looked at may be there.
fn is_missing(path: &Path) -> bool {
    let found = path.metadata();
    found.is_err_and(|it| matches!(it.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_missing_only_when_that_is_certain() {
        let handle = |command: &str, dir: Option<&str>| {
            let handle = serde_json::json!({"command": [command], "dir": dir});
            serde_json::from_value::<ProcessHandle>(handle).unwrap()
        };
        for (command, dir, wanted) in [
            ("/bin/sh", None, None),
            ("sh", None, None),
            ("bin/sh", Some("/"), None),
            ("./nowhere", None, None),
            ("/nowhere/at-all", None, Some("the program /nowhere/at-all does not exist")),
            ("/bin/sh/x", None, Some("the program /bin/sh/x does not exist")),
            ("no-such-program", None, Some("the program no-such-program is not in the PATH")),
            ("./nowhere", Some("/"), Some("the program ./nowhere does not exist")),
            ("sh", Some("/nowhere"), Some("the directory /nowhere does not exist")),
        ] {
            assert_eq!(missing(&handle(command, dir)).as_deref(), wanted, "{command} {dir:?}");
        }
    }
}
