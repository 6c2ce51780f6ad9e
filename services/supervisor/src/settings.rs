//! Flags of the supervisor.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use domain::span::Span;
use service::ConfigError;

use crate::{
    config_file,
    journal::{self, Keep, Rotation},
};

/// The smallest ledger: one that holds fewer of the largest batches than are decided while a
/// snapshot is written and read back would be full before it can be shortened.
const LEDGER_MIB_MIN: i64 = 16;

/// Flags of the supervisor.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Configuration file; the default may be absent
    #[arg(long, env = "SELFHEAL_CONFIG", value_name = "FILE", default_value = config_file::DEFAULT)]
    pub config: PathBuf,
    /// Directory of the log and of this supervisor's state
    #[arg(long, env = "SELFHEAL_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Size in MiB at which a file of the log is closed and the next begun
    #[arg(long, env = "SELFHEAL_LOG_MAX_MIB", value_name = "MIB", default_value_t = 256)]
    pub log_max_mib: u64,
    /// Age at which a file of the log is closed and the next begun
    #[arg(long, env = "SELFHEAL_LOG_MAX_AGE", value_name = "TIME", default_value = "30d")]
    pub log_max_age: Span,
    /// Size in MiB of the log, with its closed files, above which old ones are removed; 0 keeps all
    #[arg(long, env = "SELFHEAL_LOG_KEEP_MIB", value_name = "MIB", default_value_t = 16_384)]
    pub log_keep_mib: u64,
    /// Age at which closed files of the log are removed; 0s keeps all
    #[arg(long, env = "SELFHEAL_LOG_KEEP", value_name = "TIME", default_value = "400d")]
    pub log_keep: Span,
    /// Closed files of the log that are kept; 0 keeps all
    #[arg(long, env = "SELFHEAL_LOG_MAX_FILES", value_name = "N", default_value_t = 0)]
    pub log_max_files: usize,
    /// Copies of each stream on a cluster of brokers; unless given 3 where there are as many, else 1
    #[arg(long, env = "SELFHEAL_REPLICAS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: Option<u8>,
    /// Size in MiB at which the inbox is full and events are refused; unless given 1024, or what it has
    #[arg(long, env = "SELFHEAL_INBOX_MAX_MIB", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub inbox_max_mib: Option<u32>,
    /// Size in MiB at which the ledger is full and nothing is decided, at least 16; unless given 1024, or what it has
    #[arg(long, env = "SELFHEAL_LEDGER_MAX_MIB", value_name = "MIB", value_parser = clap::value_parser!(u32).range(LEDGER_MIB_MIN..))]
    pub ledger_max_mib: Option<u32>,
}

impl Args {
    pub(crate) fn sizing(&self) -> bus::Sizing {
        const MIB: i64 = 1024 * 1024;
        let bytes = |mib: Option<u32>| mib.map(|mib| i64::from(mib).saturating_mul(MIB));
        bus::Sizing {
            replicas: self.replicas.map(usize::from),
            inbox_bytes_max: bytes(self.inbox_max_mib),
            ledger_bytes_max: bytes(self.ledger_max_mib),
        }
    }

    pub(crate) fn rotation(&self) -> Rotation {
        const MIB: u64 = 1024 * 1024;
        Rotation {
            bytes_max: self.log_max_mib.max(1).saturating_mul(MIB),
            age_max: self.log_max_age.to_std().max(Duration::from_secs(60)),
            keep: Keep {
                files: self.log_max_files,
                bytes: self.log_keep_mib.saturating_mul(MIB),
                age: self.log_keep.to_std(),
            },
        }
    }
}

/// Says what to do about a log that cannot be used.
pub(crate) fn log_refused(path: &Path, error: journal::Error) -> ConfigError {
    let hint = match &error {
        journal::Error::Io { .. } => "make it readable and writable for this user",
        journal::Error::Foreign { .. } => {
            "move the file away, or name another directory with --data-dir"
        }
    };
    ConfigError::new(format!("cannot open the log {}", path.display()), hint).because(error)
}
