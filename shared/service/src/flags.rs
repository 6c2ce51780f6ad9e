//! The flags that all services share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum};
use domain::span::Span;

use crate::{
    ConfigError, SecretLimits,
    outgoing::{Network, NotANetwork, Outgoing},
    run::without_secrets,
    secret,
};

/// Longest zone or prefix. Both become tokens of subjects and names of buckets.
const TOKEN_BYTES_MAX: usize = 64;

/// What the command line of a service consists of.
#[derive(Debug, Parser)]
pub(crate) struct Flags<A: Args> {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) own: A,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The flags that all services share. An empty environment variable counts as absent.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Every service")]
pub struct Common {
    /// NATS servers, separated by commas; user and password may be in the URL
    #[arg(
        long,
        env = "SELFHEAL_NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        value_name = "URL",
        hide_env_values = true
    )]
    pub nats_url: String,
    /// File with the URL, so that its password is in no environment; goes before --nats-url
    #[arg(long, env = "SELFHEAL_NATS_URL_FILE", value_name = "FILE")]
    nats_url_file: Option<String>,
    /// NATS credentials file
    #[arg(long, env = "SELFHEAL_NATS_CREDS", value_name = "FILE")]
    nats_creds: Option<String>,
    /// Context of the `nats` command to take server and credentials from
    #[arg(long, env = "SELFHEAL_NATS_CONTEXT", value_name = "NAME")]
    nats_context: Option<String>,
    /// File with the seed of an nkey
    #[arg(long, env = "SELFHEAL_NATS_NKEY", value_name = "FILE")]
    nats_nkey: Option<String>,
    /// Authorities that may have signed the broker's certificate, as PEM; else those that this host trusts
    #[arg(long, env = "SELFHEAL_NATS_CA", value_name = "FILE")]
    nats_ca: Option<String>,
    /// Our own certificate, for a broker that asks for one, as PEM
    #[arg(long, env = "SELFHEAL_NATS_CERT", value_name = "FILE")]
    nats_cert: Option<String>,
    /// Private key of that certificate, as PEM
    #[arg(long, env = "SELFHEAL_NATS_KEY", value_name = "FILE")]
    nats_key: Option<String>,
    /// File with the seed that a supervisor signs with
    #[arg(long, env = "SELFHEAL_SIGNING_KEY", value_name = "FILE")]
    signing_key: Option<String>,
    /// Public keys of the supervisors, separated by commas: only what they have signed counts
    #[arg(long, env = "SELFHEAL_TRUSTED_KEYS", value_name = "KEYS", value_delimiter = ',')]
    trusted_keys: Vec<String>,
    /// File with public keys of the supervisors, parted by commas or line ends
    #[arg(long, env = "SELFHEAL_TRUSTED_KEYS_FILE", value_name = "FILE")]
    trusted_keys_file: Option<String>,
    /// First token of every subject, so that installations can share a NATS account
    #[arg(long, env = "SELFHEAL_PREFIX", default_value = "selfheal", value_name = "TOKEN", value_parser = token)]
    pub prefix: String,
    /// Zones this agent serves, separated by commas
    #[arg(long, env = "SELFHEAL_ZONES", default_value = "default", value_name = "ZONES", value_delimiter = ',', value_parser = token)]
    zones: Vec<String>,
    /// Directories below which a configuration may name files with secrets, separated by commas
    #[arg(long, env = "SELFHEAL_SECRETS_DIR", default_value = secret::DIRECTORY_DEFAULT, value_name = "DIRS", value_delimiter = ',')]
    secrets_dir: Vec<PathBuf>,
    /// How variables begin that a configuration may name as secrets, separated by commas; never SELFHEAL_
    #[arg(long, env = "SELFHEAL_SECRET_ENV", default_value = secret::PREFIX_DEFAULT, value_name = "PREFIXES", value_delimiter = ',')]
    secret_env: Vec<String>,
    /// Where to answer /healthz, /readyz and /metrics, such as 127.0.0.1:9100
    #[arg(long, env = "SELFHEAL_HEALTH_LISTEN", value_name = "ADDRESS")]
    health_listen: Option<String>,
    /// Addresses or networks, separated by commas, that may be reached although they are refused by
    /// default: link-local ones, those where clouds keep credentials, and multicast
    #[arg(long, env = "SELFHEAL_OUTGOING_ALLOW", value_name = "ADDRESSES", value_delimiter = ',', value_parser = network)]
    outgoing_allow: Vec<Option<Network>>,
    /// How long running work may take to end after the first signal
    #[arg(long, env = "SELFHEAL_GRACE", default_value = "20s", value_name = "TIME")]
    grace: Span,
    /// How long tasks may stand still before the process ends with 70; 0s allows it for ever
    #[arg(long, env = "SELFHEAL_STUCK_AFTER", default_value = "30s", value_name = "TIME")]
    stuck_after: Span,
    /// How log lines look
    #[arg(long, env = "SELFHEAL_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Which log lines are written, such as `debug` or `info,bus=debug`
    #[arg(long, env = "SELFHEAL_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[arg(long, env = "RUST_LOG", hide = true)]
    rust_log: Option<String>,
}

