//! What all probes share, so that a hundred checks cost one client of each kind.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use tokio::sync::{OnceCell, Semaphore};

use service::outgoing::{Client, Outgoing};

use crate::{allow::AllowList, engine::Engine, host::CpuMeter, processes::Processes};

/// Looks at file systems at the same time. One that hangs keeps its thread for ever, and
/// must not take all threads with it.
const DISKS_AT_ONCE: usize = 3;

/// Variables that a command is given: where programs are, and nothing of ours.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// What all probes share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instruments {
    /// Processes of this host.
    pub processes: Processes,
    /// The container engine of this host.
    pub engine: Engine,
    /// The host's processors.
    pub cpu: CpuMeter,
    allow: Arc<AllowList>,
    outgoing: Outgoing,
    http: Arc<OnceCell<Client>>,
    disks: Arc<Semaphore>,
    environment: Arc<[(&'static str, OsString)]>,
}

impl Instruments {
    /// Prepares everything; connects to nothing, and runs no commands.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        let passed_on = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        Self {
            processes: Processes::new(state_dir),
            engine: Engine::default(),
            cpu: CpuMeter::default(),
            allow: Arc::default(),
            outgoing: Outgoing::default(),
            http: Arc::default(),
            disks: Arc::new(Semaphore::new(DISKS_AT_ONCE)),
            environment: passed_on.collect(),
        }
    }

    /// Takes the local list of this monitor, and which addresses it may reach.
    #[must_use]
    pub fn limited(self, allow: AllowList, outgoing: &Outgoing) -> Self {
        let outgoing = outgoing.and(allow.hosts());
        let allow = Arc::new(allow);
        let processes = self.processes.limited(Arc::clone(&allow));
        Self { allow, outgoing, processes, ..self }
    }

    /// Returns the local list.
    #[must_use]
    pub fn allow(&self) -> &AllowList {
        &self.allow
    }

    /// Returns which addresses may be reached.
    #[must_use]
    pub const fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Returns the HTTP client, made at its first use.
    ///
    /// It keeps no connection open, follows no redirection and uses no proxy: a check is
    /// about this address, and a fresh connection proves more than an old one.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub async fn http(&self) -> Result<&Client, reqwest::Error> {
        let build = || async {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("selfheal-monitor/", env!("CARGO_PKG_VERSION")))
                .pool_max_idle_per_host(0)
                .no_proxy();
            self.outgoing.client(builder)
        };
        self.http.get_or_try_init(build).await
    }

    /// Returns the environment of commands.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.environment.iter().map(|(name, value)| (*name, value))
    }

    /// Returns the share of a file system that is used, in per cent.
    ///
    /// # Errors
    ///
    /// When the path does not exist or may not be looked at.
    pub async fn disk_percent(&self, path: String) -> std::io::Result<f64> {
        let place = Arc::clone(&self.disks).acquire_owned().await.map_err(std::io::Error::other)?;
        let look = move || {
            // Given back when the kernel has answered, not when we have stopped waiting.
            let _place = place;
            crate::host::disk_percent(path.as_str())
        };
        tokio::task::spawn_blocking(look).await.map_err(std::io::Error::other)?
    }
}
