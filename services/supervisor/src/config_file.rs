//! The configuration file: read at the start, followed while we live.

use std::path::{Path, PathBuf};

use domain::{
    config::{self, Config, ConfigError as Mistake},
    id::sha256_hex,
};
use service::ConfigError;

/// The file that is used when none is named.
pub(crate) const DEFAULT: &str = "./selfheal.yaml";

/// The configuration file.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    /// Hash of the text that was read last, also of one that was refused.
    seen: Option<String>,
}

/// What a look at the file has shown.
#[derive(Debug)]
pub(crate) enum Look {
    /// The same as before, or no file.
    Same,
    /// A new configuration, and the hash of its text.
    New(Box<Config>, String),
    /// A new text that is no configuration; the old one stays.
    Refused(Vec<Mistake>),
}

impl ConfigFile {
    /// Names the file.
    #[must_use]
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// All its mistakes with file, line, column and a hint; or that it cannot be read.
    /// The default file may be absent: then the configuration comes by `selfheal apply`.
    pub(crate) fn first(&mut self) -> Result<Option<(Config, String)>, ConfigError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && self.path == Path::new(DEFAULT) =>
            {
                return Ok(None);
            }
            Err(source) => {
                return Err(ConfigError::new(
                    format!("cannot read the configuration {}", self.path.display()),
                    "name a file with --config; deploy/examples has some that work",
                )
                .because(source));
            }
        };
        let hash = sha256_hex(text.as_bytes());
        self.seen = Some(hash.clone());
        match config::parse(&text) {
            Ok(config) => Ok(Some((config, hash))),
            Err(mistakes) => {
                let mistakes = self.named(mistakes);
                let hint = mistakes.first().map(|it| it.hint.clone()).unwrap_or_default();
                Err(ConfigError::new(tell(&mistakes), hint))
            }
        }
    }

    /// Looks whether the file has changed.
    pub(crate) fn look(&mut self) -> Look {
        // A file that is being replaced may be absent for a moment.
        let Ok(text) = std::fs::read_to_string(&self.path) else { return Look::Same };
        let hash = sha256_hex(text.as_bytes());
        if self.seen.as_ref() == Some(&hash) {
            return Look::Same;
        }
        self.seen = Some(hash.clone());
        match config::parse(&text) {
            Ok(config) => Look::New(Box::new(config), hash),
            Err(mistakes) => Look::Refused(self.named(mistakes)),
        }
    }

    fn named(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        let file = Some(self.path.display().to_string());
        mistakes.into_iter().map(|it| Mistake { file: file.clone(), ..it }).collect()
    }
}

/// Tells all mistakes, each with its place, snippet and hint.
#[must_use]
pub(crate) fn tell(mistakes: &[Mistake]) -> String {
    let one = |it: &Mistake| format!("{it}\n{}\nhint: {}", it.snippet, it.hint);
    mistakes.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "targets: [{name: a, checks: [{tcp: \"127.0.0.1:1\"}]}]\n";

    #[test]
    fn a_bad_file_is_told_with_its_place_and_the_old_configuration_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("selfheal.yaml");
        std::fs::write(&path, GOOD).unwrap();
        let mut file = ConfigFile::new(path.clone());
        assert_eq!(file.first().unwrap().unwrap().0.targets.len(), 1);
        assert!(matches!(file.look(), Look::Same));
        std::fs::write(&path, "targets: [{nam: a}]\n").unwrap();
        let Look::Refused(mistakes) = file.look() else { panic!("it was taken") };
        assert!(tell(&mistakes).contains("selfheal.yaml:1:"), "{}", tell(&mistakes));
        assert!(matches!(file.look(), Look::Same), "told once");
        std::fs::write(&path, GOOD).unwrap();
        assert!(matches!(file.look(), Look::New(..)));
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error_and_the_default_is_not() {
        let error = ConfigFile::new("/nowhere/x.yaml".into()).first().unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.yaml"), "{error}");
    }
}
