//! Telling the service manager how we do: `sd_notify(3)`, without its library.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is done. What cannot be sent is lost:
//! the manager has its own time limits for a process that says nothing.

use std::{
    ffi::OsStr,
    io,
    os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _, unix::net},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Readiness;

/// How often a start that takes long asks for more time, and for how much.
const ASK_EVERY: Duration = Duration::from_secs(20);
const ASK_FOR: Duration = Duration::from_secs(60);

/// The service manager, if there is one that listens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Systemd {
    to: Option<Arc<Listener>>,
    /// How often it wants to hear that we live.
    alive_every: Option<Duration>,
}

#[derive(Debug)]
struct Listener {
    socket: net::UnixDatagram,
    address: net::SocketAddr,
}

impl Systemd {
    /// Reads who listens from the environment that systemd gives.
    pub(crate) fn from_env() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(place) = var("NOTIFY_SOCKET") else { return Self::default() };
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let watchdog = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        match Self::new(&place, watchdog.0.as_deref(), watchdog.1.as_deref()) {
            Ok(systemd) => systemd,
            Err(error) => {
                warn!(%error, socket = %place.display(), "cannot tell the service manager how we do");
                Self::default()
            }
        }
    }

    fn new(place: &OsStr, usec: Option<&str>, pid: Option<&str>) -> io::Result<Self> {
        let address = match place.as_bytes().strip_prefix(b"@") {
            Some(name) => net::SocketAddr::from_abstract_name(name)?,
            None => net::SocketAddr::from_pathname(Path::new(place))?,
        };
        let socket = net::UnixDatagram::unbound()?;
        // A manager that does not read must not hold us up.
        socket.set_nonblocking(true)?;
        // The variables are inherited: they may be meant for the process that started us.
        let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let every = usec.and_then(|usec| usec.parse().ok()).filter(|usec| is_ours && 0 < *usec);
        // Twice in its time, so that one of them may come late.
        let alive_every = every.map(|usec: u64| Duration::from_micros(usec) / 2);
        Ok(Self { to: Some(Arc::new(Listener { socket, address })), alive_every })
    }

    fn tell(&self, state: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.socket.send_to_addr(state.as_bytes(), &to.address) {
            debug!(%error, state, "the service manager does not hear us");
        }
    }

    /// Says that we live, as often as the manager wants to hear it.
    pub(crate) fn alive(&self, now: Instant, told_at: &mut Option<Instant>) {
        let Some(every) = self.alive_every else { return };
        if told_at.is_none_or(|at| every <= now.saturating_duration_since(at)) {
            *told_at = Some(now);
            self.tell("WATCHDOG=1");
        }
    }

    /// Says when we are ready and when we stop, and asks for time while we wait for a broker.
    pub(crate) async fn follow(self, readiness: Readiness, stop: CancellationToken) {
        if self.to.is_none() {
            return;
        }
        let starting = async {
            let more = format!(
                "EXTEND_TIMEOUT_USEC={}\nSTATUS=waiting for the broker and for a supervisor",
                ASK_FOR.as_micros()
            );
            loop {
                match tokio::time::timeout(ASK_EVERY, readiness.released()).await {
                    Ok(()) => return,
                    Err(_elapsed) => self.tell(&more),
                }
            }
        };
        if stop.run_until_cancelled(starting).await.is_some() && !stop.is_cancelled() {
            self.tell("READY=1\nSTATUS=ready");
            stop.cancelled().await;
        }
        self.tell("STOPPING=1\nSTATUS=ending its work");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> (net::UnixDatagram, std::path::PathBuf) {
        let name = format!("selfheal-notify-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        let socket = net::UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (socket, path)
    }

    fn heard(socket: &net::UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_manager_hears_that_we_are_ready_and_that_we_stop() {
        let (socket, path) = listen();
        let systemd = Systemd::new(path.as_os_str(), None, None).unwrap();
        let stop = CancellationToken::new();
        let (readiness, latch) = Readiness::new(stop.clone());
        let telling = tokio::spawn(systemd.follow(readiness, stop.clone()));
        drop(latch);
        assert!(
            tokio::task::spawn_blocking(move || {
                let ready = heard(&socket);
                stop.cancel();
                (ready.starts_with("READY=1\n"), heard(&socket).starts_with("STOPPING=1\n"))
            })
            .await
            .is_ok_and(|(ready, stopping)| ready && stopping)
        );
        telling.await.unwrap();
    }

    #[test]
    fn an_address_that_begins_with_an_at_sign_is_abstract() {
        let name = format!("selfheal-{}", uuid::Uuid::new_v4().simple());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = net::UnixDatagram::bind_addr(&address).unwrap();
        let systemd = Systemd::new(OsStr::new(&format!("@{name}")), Some("2000000"), None).unwrap();
        let (now, mut told_at) = (Instant::now(), None);
        systemd.alive(now, &mut told_at);
        assert_eq!(heard(&socket), "WATCHDOG=1");
        systemd.alive(now + Duration::from_millis(999), &mut told_at);
        systemd.alive(now + Duration::from_secs(1), &mut told_at);
        assert_eq!(heard(&socket), "WATCHDOG=1");
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 8]).is_err(), "not more often than it wants");
    }

    #[test]
    fn a_watchdog_that_is_meant_for_another_process_is_none_of_ours() {
        let (_socket, path) = listen();
        let with = |usec, pid| Systemd::new(path.as_os_str(), usec, pid).unwrap().alive_every;
        assert_eq!(with(Some("1000000"), Some("1")), None);
        let me = std::process::id().to_string();
        assert_eq!(with(Some("1000000"), Some(&me)), Some(Duration::from_millis(500)));
        assert_eq!(with(Some("soon"), None), None);
        assert_eq!(with(Some("0"), None), None);
    }

    #[test]
    fn a_manager_that_is_gone_does_no_harm() {
        let (socket, path) = listen();
        let systemd = Systemd::new(path.as_os_str(), Some("1"), None).unwrap();
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        systemd.alive(Instant::now(), &mut None);
    }
}
