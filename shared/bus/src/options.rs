//! How to reach the broker.

use std::path::{Path, PathBuf};

use async_nats::ServerAddr;

use crate::{Error, topology::PREFIX_DEFAULT};

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// One or several URLs, parted by commas. May hold user and password.
    pub url: String,
    /// A file with them, which goes before [`Self::url`]: a password is in no environment then.
    pub url_file: Option<PathBuf>,
    /// A file with a JWT and its seed, as `nsc` writes it.
    pub creds: Option<PathBuf>,
    /// A context of the `nats` command line, by name, or the path of its file. What it
    /// says goes before all other options.
    pub context: Option<String>,
    /// A file with the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// Authorities that may have signed the broker's certificate, as PEM; else those that
    /// this host trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate, for a broker that asks for one, as PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, as PEM.
    pub key: Option<PathBuf>,
    /// Prefix of all names, so that several installations can share one account.
    pub prefix: String,
    /// Name of this client in the broker's lists, such as `selfheal-monitor`.
    pub name: String,
    /// Prefix of subjects for answers, which permissions may be given for. Unless set,
    /// it follows from the name: `selfheal-monitor` listens on `_INBOX_monitor.>`.
    pub inbox_prefix: Option<String>,
    /// A file with the seed of the key that this supervisor signs with.
    pub signing_key: Option<PathBuf>,
    /// Public keys of the supervisors. With any, only what they have signed counts.
    pub trusted_keys: Vec<String>,
    /// A file with more of them, parted by commas or white space.
    pub trusted_keys_file: Option<PathBuf>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            url_file: None,
            creds: None,
            context: None,
            nkey: None,
            ca: None,
            cert: None,
            key: None,
            prefix: PREFIX_DEFAULT.to_owned(),
            name: PREFIX_DEFAULT.to_owned(),
            inbox_prefix: None,
            signing_key: None,
            trusted_keys: Vec::new(),
            trusted_keys_file: None,
        }
    }
}

/// Servers and the user found in their URLs.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) addresses: Vec<ServerAddr>,
    pub(crate) user: Option<(String, String)>,
    pub(crate) token: Option<String>,
}

impl BrokerOptions {
    pub(crate) fn checked_prefix(&self) -> Result<&str, Error> {
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if self.prefix.is_empty() || !self.prefix.chars().all(ok) {
            return Err(Error::Option {
                option: "prefix",
                reason: format!(
                    "`{}` must consist of lower-case letters, digits, _ and -",
                    self.prefix
                ),
            });
        }
        Ok(&self.prefix)
    }

    /// Returns the URLs, from the file if one is named.
    ///
    /// # Errors
    ///
    /// [`Error::Option`], when the file cannot be read.
    pub(crate) fn urls(&self) -> Result<String, Error> {
        self.url_file.as_deref().map_or_else(
            || Ok(self.url.clone()),
            |file| {
                let text = private::read_secret(file);
                let text = text.map_err(|it| unreadable("nats-url-file", file, &it))?;
                Ok(text.trim().to_owned())
            },
        )
    }

    /// Returns the public keys of the supervisors, those in the file too.
    ///
    /// # Errors
    ///
    /// [`Error::Option`], when the file cannot be read or holds none.
    pub fn all_trusted_keys(&self) -> Result<Vec<String>, Error> {
        const OPTION: &str = "trusted-keys-file";
        let mut keys = self.trusted_keys.clone();
        let Some(file) = self.trusted_keys_file.as_deref() else { return Ok(keys) };
        let text = read(OPTION, file)?;
        let is_between = |c: char| c == ',' || c.is_whitespace();
        let n_given = keys.len();
        keys.extend(text.split(is_between).filter(|it| !it.is_empty()).map(str::to_owned));
        if keys.len() == n_given {
            // Without keys everything would be believed.
            let reason = format!("{} holds no key", file.display());
            return Err(Error::Option { option: OPTION, reason });
        }
        Ok(keys)
    }

    pub(crate) fn inbox_prefix(&self) -> Result<String, Error> {
        let Some(chosen) = &self.inbox_prefix else {
            let kind = self.name.strip_prefix("selfheal-").unwrap_or(&self.name);
            let kind: String =
                kind.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
            return Ok(if kind.is_empty() {
                "_INBOX".to_owned()
            } else {
                format!("_INBOX_{kind}")
            });
        };
        let part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if !chosen.split('.').all(part) {
            return Err(Error::Option {
                option: "inbox_prefix",
                reason: format!("`{chosen}` is no legal subject"),
            });
        }
        Ok(chosen.clone())
    }
}

