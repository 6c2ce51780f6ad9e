//! Contexts of the `nats` command line, so that operators name a broker once.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// What we use of a context's file. Empty strings are absent, as `nats` writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NatsContext {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) token: String,
    pub(crate) creds: String,
    pub(crate) nkey: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) tls_first: bool,
    pub(crate) inbox_prefix: String,
    pub(crate) jetstream_domain: String,
}

impl NatsContext {
    /// Reads the context called `name`, or the file if `name` is a path.
    pub(crate) fn read(name: &str) -> Result<Self, Error> {
        let path = path(name)?;
        let bad = |reason: String| Error::Option {
            option: "context",
            reason: format!("{}: {reason}", path.display()),
        };
        let text = std::fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }
}

fn path(name: &str) -> Result<PathBuf, Error> {
    if name.contains('/') || name.ends_with(".json") {
        return Ok(PathBuf::from(name));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let Some(config) = config else {
        return Err(Error::Option {
            option: "context",
            reason: "there is no home directory to find it in".to_owned(),
        });
    };
    Ok(config.join(Path::new("nats/context")).join(format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_the_command_line_writes_it() {
        let text = r#"{"description":"","url":"nats://host:4222","user":"me","password":"p","creds":"","tls_first":false,"color_scheme":""}"#;
        let context: NatsContext = serde_json::from_str(text).unwrap();
        assert_eq!((context.url.as_str(), context.user.as_str()), ("nats://host:4222", "me"));
        assert!(context.creds.is_empty());
    }

    #[test]
    fn a_missing_context_is_told_with_its_path() {
        let error = NatsContext::read("/nowhere/context.json").unwrap_err();
        assert!(error.to_string().contains("/nowhere/context.json"), "{error}");
    }
}
