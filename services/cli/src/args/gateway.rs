//! How to reach a gateway, and as whom.

use std::path::PathBuf;

use clap::Args;

/// Which gateway is asked, and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Gateway {
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) gateway: String,
    /// The token; give it by the environment, as command lines can be seen by others
    #[arg(long, env = "SELFHEAL_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// File that holds the token, for its owner alone; else that of `up` in --data-dir, else
    /// ~/.config/selfheal/token
    #[arg(long, env = "SELFHEAL_API_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}
