//! Secrets, read where a configuration says that they are, as far as the operator of this host
//! lets it: who may change the configuration may not read every file and variable here. They are
//! never logged.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use domain::secret::{NotOnePlace, Place, SecretRef, Text};

/// Where secrets may be, unless the flags say otherwise.
pub(crate) const DIRECTORY_DEFAULT: &str = "/etc/selfheal/secrets";
/// How variables that are secrets begin, unless the flags say otherwise.
pub(crate) const PREFIX_DEFAULT: &str = "SECRET_";
/// How our own variables begin, such as the broker's password: no configuration reads them.
const OWN_PREFIX: &str = "SELFHEAL_";

static LIMITS: OnceLock<SecretLimits> = OnceLock::new();

/// What a configuration may read on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretLimits {
    directories: Vec<PathBuf>,
    prefixes: Vec<String>,
}

impl Default for SecretLimits {
    fn default() -> Self {
        Self::new([DIRECTORY_DEFAULT], [PREFIX_DEFAULT])
    }
}

impl SecretLimits {
    /// Allows files below these directories, and variables whose names begin with one of these
    /// prefixes.
    pub fn new<D: Into<PathBuf>, P: Into<String>>(
        directories: impl IntoIterator<Item = D>,
        prefixes: impl IntoIterator<Item = P>,
    ) -> Self {
        let directories = directories.into_iter().map(Into::into);
        let prefixes = prefixes.into_iter().map(Into::into);
        Self {
            directories: directories.filter(|it: &PathBuf| !it.as_os_str().is_empty()).collect(),
            prefixes: prefixes.filter(|it: &String| !it.is_empty()).collect(),
        }
    }

    fn allows_variable(&self, name: &str) -> bool {
        let is_own = name.to_ascii_uppercase().starts_with(OWN_PREFIX);
        !is_own && self.prefixes.iter().any(|it| name.starts_with(it))
    }

    /// Returns the file to read, with all links followed: none leads out of the directories.
    fn file(&self, path: &str) -> Result<PathBuf, SecretError> {
        let not_allowed = || SecretError::FileNotAllowed(path.to_owned());
        let given = Path::new(path);
        let is_straight = !given.components().any(|it| it == Component::ParentDir);
        let named = self.directories.iter().any(|it| given.starts_with(it));
        if !(is_straight && named) {
            return Err(not_allowed());
        }
        let unread = |source| SecretError::File { path: path.to_owned(), source };
        let real = given.canonicalize().map_err(unread)?;
        let within = |it: &PathBuf| it.canonicalize().is_ok_and(|it| real.starts_with(it));
        if self.directories.iter().any(within) { Ok(real) } else { Err(not_allowed()) }
    }
}

/// Says what a configuration may read on this host. The first word counts, as flags do.
pub fn limit_secrets(limits: SecretLimits) {
    let _first_counts = LIMITS.set(limits);
}

/// A secret. Its text is shown by nothing but [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for whoever needs it now.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret could not be read. Says where it should be, never what it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The reference names no place, or two.
    #[error(transparent)]
    Reference(#[from] NotOnePlace),
    /// The variable is not set for this process.
    #[error("the variable {0} is not set for this process, or is no text")]
    NotSet(String),
    /// The file cannot be read.
    #[error("cannot read the secret from the file {path}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The operator of this host does not allow the variable.
    #[error("the variable {0} may not be read by a configuration on this host")]
    VariableNotAllowed(String),
    /// The operator of this host does not allow the file.
    #[error("the file {0} may not be read by a configuration on this host")]
    FileNotAllowed(String),
    /// There is nothing: an empty secret would open a door instead of closing it.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl SecretError {
    /// Returns what to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Reference(_) => {
                "such as {env: SECRET_TOKEN} or {file: /etc/selfheal/secrets/token}"
            }
            Self::NotSet(_) => "set it for the process that needs it, and start it again",
            Self::File { .. } => "put it there, readable for the process that needs it",
            Self::VariableNotAllowed(_) => {
                "name it SECRET_…, or allow its prefix with --secret-env on this host (never SELFHEAL_…)"
            }
            Self::FileNotAllowed(_) => {
                "put it below /etc/selfheal/secrets, or allow its directory with --secrets-dir on this host"
            }
            Self::Empty(_) => "write the secret there",
        }
    }
}

/// Returns a text, read from its place if it is a secret.
///
/// # Errors
///
/// When it is a secret that cannot be read.
pub fn read_text(text: &Text) -> Result<String, SecretError> {
    match text {
        Text::Plain(text) => Ok(text.clone()),
        Text::Secret(reference) => Ok(read_secret(reference)?.expose().to_owned()),
    }
}

