//! `cargo xtask up`: everything from a fresh clone to a running system with a shop to break.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::broker;
use crate::demo::{Demo, TARGETS};
use crate::process::end;
use crate::workspace::Workspace;

/// All agents and the broker must have ended within this time; then they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often the child is looked at while nothing else happens.
const LOOK: Duration = Duration::from_millis(200);

/// The configuration that is started.
const CONFIG: &str = "deploy/examples/quickstart.yaml";

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build with optimisation (slower to build, faster to run)
    #[arg(long)]
    release: bool,
    /// Where the gateway listens
    #[arg(long, default_value = "127.0.0.1:8080", env = "SELFHEAL_LISTEN")]
    listen: String,
    /// The configuration
    #[arg(long, default_value = CONFIG)]
    config: String,
    /// Do not start the demo targets
    #[arg(long)]
    no_demo: bool,
    /// More options for `selfheal up`, after `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

enum Happening {
    Line(String),
    OutputEnded,
    Signal,
}

/// Fetches, builds and starts everything; ends it all at Ctrl-C.
pub(crate) fn run(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    println!("broker: nats-server {} ({})", server.version, server.path.display());
    workspace.build_product(options.release)?;
    let binaries = workspace.binaries(options.release);

    // Caught before anything is started, so that nothing is ever left behind.
    let (happen, happened) = channel();
    catch_signals(happen.clone())?;
    let demo = Demo::new(&workspace.root, &binaries);
    let stack =
        Stack { workspace, binaries: &binaries, server: &server.path, demo: &demo, options };
    let ended = stack.run(happen, &happened);
    if !options.no_demo {
        demo.stop();
    }
    ended
}

/// What runs, and how it was asked for.
struct Stack<'a> {
    workspace: &'a Workspace,
    binaries: &'a Path,
    server: &'a Path,
    demo: &'a Demo,
    options: &'a Options,
}

impl Stack<'_> {
    fn run(
        &self,
        happen: Sender<Happening>,
        happened: &Receiver<Happening>,
    ) -> anyhow::Result<ExitCode> {
        if !self.options.no_demo {
            self.demo.start()?;
        }
        let mut child = self.start()?;
        if let Some(output) = child.stdout.take() {
            read_lines(output, happen);
        }
        let code = self.watch(&mut child, happened);
        let status = end(&mut child, STOP_LIMIT);
        let code = code?;
        status?;
        Ok(code)
    }

    fn start(&self) -> anyhow::Result<Child> {
        // Its targets' programs are found as those of an installed system would be: by PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.binaries.to_owned()].into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).context("PATH cannot be extended")?;
        Command::new(self.binaries.join("selfheal"))
            .args(["up", "--config", &self.options.config, "--listen", &self.options.listen])
            .args(&self.options.rest)
            .current_dir(&self.workspace.root)
            .env("PATH", path)
            .env("SELFHEAL_NATS_SERVER", self.server)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C reaches us alone; we end it in order.
            .process_group(0)
            .spawn()
            .context("cannot start selfheal up")
    }

    /// Shows what the stack says, until it ends or we are asked to.
    fn watch(&self, child: &mut Child, happened: &Receiver<Happening>) -> anyhow::Result<ExitCode> {
        loop {
            match happened.recv_timeout(LOOK) {
                Ok(Happening::Line(line)) => {
                    println!("{line}");
                    if line.starts_with("ready http") {
                        println!("{}", self.hints());
                    }
                }
                Ok(Happening::Signal) => {
                    println!("\nending");
                    return Ok(ExitCode::SUCCESS);
                }
                Ok(Happening::OutputEnded) | Err(_) => {
                    if let Some(status) = child.try_wait().context("cannot watch selfheal up")? {
                        println!("selfheal up ended: {status}");
                        let code = status.code().and_then(|code| u8::try_from(code).ok());
                        return Ok(ExitCode::from(code.unwrap_or(1)));
                    }
                }
            }
        }
    }

    fn hints(&self) -> String {
        let url = format!("http://{}", self.options.listen);
        let addresses = format!(
            "\n  api        {url}\n  incidents  curl -s {url}/api/v1/incidents -H \"authorization: Bearer $(cat data/run/api-token)\"\n"
        );
        if self.options.no_demo {
            return addresses;
        }
        let bin = self.binaries.strip_prefix(&self.workspace.root).unwrap_or(self.binaries);
        let selfheal = bin.join("selfheal").display().to_string();
        let pid = TARGETS.first().and_then(|store| self.demo.running(store));
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let event = r#"{"type": "service_down", "source": "external", "payload": {"service": "database", "timestamp": "2025-08-18T12:34:56Z"}}"#;
        format!(
            "{addresses}  \
             shop       http://127.0.0.1:8081/products (needs the store, process {pid})\n\n\
             Three things to try in another terminal:\n\n  \
             1. kill the shop's store, and see it healed:\n     \
                kill -9 $(cat data/run/database.pid); {selfheal} incidents ls\n  \
             2. watch what happens:\n     \
                {selfheal} incidents watch\n  \
             3. report an incident yourself:\n     \
                curl -s {url}/publish_event -H 'content-type: application/json' -d '{event}'\n\n\
             Every decision is a line in data/incident_logs.jsonl. Ctrl-C ends everything.\n"
        )
    }
}

fn catch_signals(happen: Sender<Happening>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch Ctrl-C")?;
    std::thread::spawn(move || {
        for _signal in signals.forever() {
            if happen.send(Happening::Signal).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn read_lines(output: impl std::io::Read + Send + 'static, happen: Sender<Happening>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if happen.send(Happening::Line(line)).is_err() {
                return;
            }
        }
        // The receiver may be gone, then nobody wants to know.
        happen.send(Happening::OutputEnded).ok();
    });
}
