//! A real broker for tests: started on a free port, killed and started again at will,
//! and gone with its files when the test ends.

mod proxy;

use std::{
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub use self::proxy::{Network, Proxy};
use crate::{BrokerOptions, Bus, Error};

/// How long a broker may take to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// A nats-server of one's own. Killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Broker {
    dir: PathBuf,
    port: u16,
    jetstream: bool,
    child: Option<Child>,
}

impl Broker {
    /// Starts a broker that syncs every message to disk, as we ship it.
    ///
    /// # Panics
    ///
    /// If there is no nats-server, or it does not start: the test fails and says why.
    pub async fn start() -> Self {
        Self::with_config("").await
    }

    /// Starts a broker with more lines of configuration, such as accounts.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub async fn with_config(more: &str) -> Self {
        Self::launch(more, true).await
    }

    /// Starts a broker that stores nothing.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub async fn without_jetstream() -> Self {
        Self::launch("", false).await
    }

    /// Starts one of several brokers, each with a name of its own.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub async fn named(name: &str, more: &str) -> Self {
        Self::launch_named(name, more, true).await
    }

    async fn launch(more: &str, jetstream: bool) -> Self {
        Self::launch_named("test", more, jetstream).await
    }

    #[expect(clippy::panic, reason = "a test without a broker must fail, not be left out")]
    async fn launch_named(name: &str, more: &str, jetstream: bool) -> Self {
        match Self::try_launch(name, more, jetstream).await {
            Ok(broker) => broker,
            Err(error) => panic!("cannot start a broker: {error}"),
        }
    }

    async fn try_launch(name: &str, more: &str, jetstream: bool) -> io::Result<Self> {
        let dir =
            std::env::temp_dir().join(format!("selfheal-test-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let store = dir.join("store");
        let storage = if jetstream {
            format!(
                "jetstream {{ store_dir: \"{}\", sync_interval: always, max_file: 8GB, max_mem: 1GB }}\n",
                store.display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: \"{name}\"\nlog_file: \"{}\"\n{storage}{more}\n",
            dir.join("log").display()
        );
        fs::write(dir.join("nats.conf"), config)?;
        let mut broker = Self { dir, port, jetstream, child: None };
        broker.up().await?;
        Ok(broker)
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns its URL for a user.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Returns its port, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the directory of its configuration, log and store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Connects to it, with nothing set up yet.
    ///
    /// # Errors
    ///
    /// As [`crate::connect()`].
    pub async fn connect(&self) -> Result<Bus, Error> {
        crate::connect(&BrokerOptions { url: self.url(), ..BrokerOptions::default() }).await
    }

    /// Connects to it and makes all streams and buckets.
    ///
    /// # Errors
    ///
    /// As [`crate::connect()`] and [`Bus::ensure_topology`].
    pub async fn bus(&self) -> Result<Bus, Error> {
        let bus = self.connect().await?;
        bus.ensure_topology().await?;
        Ok(bus)
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have died by itself: gone is gone.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again on the same port and with the same store; kills it first if it runs.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[expect(clippy::panic, reason = "a test without a broker must fail, not be left out")]
    pub async fn restart(&mut self) {
        self.kill();
        if let Err(error) = self.up().await {
            panic!("cannot start the broker again: {error}");
        }
    }

    /// Waits until it has ended by itself, as after a SIGTERM.
    pub async fn ended(&mut self) {
        while let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(None))
        {
            tokio::time::sleep(LOOK).await;
        }
        self.kill();
    }

    async fn up(&mut self) -> io::Result<()> {
        let config = self.dir.join("nats.conf");
        let server = server()?;
        let child = Command::new(&server)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while !greets(self.port, self.jetstream) {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || deadline < Instant::now() {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "{} did not start:\n{log}",
                    server.display()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        // What is left behind in a temporary directory does no harm.
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Tells whether a broker greets on the port, with storage if it must have any.
fn greets(port: u16, jetstream: bool) -> bool {
    let greeting = || -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut buffer = [0_u8; 4096];
        let n = stream.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()).into_owned())
    };
    greeting().is_ok_and(|text| {
        text.starts_with("INFO ") && (!jetstream || text.contains("\"jetstream\":true"))
    })
}

/// Finds a nats-server: by `SELFHEAL_NATS_SERVER`, in the PATH, or in `.tools` of the repository.
fn server() -> io::Result<PathBuf> {
    const NAME: &str = "nats-server";
    let named = std::env::var_os("SELFHEAL_NATS_SERVER").filter(|path| !path.is_empty());
    if let Some(path) = named {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let mut places = std::env::split_paths(&path).chain([tools]);
    let found = places.find_map(|dir| Some(dir.join(NAME)).filter(|file| file.is_file()));
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "there is no nats-server: run `cargo xtask test`, which fetches it",
        )
    })
}
