//! Real processes and servers to break, and a watch without a broker.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    check::Check,
    event::{Event, Status},
    span::Span,
    target::{ProcessHandle, Target},
};
use monitor::{
    instruments::Instruments,
    report::Report,
    watch::{self, Note, Post, Standing},
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch as channel},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// How long anything may take on a busy machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test: a check that is looked at so rarely tells nothing by itself.
pub const NEVER: Span = Span::from_secs(3600);

/// Waits for a condition, and says what it waited for when it does not come.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A directory of its own for each test.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("selfheal-monitor-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn instruments(&self) -> Instruments {
        // The second test of a process finds it done.
        let _done = rustls::crypto::ring::default_provider().install_default();
        let all = monitor::allow::AllowList::everything();
        Instruments::new(self.0.clone()).limited(all, &service::outgoing::Outgoing::default())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// A process as a fixer starts it: its own group, the target's name, a pid file.
pub struct Process(Child);

impl Process {
    /// Starts a process that does nothing, and writes its pid file.
    pub fn start(dir: &Dir, target: &Target) -> Self {
        let it = Self::start_unwritten(dir, target);
        fs::write(dir.path().join(format!("{}.pid", target.name)), it.pid().to_string()).unwrap();
        it
    }

    /// The same without a pid file.
    pub fn start_unwritten(dir: &Dir, target: &Target) -> Self {
        let child = Command::new("sleep")
            .arg("3600")
            .env("SELFHEAL_TARGET", &target.name)
            .env("SELFHEAL_STATE_DIR", dir.path())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it with SIGKILL, and returns when it is dead. It stays a zombie until dropped.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), dead).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A target whose process is `sleep`.
pub fn process_target(name: &str) -> Target {
    let handle = ProcessHandle {
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        dir: None,
        env: std::collections::BTreeMap::new(),
        pid_file: None,
        log: None,
        stop_timeout: Span::from_secs(5),
        user: None,
        group: None,
    };
    Target { process: Some(handle), ..Target::named(name) }
}

/// A name that no other test or run uses: processes are found by it.
pub fn unique(name: &str) -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))
}

/// A watch of one target, whose reports come here.
pub struct Watched {
    pub reports: mpsc::Receiver<Report>,
    pub notes: mpsc::Sender<Note>,
    standing: Arc<Standing>,
    task: JoinHandle<()>,
}

impl Watched {
    pub fn start(dir: &Dir, target: &Target) -> Self {
        Self::start_with(&dir.instruments(), target)
    }

    pub fn start_with(instruments: &Instruments, target: &Target) -> Self {
        let (reports, outgoing) = mpsc::channel(16);
        let (notes, inbox) = mpsc::channel(16);
        let post = Post {
            member: "monitor-test".into(),
            instruments: instruments.clone(),
            reports,
            n_changes: Arc::new(AtomicU64::new(0)),
        };
        let target = Arc::new(target.clone());
        let standing = Arc::new(Standing::default());
        let task = tokio::spawn(watch::watch(post, target, Arc::clone(&standing), inbox));
        Self { reports: outgoing, notes, standing, task }
    }

    /// Waits until a check was seen to pass: the watch stands.
    pub async fn until_well(&self, check: &str) {
        eventually("the check passes", || async { self.standing.is_well(check).then_some(()) })
            .await;
    }

    /// Waits for the next change and acknowledges it.
    pub async fn next(&mut self) -> Event {
        let report = timeout(PATIENCE, self.reports.recv()).await.expect("no change was told");
        let Report { event, stored } = report.unwrap();
        stored.send(()).unwrap();
        event
    }

    /// The same, which must be of this status.
    pub async fn expect(&mut self, status: Status) -> Event {
        let event = self.next().await;
        assert_eq!(event.status, status, "{event:#?}");
        event
    }

    /// Asserts that nothing has been told so far.
    pub fn nothing(&mut self) {
        if let Ok(report) = self.reports.try_recv() {
            panic!("told although nothing has changed: {:#?}", report.event);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers with this status and body.
    Answer(u16, &'static str),
    /// Takes connections and says nothing.
    Hang,
}

/// An HTTP server that can hang, die and come back on the same port.
pub struct Server {
    pub address: SocketAddr,
    mood: channel::Sender<Mood>,
    pub n_requests: channel::Receiver<u32>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, _) = channel::channel(Mood::Answer(200, "fine"));
        let (counter, n_requests) = channel::channel(0);
        let task = tokio::spawn(serve(listener, mood.subscribe(), counter));
        Self { address, mood, n_requests, task: Some(task) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Closes the port and all connections.
    pub async fn die(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _cancelled = task.await;
        }
    }

    pub async fn come_back(&mut self) {
        let address = self.address;
        let listener =
            eventually("the port is free", || async move { TcpListener::bind(address).await.ok() })
                .await;
        let (counter, n_requests) = channel::channel(0);
        self.n_requests = n_requests;
        self.task = Some(tokio::spawn(serve(listener, self.mood.subscribe(), counter)));
    }

    /// Waits until so many more requests have come in.
    pub async fn after_requests(&mut self, n: u32) {
        let wanted = *self.n_requests.borrow() + n;
        let seen = self.n_requests.wait_for(|seen| wanted <= *seen);
        timeout(PATIENCE, seen).await.expect("nobody asks the server").unwrap();
    }
}

async fn serve(
    listener: TcpListener,
    mood: channel::Receiver<Mood>,
    counter: channel::Sender<u32>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (mood, counter) = (mood.clone(), counter.clone());
        connections.spawn(async move {
            let _broken_off = answer(stream, mood, counter).await;
        });
    }
}

async fn answer(
    mut stream: TcpStream,
    mood: channel::Receiver<Mood>,
    counter: channel::Sender<u32>,
) -> std::io::Result<()> {
    let mut request = [0_u8; 2048];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    counter.send_modify(|n| *n += 1);
    let mood = mood.borrow().clone();
    match mood {
        Mood::Answer(status, body) => {
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await
        }
        Mood::Hang => std::future::pending().await,
    }
}

pub fn every(ms: u64) -> Check {
    Check { every: Span::from_millis(ms), ..Check::blank() }
}
