//! Secrets, read where a configuration says that they are. They are never logged.

use std::{fmt, io};

use domain::secret::{NotOnePlace, Place, SecretRef};

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
    /// There is nothing: an empty secret would open a door instead of closing it.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

/// Reads a secret: from this process's environment, or from a file of its host.
///
/// # Errors
///
/// When it is not there, cannot be read, is empty, or lies in a file that others may read.
#[expect(
    clippy::disallowed_methods,
    reason = "which variable it is, the configuration says, and clap cannot know"
)]
pub fn read_secret(reference: &SecretRef) -> Result<Secret, SecretError> {
    let text = match reference.place()? {
        Place::Env(name) => {
            std::env::var(name).map_err(|_not_set| SecretError::NotSet(name.to_owned()))?
        }
        Place::File(path) => private::read_secret(path.as_ref())
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
        let path = dir.path().join("secret");
        private::write(&path, b" s3cret \n").unwrap();
        let reference = SecretRef::file(path.to_str().unwrap());
        let secret = read_secret(&reference).unwrap();
        assert_eq!(secret.expose(), " s3cret ");
        assert!(!format!("{secret:?}").contains("s3cret"));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_secret(&reference), Err(SecretError::Empty(_))));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = read_secret(&SecretRef::env("SELFHEAL_NO_SUCH_SECRET")).unwrap_err();
        assert!(error.to_string().contains("SELFHEAL_NO_SUCH_SECRET"), "{error}");
        let error = read_secret(&SecretRef::file("/no/such/file")).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}