fn read(option: &'static str, file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| unreadable(option, file, &error))
}

fn unreadable(option: &'static str, file: &Path, error: &std::io::Error) -> Error {
    Error::Option { option, reason: format!("{}: {error}", file.display()) }
}

/// Reads a list of URLs. The client ignores what stands before the `@`, so it is taken here.
pub(crate) fn servers(urls: &str) -> Result<Servers, Error> {
    let bad = |reason: String| Error::Option { option: "url", reason };
    let mut found = Servers { addresses: Vec::new(), user: None, token: None };
    for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let address: ServerAddr =
            url.parse().map_err(|error| bad(format!("`{}`: {error}", without_secrets(url))))?;
        match (address.username(), address.password()) {
            (Some(user), Some(password)) => {
                found.user = Some((decoded(user), decoded(password)));
            }
            (Some(token), None) => found.token = Some(decoded(token)),
            (None, _) => {}
        }
        let mut bare = address.into_inner();
        if bare.set_username("").is_err() || bare.set_password(None).is_err() {
            return Err(bad(format!("`{}` names no host", without_secrets(url))));
        }
        let address = ServerAddr::from_url(bare).map_err(|error| bad(error.to_string()))?;
        found.addresses.push(address);
    }
    if found.addresses.is_empty() {
        return Err(bad("no URL is given".to_owned()));
    }
    Ok(found)
}

fn without_secrets(url: &str) -> &str {
    url.rsplit('@').next().unwrap_or(url)
}

/// Decodes `%40` and its like; what is no such code stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (first, _) => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_of_the_url() {
        let found = servers("nats://me:p%40ss@host:4333, nats://other").unwrap();
        assert_eq!(found.user, Some(("me".to_owned(), "p@ss".to_owned())));
        let urls: Vec<_> = found.addresses.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, ["nats://host:4333", "nats://other"]);
        assert_eq!(found.addresses[1].port(), 4222);
    }

    #[test]
    fn urls_and_keys_may_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            private::write(&path, text.as_bytes()).unwrap();
            Some(path)
        };
        let options = BrokerOptions {
            url_file: file("url", "nats://me:secret@host\n"),
            trusted_keys: vec!["A".to_owned()],
            trusted_keys_file: file("keys", "B,C\nD\n"),
            ..BrokerOptions::default()
        };
        assert_eq!(options.urls().unwrap(), "nats://me:secret@host");
        assert_eq!(options.all_trusted_keys().unwrap(), ["A", "B", "C", "D"]);
        let empty = file("empty", " \n");
        let options = BrokerOptions { trusted_keys_file: empty, ..BrokerOptions::default() };
        assert!(options.all_trusted_keys().unwrap_err().to_string().contains("no key"));
        let gone = Some(dir.path().join("gone"));
        let options = BrokerOptions { url_file: gone, ..BrokerOptions::default() };
        assert!(options.urls().unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn a_lone_user_is_a_token() {
        assert_eq!(servers("nats://s3cret@host").unwrap().token.as_deref(), Some("s3cret"));
    }

    #[test]
    fn a_bad_url_is_told_without_its_password() {
        let error = servers("http://me:secret@host").unwrap_err();
        assert!(error.to_string().contains("host"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(servers(" , ").is_err());
    }

    #[test]
    fn the_prefix_for_answers_follows_from_the_name() {
        let named = |name: &str, chosen: Option<&str>| BrokerOptions {
            name: name.to_owned(),
            inbox_prefix: chosen.map(str::to_owned),
            ..BrokerOptions::default()
        };
        assert_eq!(named("selfheal-fixer", None).inbox_prefix().unwrap(), "_INBOX_fixer");
        assert_eq!(named("x", Some("_INBOX.y")).inbox_prefix().unwrap(), "_INBOX.y");
        assert!(named("x", Some("a b")).inbox_prefix().is_err());
    }

    #[test]
    fn a_prefix_that_is_no_legal_name_is_refused() {
        let prefixed =
            |prefix: &str| BrokerOptions { prefix: prefix.to_owned(), ..BrokerOptions::default() };
        assert!(prefixed("acme-1").checked_prefix().is_ok());
        for bad in ["", "a.b", "a b", "Acme", "a*"] {
            assert!(prefixed(bad).checked_prefix().is_err(), "{bad}");
        }
    }
}
