//! `demo-store`: a Redis-like store over TCP, kept in an append-only file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use demo::process::{ProcessArgs, say};
use demo::server;
use demo::store::Store;
use tokio::net::TcpListener;

/// A Redis-like store: PING, GET, SET, INCR, DEL, INFO over RESP or as plain lines
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:6390", env = "DEMO_LISTEN")]
    listen: SocketAddr,
    /// The append-only file that keeps the data; without it they are lost at the end
    #[arg(long, value_name = "FILE", env = "DEMO_DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Args::parse()).await.unwrap_or_else(|error| {
        say(&format!("fatal: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let end = args.process.end().context("cannot catch signals")?;
    args.process.begin().await.context("cannot start")?;
    let store = match &args.data {
        Some(path) => Store::open(path)
            .await
            .with_context(|| format!("cannot open the data file {}", path.display()))?,
        None => Store::in_memory(),
    };
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    say(&format!("store listens on {}", listener.local_addr()?));
    tokio::select! {
        code = end => {
            say("store ends");
            Ok(code)
        }
        served = server::serve(listener, store) => {
            served.context("cannot accept connections")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
