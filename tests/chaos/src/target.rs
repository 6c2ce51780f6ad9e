//! The program of a target: it answers a health check, and writes down all that happens to it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

use crate::record::{Recorder, What};

/// How often a target looks whether the run that it belongs to is over.
const OWNER_EVERY: Duration = Duration::from_millis(500);

/// What a program of this crate is when it does not run everything.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Part {
    /// Be a target
    #[command(hide = true)]
    Target(TargetArgs),
    /// Mend a target
    #[command(hide = true)]
    Mend(MendArgs),
}

impl Part {
    /// Plays the part.
    ///
    /// # Errors
    ///
    /// When a target cannot write its record or listen.
    pub async fn play(&self) -> io::Result<ExitCode> {
        match self {
            Self::Target(args) => serve(args).await,
            Self::Mend(args) => mend(args).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// Flags of a target.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// Directory of its record and marks
    #[arg(long)]
    pub dir: PathBuf,
    /// Its name
    #[arg(long)]
    pub name: String,
    /// Where to answer `GET /health`
    #[arg(long)]
    pub listen: SocketAddr,
    /// It ends with this process
    #[arg(long)]
    pub owner: i32,
}

/// Flags of the action that mends a target.
#[derive(Clone, Debug, clap::Args)]
pub struct MendArgs {
    /// Directory of its record and marks
    #[arg(long)]
    pub dir: PathBuf,
    /// Its name
    pub name: String,
}

/// A file whose being there changes what a target does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It says that it is sick.
    Sick,
    /// It cannot be started, and mending does not help.
    Hopeless,
}

impl Mark {
    /// Returns the file.
    #[must_use]
    pub fn path(self, dir: &Path, name: &str) -> PathBuf {
        let suffix = match self {
            Self::Sick => "sick",
            Self::Hopeless => "hopeless",
        };
        dir.join(format!("{name}.{suffix}"))
    }

    /// Makes or removes it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn set(self, dir: &Path, name: &str, on: bool) -> io::Result<()> {
        let path = self.path(dir, name);
        if on {
            return std::fs::write(path, "");
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn is_set(self, dir: &Path, name: &str) -> bool {
        self.path(dir, name).exists()
    }
}

/// Runs a target until it is stopped on request.
async fn serve(args: &TargetArgs) -> io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut recorder = Recorder::open(&args.dir, &args.name)?;
    recorder.write(What::Start)?;
    if Mark::Hopeless.is_set(&args.dir, &args.name) {
        recorder.write(What::End)?;
        say("fatal: it cannot work as it is");
        return Ok(ExitCode::FAILURE);
    }
    let listener = TcpListener::bind(args.listen).await?;
    let recorder = Mutex::new(recorder);
    tokio::select! {
        _ = terminate.recv() => {}
        () = orphaned(args.owner) => {}
        ended = answer_all(args, &listener, &recorder) => ended?,
    }
    recorder.lock().await.write(What::End)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "its last words are evidence for a diagnosis")]
fn say(what: &str) {
    eprintln!("{what}");
}

/// Returns when the process that it belongs to is gone.
async fn orphaned(owner: i32) {
    let mut ticks = tokio::time::interval(OWNER_EVERY);
    loop {
        ticks.tick().await;
        if !Path::new("/proc").join(owner.to_string()).exists() {
            return;
        }
    }
}

async fn answer_all(
    args: &TargetArgs,
    listener: &TcpListener,
    recorder: &Mutex<Recorder>,
) -> io::Result<()> {
    let mut answers = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => answers.push(answer(args, accepted?.0, recorder)),
            // Whoever hung up meanwhile does not matter.
            Some(_) = futures_util::StreamExt::next(&mut answers), if !answers.is_empty() => {}
        }
    }
}

async fn answer(
    args: &TargetArgs,
    stream: TcpStream,
    recorder: &Mutex<Recorder>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let sick = Mark::Sick.is_set(&args.dir, &args.name);
    // Written down first: an answer that somebody heard is in the record in any case.
    recorder.lock().await.write(if sick { What::Sick } else { What::Well })?;
    let status = if sick { "503 Service Unavailable" } else { "200 OK" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

/// Carries out an action upon a target: writes it down, and makes the target well.
fn mend(args: &MendArgs) -> io::Result<()> {
    Recorder::open(&args.dir, &args.name)?.write(What::Mend)?;
    if !Mark::Hopeless.is_set(&args.dir, &args.name) {
        Mark::Sick.set(&args.dir, &args.name, false)?;
    }
    Ok(())
}
