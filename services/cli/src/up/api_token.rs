//! The token by which the owner of this machine comes to the gateway, in `run/api-token`.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::credentials;
use crate::exit::{Exit, Failure};

/// The token, in the directory for the state of processes.
const FILE: &str = "api-token";

/// Variables that name a token of somebody's choice.
const GIVEN: [&str; 2] = ["SELFHEAL_API_TOKEN", "SELFHEAL_API_TOKEN_FILE"];

/// Words for no, as all our switches understand them.
const NO: [&str; 7] = ["", "0", "n", "no", "f", "false", "off"];

/// Returns the file with the token, which is made if it is not there; `None` when another token
/// was given by the environment: then no file must tell a token that does not count.
///
/// # Errors
///
/// When it cannot be read or written, or others may read it.
pub(crate) fn of_owner(
    run: &Path,
    is_set: impl Fn(&str) -> bool,
) -> Result<Option<PathBuf>, Failure> {
    let path = run.join(FILE);
    let failed = |error: io::Error| {
        let message = format!("cannot write the token `{}`", path.display());
        Failure::new(Exit::Failed, message).because(error)
    };
    if GIVEN.into_iter().any(is_set) {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(None),
        };
    }
    if credentials::read(&path)?.is_none() {
        let token = format!("{}\n", credentials::random_text()?);
        private::replace(&path, token.as_bytes()).map_err(failed)?;
    }
    Ok(Some(path))
}

/// Returns what tells a gateway of the owner's token. Events of this host need none, unless the
/// environment wants one of everybody.
pub(crate) fn variables(
    file: &Path,
    value: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let mut env = vec![("SELFHEAL_API_TOKEN_FILE", file.as_os_str().to_owned())];
    let wants = value("SELFHEAL_REQUIRE_TOKEN").unwrap_or_default();
    let is_no = wants.to_str().is_some_and(|it| NO.contains(&it.to_ascii_lowercase().as_str()));
    if is_no && value("SELFHEAL_LOCAL_PUBLISH").is_none_or(|it| it.is_empty()) {
        env.push(("SELFHEAL_LOCAL_PUBLISH", "1".into()));
    }
    env
}

/// Returns the token of the `up` of a data directory, if we may read it.
///
/// # Errors
///
/// When others may read it, too.
pub(crate) fn found(data_dir: &Path) -> Result<Option<String>, Failure> {
    credentials::read(&data_dir.join("run").join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_gives_way_to_one_of_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        private::create_dir(&run).unwrap();
        let path = of_owner(&run, |_| false).unwrap().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = found(dir.path()).unwrap().unwrap();
        assert!(64 < token.len());
        of_owner(&run, |_| false).unwrap();
        assert_eq!(found(dir.path()).unwrap(), Some(token));
        assert_eq!(of_owner(&run, |name| name == "SELFHEAL_API_TOKEN").unwrap(), None);
        assert_eq!(found(dir.path()).unwrap(), None);
    }

    #[test]
    fn events_of_this_host_need_no_token_unless_everybody_needs_one() {
        let table = [
            ("", "", true),
            ("0", "", true),
            ("No", "", true),
            ("1", "", false),
            ("", "false", false),
            ("", "1", false),
        ];
        for (required, local, is_told) in table {
            let value = |name: &str| match name {
                "SELFHEAL_REQUIRE_TOKEN" => Some(required.into()),
                _ => Some(local.into()),
            };
            let env = variables(Path::new("/t"), value);
            let told = env.iter().any(|it| it.0 == "SELFHEAL_LOCAL_PUBLISH");
            assert_eq!(told, is_told, "required {required:?}, local {local:?}");
        }
    }
}