impl Common {
    /// Returns how to reach the broker, for a client called `name`.
    #[must_use]
    pub fn broker(&self, name: String) -> bus::BrokerOptions {
        bus::BrokerOptions {
            url: self.nats_url.clone(),
            url_file: present(self.nats_url_file.as_ref()).map(PathBuf::from),
            creds: present(self.nats_creds.as_ref()).map(PathBuf::from),
            nkey: present(self.nats_nkey.as_ref()).map(PathBuf::from),
            ca: present(self.nats_ca.as_ref()).map(PathBuf::from),
            cert: present(self.nats_cert.as_ref()).map(PathBuf::from),
            key: present(self.nats_key.as_ref()).map(PathBuf::from),
            context: present(self.nats_context.as_ref()).map(str::to_owned),
            signing_key: present(self.signing_key.as_ref()).map(PathBuf::from),
            trusted_keys: self.trusted_keys.iter().filter(|it| !it.is_empty()).cloned().collect(),
            trusted_keys_file: present(self.trusted_keys_file.as_ref()).map(PathBuf::from),
            prefix: self.prefix.clone(),
            name,
            ..bus::BrokerOptions::default()
        }
    }

    /// Returns the URL for a log, without user and password; the file, if it is in one.
    pub(crate) fn nats_url_shown(&self) -> String {
        let file = present(self.nats_url_file.as_ref()).map(|it| format!("the one in {it}"));
        file.unwrap_or_else(|| without_secrets(&self.nats_url))
    }

    /// Returns the zones, each once.
    #[must_use]
    pub fn zones(&self) -> Vec<String> {
        let mut zones = self.zones.clone();
        zones.sort();
        zones.dedup();
        zones
    }

    /// Returns which addresses may be reached.
    #[must_use]
    pub fn outgoing(&self) -> Outgoing {
        Outgoing::new(self.outgoing_allow.iter().flatten().copied())
    }

    /// Returns which secrets a configuration may name on this host.
    #[must_use]
    pub fn secrets(&self) -> SecretLimits {
        SecretLimits::new(self.secrets_dir.clone(), self.secret_env.clone())
    }

    /// Returns how long work may take to end.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace.to_std()
    }

    /// Returns how long tasks may stand still before the process is ended; zero for ever.
    #[must_use]
    pub fn stuck_after(&self) -> Duration {
        self.stuck_after.to_std()
    }

    /// Returns where to answer health questions, if at all.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is not an address.
    pub fn health_listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        present(self.health_listen.as_ref())
            .map(|text| listen_address("--health-listen", text))
            .transpose()
    }

    /// Returns the filter of log lines, as it was written.
    #[must_use]
    pub fn log_filter(&self) -> Option<&str> {
        present(self.log.as_ref()).or_else(|| present(self.rust_log.as_ref()))
    }
}

/// Reads a range of addresses; an empty text counts as none.
fn network(text: &str) -> Result<Option<Network>, NotANetwork> {
    Some(text).filter(|it| !it.trim().is_empty()).map(str::parse).transpose()
}

/// Reads an address to listen on.
pub(crate) fn listen_address(flag: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|error| {
        ConfigError::new(
            format!("`{text}` is not an address to listen on"),
            format!("give {flag} an IP address and a port, such as 127.0.0.1:9100 or 0.0.0.0:9100"),
        )
        .because(std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{error}")))
    })
}

fn present(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn token(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || TOKEN_BYTES_MAX < text.len() || !text.bytes().all(legal) {
        return Err(format!("expected 1 to {TOKEN_BYTES_MAX} of the characters A-Z a-z 0-9 - _"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Args, Debug)]
    struct NoFlags {}

    fn parse(arguments: &[&str]) -> Result<Common, clap::Error> {
        let all = std::iter::once("selfheal-test").chain(arguments.iter().copied());
        Flags::<NoFlags>::try_parse_from(all).map(|flags| flags.common)
    }

    #[test]
    fn without_flags_everything_has_its_documented_default() {
        let common = parse(&[]).unwrap();
        let broker = common.broker("selfheal-test".to_owned());
        assert_eq!(broker.url, "nats://127.0.0.1:4222");
        assert_eq!(broker.prefix, "selfheal");
        assert_eq!(common.zones(), ["default"]);
        assert_eq!(common.health_listen().unwrap(), None);
        assert_eq!(common.grace(), Duration::from_secs(20));
    }

    #[test]
    fn zones_are_split_sorted_and_taken_once() {
        let common = parse(&["--zones", "west,east,west"]).unwrap();
        assert_eq!(common.zones(), ["east", "west"]);
    }

    #[test]
    fn a_zone_that_is_no_subject_token_is_refused() {
        for zone in ["a.b", "a b", "*", ">", "", "ä"] {
            assert!(parse(&["--zones", zone]).is_err(), "{zone}");
        }
    }

    #[test]
    fn an_empty_value_counts_as_absent() {
        let common = parse(&[
            "--nats-creds",
            "",
            "--nats-context=",
            "--nats-ca=",
            "--nats-nkey=",
            "--health-listen=",
        ])
        .unwrap();
        let broker = common.broker("selfheal-test".to_owned());
        assert_eq!(
            (broker.creds, broker.context, broker.nkey, broker.ca),
            (None, None, None, None)
        );
        assert_eq!(common.health_listen().unwrap(), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_an_example() {
        let common = parse(&["--health-listen", "everywhere"]).unwrap();
        let error = common.health_listen().unwrap_err();
        assert!(error.hint().contains("127.0.0.1:9100"), "{}", error.hint());
    }
}
