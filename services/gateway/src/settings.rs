//! Flags, and the rule of who may listen where.

use std::{net::SocketAddr, time::Duration};

use clap::{Args as ClapArgs, builder::FalseyValueParser};
use domain::{access::token_hash, span::Span};
use service::ConfigError;
use tracing::warn;

use crate::{connections, tls};

/// A token of fewer characters can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// The gateway's own flags.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Gateway")]
pub struct Args {
    /// Where to listen; without a token, only on loopback
    #[arg(long, env = "SELFHEAL_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: String,
    /// Token that clients must send; give it by the environment, as command lines can be seen by others
    #[arg(long, env = "SELFHEAL_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub api_token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "SELFHEAL_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<String>,
    /// Lets nobody in without a token, also when none is given here: `selfheal token` makes them
    #[arg(long, env = "SELFHEAL_REQUIRE_TOKEN", value_parser = FalseyValueParser::new())]
    pub require_token: bool,
    /// Takes events of this host without a token, where all else asks for one
    #[arg(long, env = "SELFHEAL_LOCAL_PUBLISH", value_parser = FalseyValueParser::new())]
    pub local_publish: bool,
    /// Certificates that the gateway shows, its own first, as PEM; followed when the file changes
    #[arg(long, env = "SELFHEAL_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key of the certificate, as PEM
    #[arg(long, env = "SELFHEAL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Authorities one of which must have signed the certificate of every client, as PEM
    #[arg(long, env = "SELFHEAL_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<String>,
    /// How long to wait for a supervisor's answer before answering 202
    #[arg(long, env = "SELFHEAL_ANSWER_TIMEOUT", default_value = "5s", value_name = "TIME")]
    pub answer_timeout: Span,
    /// Connections at one time; a quarter is for callers who have proven who they are
    #[arg(long, env = "SELFHEAL_CONNECTIONS", default_value = "1024", value_name = "N", value_parser = clap::value_parser!(u32).range(8..=65_536))]
    pub connections: u32,
    /// Connections of one address (IPv6: /64) without credentials; 0 for no limit, behind a proxy
    #[arg(long, env = "SELFHEAL_CONNECTIONS_PER_ADDRESS", default_value = "64", value_name = "N")]
    pub connections_per_address: u32,
    /// How long a client may not read what waits for it
    #[arg(long, env = "SELFHEAL_WRITE_TIMEOUT", default_value = "20s", value_name = "TIME")]
    pub write_timeout: Span,
}

/// Who comes in without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tokenless {
    /// Callers of this host, as its owner: it listens nowhere else then.
    Host,
    /// Callers of this host, with events and nothing else.
    Events {
        /// Where the owner of this host finds his token.
        token_file: Option<String>,
    },
    /// Nobody.
    Nobody,
}

/// The flags, checked.
#[derive(Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The token that clients must send.
    pub(crate) token: Option<Token>,
    /// Who comes in without one.
    pub(crate) tokenless: Tokenless,
    /// The files of TLS, if it is spoken.
    pub(crate) tls: Option<tls::Files>,
    /// How long to wait for a supervisor's answer.
    pub answer_timeout: Duration,
    /// How many connections there may be.
    pub(crate) connections: connections::Limits,
    /// How long a client may not read what waits for it.
    pub(crate) write_timeout: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("token", &self.token.is_some())
            .field("tokenless", &self.tokenless)
            .field("tls", &self.tls)
            .field("answer_timeout", &self.answer_timeout)
            .field("connections", &self.connections)
            .field("write_timeout", &self.write_timeout)
            .finish()
    }
}

/// The hash of a token.
///
/// Hashes are compared, never tokens: how long a comparison takes then tells
/// nothing about the token.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self(token_hash(token))
    }

    /// Returns whether this is the hash of the token.
    pub(crate) fn is_hash(&self, hash: &str) -> bool {
        self.0 == hash
    }
}

