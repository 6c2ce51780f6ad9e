//! The environment that programs get, and where they are found.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Variables that a program gets from us; all else of our environment, with the
/// secrets in it, stays here.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Where programs are searched when we have no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No program is named.
    #[error("the command names no program")]
    Empty,
    /// It is not in `PATH`.
    #[error("there is no program `{program}` in PATH ({path})")]
    NotInPath {
        /// The program.
        program: String,
        /// Where it was searched.
        path: String,
    },
    /// It is not there.
    #[error("there is no program {program}")]
    Missing {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no file that may be run.
    #[error("{0} is not an executable file")]
    NotExecutable(PathBuf),
    /// The working directory is not there.
    #[error("there is no working directory {dir}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "name a program in `command`",
            Self::NotInPath { .. } => {
                "install it, write its whole path in `command`, or start the fixer with another PATH"
            }
            Self::Missing { .. } => {
                "install it, or correct the path in `command`; the fixer must see the same file system"
            }
            Self::NotExecutable(_) => "make it executable with `chmod +x`",
            Self::Directory { .. } => "create it, or correct `dir`",
        }
    }
}

/// What is passed on from our own environment; taken once, at the start.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    passed_on: Vec<(&'static str, OsString)>,
}

impl Environment {
    /// Takes what is passed on from the environment of this process.
    #[must_use]
    pub(crate) fn of_this_process() -> Self {
        let taken = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        Self { passed_on: taken.collect() }
    }

    /// Returns the variables for a program, before its own are added.
    pub(crate) fn clean(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.passed_on.iter().map(|(name, value)| (OsStr::new(*name), value.as_os_str()))
    }

    /// Returns the same as text, for a process that is told its environment.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let text = |it: &OsStr| it.to_string_lossy().into_owned();
        self.clean().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// Finds the program of a command, with its whole path.
    ///
    /// A bare name is searched in the `PATH` that the program itself will have; a
    /// relative path counts from the program's working directory, as in a shell.
    ///
    /// # Errors
    ///
    /// [`Error`] when it cannot be run.
    pub(crate) fn find(
        &self,
        command: &[String],
        dir: Option<&str>,
        env: &BTreeMap<String, String>,
    ) -> Result<PathBuf, Error> {
        let Some(program) = command.first().filter(|it| !it.is_empty()) else {
            return Err(Error::Empty);
        };
        let base = working_directory(dir)?;
        if program.contains('/') {
            let program = base.join(program);
            let meta = program
                .metadata()
                .map_err(|source| Error::Missing { program: program.clone(), source })?;
            return if is_executable(&meta) {
                Ok(program)
            } else {
                Err(Error::NotExecutable(program))
            };
        }
        let own = env.get("PATH").map(OsString::from);
        let ours =
            || self.passed_on.iter().find(|(name, _)| *name == "PATH").map(|(_, it)| it.clone());
        let path = own.or_else(ours).unwrap_or_else(|| PATH_DEFAULT.into());
        std::env::split_paths(&path)
            .map(|place| base.join(place).join(program))
            .find(|it| it.metadata().is_ok_and(|meta| is_executable(&meta)))
            .ok_or_else(|| Error::NotInPath {
                program: program.clone(),
                path: path.to_string_lossy().into_owned(),
            })
    }
}

/// Returns the absolute working directory.
fn working_directory(dir: Option<&str>) -> Result<PathBuf, Error> {
    let dir = Path::new(dir.unwrap_or("."));
    let refused = |source| Error::Directory { dir: dir.to_path_buf(), source };
    let meta = dir.metadata().map_err(refused)?;
    if !meta.is_dir() {
        return Err(refused(io::ErrorKind::NotADirectory.into()));
    }
    std::path::absolute(dir).map_err(refused)
}

fn is_executable(meta: &std::fs::Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(command: &[&str], dir: Option<&str>) -> Result<PathBuf, Error> {
        let command: Vec<_> = command.iter().map(|it| (*it).to_owned()).collect();
        Environment::of_this_process().find(&command, dir, &BTreeMap::new())
    }

    #[test]
    fn a_bare_name_is_searched_in_path() {
        assert!(find(&["sh"], None).unwrap().ends_with("sh"));
        assert!(matches!(find(&["no-such-program"], None), Err(Error::NotInPath { .. })));
    }

    #[test]
    fn the_path_of_the_program_itself_counts() {
        let env = [("PATH".to_owned(), "/no/such/dir".to_owned())].into();
        let found = Environment::of_this_process().find(&["sh".to_owned()], None, &env);
        assert!(matches!(found, Err(Error::NotInPath { .. })), "{found:?}");
    }

    #[test]
    fn a_relative_program_counts_from_its_working_directory() {
        assert_eq!(find(&["./sh"], Some("/bin")).unwrap(), Path::new("/bin/./sh"));
    }

    #[test]
    fn what_cannot_be_run_is_told_apart() {
        assert!(matches!(find(&[], None), Err(Error::Empty)));
        assert!(matches!(find(&["/no/such/program"], None), Err(Error::Missing { .. })));
        assert!(matches!(find(&["/etc/passwd"], None), Err(Error::NotExecutable(_))));
        assert!(matches!(find(&["/etc"], None), Err(Error::NotExecutable(_))));
        assert!(matches!(find(&["sh"], Some("/no/such/dir")), Err(Error::Directory { .. })));
    }
}