/// Returns texts, those that are secrets read from their places.
///
/// # Errors
///
/// When one is a secret that cannot be read.
pub fn read_texts(texts: &BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, SecretError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), read_text(text)?))).collect()
}

/// Reads a secret: from this process's environment, or from a file of its host, within what its
/// operator allows.
///
/// # Errors
///
/// When it is not allowed, not there, cannot be read, is empty, or lies in a file that others may
/// read.
pub fn read_secret(reference: &SecretRef) -> Result<Secret, SecretError> {
    match LIMITS.get() {
        Some(limits) => read_within(reference, limits),
        None => read_within(reference, &SecretLimits::default()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "which variable it is, the configuration says, and clap cannot know"
)]
fn read_within(reference: &SecretRef, limits: &SecretLimits) -> Result<Secret, SecretError> {
    let text = match reference.place()? {
        Place::Env(name) if !limits.allows_variable(name) => {
            return Err(SecretError::VariableNotAllowed(name.to_owned()));
        }
        Place::Env(name) => {
            std::env::var(name).map_err(|_not_set| SecretError::NotSet(name.to_owned()))?
        }
        Place::File(path) => private::read_secret(&limits.file(path)?)
            .map_err(|source| SecretError::File { path: path.to_owned(), source })?,
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(SecretError::Empty(reference.to_string()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_without_the_line_end_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let limits = SecretLimits::new([dir.path()], [""]);
        let path = dir.path().join("secret");
        private::write(&path, b" s3cret \n").unwrap();
        let reference = SecretRef::file(path.to_str().unwrap());
        let secret = read_within(&reference, &limits).unwrap();
        assert_eq!(secret.expose(), " s3cret ");
        assert!(!format!("{secret:?}").contains("s3cret"));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_within(&reference, &limits), Err(SecretError::Empty(_))));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = read_secret(&SecretRef::env("SECRET_NO_SUCH")).unwrap_err();
        assert!(error.to_string().contains("SECRET_NO_SUCH"), "{error}");
        let error = read_secret(&SecretRef::file("/etc/selfheal/secrets/no-such")).unwrap_err();
        assert!(error.to_string().contains("/secrets/no-such"), "{error}");
    }

    #[test]
    fn a_configuration_reads_nothing_that_the_operator_does_not_allow() {
        let dir = tempfile::tempdir().unwrap();
        let (allowed, outside) = (dir.path().join("secrets"), dir.path().join("outside"));
        std::fs::create_dir(&allowed).unwrap();
        std::fs::write(&outside, "x").unwrap();
        private::write(&allowed.join("good"), b"x").unwrap();
        std::os::unix::fs::symlink(&outside, allowed.join("link")).unwrap();
        std::os::unix::fs::symlink("good", allowed.join("inner-link")).unwrap();
        let limits = SecretLimits::new([&allowed], [PREFIX_DEFAULT, "SELF", ""]);
        let at = |path: &str| {
            let path = allowed.join(path);
            read_within(&SecretRef::file(path.to_str().unwrap()), &limits)
        };
        assert!(at("good").is_ok() && at("inner-link").is_ok());
        for wrong in ["link", "../outside", "../secrets/good"] {
            assert!(matches!(at(wrong), Err(SecretError::FileNotAllowed(_))), "{wrong}");
        }
        for path in ["/etc/shadow", "/proc/self/environ", "good", outside.to_str().unwrap()] {
            let error = read_within(&SecretRef::file(path), &limits).unwrap_err();
            assert!(error.hint().contains("--secrets-dir"), "{path}: {error}");
        }
        for name in ["SELFHEAL_NATS_URL", "selfheal_api_token", "PATH", "AWS_SECRET_ACCESS_KEY"] {
            let error = read_within(&SecretRef::env(name), &limits).unwrap_err();
            assert!(error.hint().contains("--secret-env"), "{name}: {error}");
        }
        let error = read_within(&SecretRef::env("SECRET_NONE"), &limits).unwrap_err();
        assert!(matches!(error, SecretError::NotSet(_)), "{error}");
    }

    #[test]
    fn texts_that_are_no_secrets_are_as_they_are() {
        let texts = BTreeMap::from([("a".to_owned(), Text::from("b"))]);
        assert_eq!(read_texts(&texts).unwrap()["a"], "b");
        let secret = Text::from(SecretRef::env("HOME"));
        assert!(read_text(&secret).is_err());
    }
}