impl Settings {
    /// Checks the flags.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the address is none, when the token's file cannot be
    /// read, or when without a token the address can be reached by others.
    pub fn new(args: &Args) -> Result<Self, ConfigError> {
        let listen: SocketAddr = args.listen.parse().map_err(|error| {
            ConfigError::new(
                format!("`{}` is not an address to listen on", args.listen),
                "give --listen an IP address and a port, such as 127.0.0.1:8080",
            )
            .because(std::io::Error::other(format!("{error}")))
        })?;
        let token = token(args)?;
        let tokenless = match args.require_token || token.is_some() {
            false => Tokenless::Host,
            true if args.local_publish => Tokenless::Events {
                token_file: args.api_token_file.clone().filter(|path| !path.is_empty()),
            },
            true => Tokenless::Nobody,
        };
        if tokenless == Tokenless::Host && !listen.ip().is_loopback() {
            return Err(ConfigError::new(
                format!(
                    "refused to listen on {listen} without a token: everybody who can reach it could act"
                ),
                "set SELFHEAL_API_TOKEN to a long random text (`openssl rand -hex 32`), or SELFHEAL_REQUIRE_TOKEN=1 for those of `selfheal token`, or listen on 127.0.0.1",
            ));
        }
        let token = token.map(|text| {
            if text.chars().count() < TOKEN_CHARS_MIN {
                warn!(
                    hint = "make one with `openssl rand -hex 32`",
                    "the token in SELFHEAL_API_TOKEN is short enough to be guessed"
                );
            }
            Token::new(&text)
        });
        let tls = tls::Files::of(args)?;
        let answer_timeout = args.answer_timeout.to_std();
        let write_timeout = args.write_timeout.to_std();
        if write_timeout.is_zero() {
            return Err(ConfigError::new(
                "a write timeout of 0s would end every connection",
                "give --write-timeout a time, such as 20s",
            ));
        }
        let n = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let (total, per_network) = (n(args.connections), n(args.connections_per_address));
        let connections = connections::Limits { total, per_network };
        Ok(Self { listen, token, tokenless, tls, answer_timeout, connections, write_timeout })
    }
}

fn token(args: &Args) -> Result<Option<String>, ConfigError> {
    let given = args.api_token.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let file = args.api_token_file.as_deref().filter(|path| !path.is_empty());
    match (given, file) {
        (Some(_), Some(_)) => Err(ConfigError::new(
            "both a token and a file with a token were given",
            "set only one of SELFHEAL_API_TOKEN and SELFHEAL_API_TOKEN_FILE",
        )),
        (Some(text), None) => Ok(Some(text.to_owned())),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let text = private::read_secret(path.as_ref()).map_err(|error| {
                ConfigError::new(
                    format!("cannot read the token from `{path}`"),
                    "name a file that this user may read, and nobody else: chmod 600; on a read-only mount (secrets of Kubernetes and Compose) its mode does not matter",
                )
                .because(error)
            })?;
            let text = text.trim();
            if text.is_empty() {
                // An empty token would open the door instead of closing it.
                return Err(ConfigError::new(
                    format!("the token file `{path}` is empty"),
                    "write a long random text into it (`openssl rand -hex 32`)",
                ));
            }
            Ok(Some(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: &str, api_token: Option<&str>) -> Args {
        Args {
            listen: listen.to_owned(),
            api_token: api_token.map(str::to_owned),
            api_token_file: None,
            require_token: false,
            local_publish: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            answer_timeout: Span::from_secs(5),
            connections: 1024,
            connections_per_address: 64,
            write_timeout: Span::from_secs(20),
        }
    }

    #[test]
    fn without_a_token_only_loopback_may_be_listened_on() {
        for listen in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080"] {
            assert!(Settings::new(&args(listen, None)).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:8080", "[::]:8080", "192.168.1.1:8080", "[::ffff:10.0.0.1]:80"] {
            let error = Settings::new(&args(listen, None)).unwrap_err();
            assert!(error.hint().contains("SELFHEAL_API_TOKEN"), "{listen}: {}", error.hint());
            assert!(Settings::new(&args(listen, Some(""))).is_err(), "an empty token is none");
            assert!(Settings::new(&args(listen, Some("a long enough token"))).is_ok(), "{listen}");
            let required = Args { require_token: true, ..args(listen, None) };
            assert_eq!(Settings::new(&required).unwrap().tokenless, Tokenless::Nobody, "{listen}");
            let events = Args { local_publish: true, ..required };
            let tokenless = Settings::new(&events).unwrap().tokenless;
            assert_eq!(tokenless, Tokenless::Events { token_file: None }, "{listen}");
        }
        let alone = Args { local_publish: true, ..args("0.0.0.0:8080", None) };
        assert!(
            Settings::new(&alone).is_err(),
            "events of this host are no reason to serve others"
        );
    }

    #[test]
    fn an_empty_token_file_does_not_open_the_door() {
        let path = std::env::temp_dir().join(format!("selfheal-token-{}", std::process::id()));
        private::write(&path, b"\n").unwrap();
        let mut args = args("127.0.0.1:8080", None);
        args.api_token_file = Some(path.to_str().unwrap().to_owned());
        assert!(Settings::new(&args).unwrap_err().to_string().contains("empty"));
        private::write(&path, b"  s3cret-s3cret-s3cret\n").unwrap();
        let settings = Settings::new(&args).unwrap();
        let token = settings.token.unwrap();
        assert!(token.is_hash(&token_hash("s3cret-s3cret-s3cret")));
        assert!(!token.is_hash(&token_hash("s3cret-s3cret-s3cre")));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_name_is_no_address() {
        let error = Settings::new(&args("localhost:8080", None)).unwrap_err();
        assert!(error.hint().contains("127.0.0.1:8080"));
    }
}
