//! The flags that say how to reach the broker.

use std::{path::PathBuf, time::Duration};

use bus::BrokerOptions;
use clap::Args;

use super::{
    NATS_URL_DEFAULT,
    values::{time, token},
};

/// How to reach the system.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Broker")]
pub(crate) struct Broker {
    /// NATS servers, separated by commas; unless given those of `up` in --data-dir, else
    /// nats://127.0.0.1:4222
    #[arg(
        long,
        global = true,
        env = "SELFHEAL_NATS_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) nats_url: Option<String>,
    /// NATS credentials file
    #[arg(long, global = true, env = "SELFHEAL_NATS_CREDS", value_name = "FILE")]
    pub(crate) nats_creds: Option<String>,
    /// Context of the `nats` command, which holds URL and credentials
    #[arg(long, global = true, env = "SELFHEAL_NATS_CONTEXT", value_name = "NAME")]
    pub(crate) nats_context: Option<String>,
    /// File with the URL, so that its password is in no environment; goes before --nats-url
    #[arg(long, global = true, env = "SELFHEAL_NATS_URL_FILE", value_name = "FILE")]
    pub(crate) nats_url_file: Option<String>,
    /// File with the seed of an nkey
    #[arg(long, global = true, env = "SELFHEAL_NATS_NKEY", value_name = "FILE")]
    pub(crate) nats_nkey: Option<String>,
    /// Authorities that may have signed the broker's certificate, as PEM
    #[arg(long, global = true, env = "SELFHEAL_NATS_CA", value_name = "FILE")]
    pub(crate) nats_ca: Option<String>,
    /// Our own certificate, for a broker that asks for one, as PEM
    #[arg(long, global = true, env = "SELFHEAL_NATS_CERT", value_name = "FILE")]
    pub(crate) nats_cert: Option<String>,
    /// Private key of that certificate, as PEM
    #[arg(long, global = true, env = "SELFHEAL_NATS_KEY", value_name = "FILE")]
    pub(crate) nats_key: Option<String>,
    /// File with the seed that supervisors sign with, for what writes to the ledger
    #[arg(long, global = true, env = "SELFHEAL_SIGNING_KEY", value_name = "FILE")]
    pub(crate) signing_key: Option<String>,
    /// Public keys of the supervisors, separated by commas: only what they have signed counts
    #[arg(long, global = true, env = "SELFHEAL_TRUSTED_KEYS", value_name = "KEYS")]
    pub(crate) trusted_keys: Option<String>,
    /// File with public keys of the supervisors, parted by commas or line ends
    #[arg(long, global = true, env = "SELFHEAL_TRUSTED_KEYS_FILE", value_name = "FILE")]
    pub(crate) trusted_keys_file: Option<String>,
    /// First token of every subject
    #[arg(long, global = true, env = "SELFHEAL_PREFIX", value_name = "TOKEN")]
    #[arg(default_value = "selfheal", value_parser = token)]
    pub(crate) prefix: String,
    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) timeout: Duration,
}

impl Broker {
    /// Returns the flags that name a file, or something of its kind, with their variables.
    fn optional(&mut self) -> [&mut Option<String>; 11] {
        [
            &mut self.nats_url,
            &mut self.nats_creds,
            &mut self.nats_context,
            &mut self.nats_nkey,
            &mut self.nats_ca,
            &mut self.nats_cert,
            &mut self.nats_key,
            &mut self.signing_key,
            &mut self.trusted_keys,
            &mut self.trusted_keys_file,
            &mut self.nats_url_file,
        ]
    }

    /// Drops what is empty: an empty environment variable counts as absent, as in every service.
    pub(super) fn drop_empty(&mut self) {
        for value in self.optional() {
            if value.as_deref() == Some("") {
                *value = None;
            }
        }
    }

    /// Tells whether a broker was named, be it by flag or by environment.
    pub(crate) fn is_given(&self) -> bool {
        self.nats_url.is_some() || self.nats_url_file.is_some() || self.nats_context.is_some()
    }

    /// Tells whether anything was said of whom the broker knows us as.
    pub(crate) fn has_identity(&self) -> bool {
        [&self.nats_creds, &self.nats_nkey, &self.nats_cert].iter().any(|it| it.is_some())
    }

    /// Returns how to reach it, for a client of this role.
    pub(crate) fn options(&self, role: &str) -> BrokerOptions {
        let path = |text: &Option<String>| text.clone().map(PathBuf::from);
        BrokerOptions {
            url: self.nats_url.clone().unwrap_or_else(|| NATS_URL_DEFAULT.to_owned()),
            url_file: path(&self.nats_url_file),
            creds: path(&self.nats_creds),
            context: self.nats_context.clone(),
            nkey: path(&self.nats_nkey),
            ca: path(&self.nats_ca),
            cert: path(&self.nats_cert),
            key: path(&self.nats_key),
            signing_key: path(&self.signing_key),
            trusted_keys: self
                .trusted_keys
                .iter()
                .flat_map(|it| it.split(','))
                .map(str::to_owned)
                .collect(),
            trusted_keys_file: path(&self.trusted_keys_file),
            prefix: self.prefix.clone(),
            name: format!("selfheal-{role}"),
            ..BrokerOptions::default()
        }
    }

    /// Returns what is to be passed on to an agent, besides the URL, as its environment.
    pub(crate) fn variables(&self) -> [(&'static str, Option<&String>); 9] {
        [
            ("SELFHEAL_NATS_CREDS", self.nats_creds.as_ref()),
            ("SELFHEAL_NATS_CONTEXT", self.nats_context.as_ref()),
            ("SELFHEAL_NATS_NKEY", self.nats_nkey.as_ref()),
            ("SELFHEAL_NATS_CA", self.nats_ca.as_ref()),
            ("SELFHEAL_NATS_CERT", self.nats_cert.as_ref()),
            ("SELFHEAL_NATS_KEY", self.nats_key.as_ref()),
            ("SELFHEAL_TRUSTED_KEYS", self.trusted_keys.as_ref()),
            ("SELFHEAL_TRUSTED_KEYS_FILE", self.trusted_keys_file.as_ref()),
            ("SELFHEAL_NATS_URL_FILE", self.nats_url_file.as_ref()),
        ]
    }
}
