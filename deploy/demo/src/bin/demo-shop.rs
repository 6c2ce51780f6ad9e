//! `demo-shop`: an HTTP shop that is only healthy while its store answers.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use demo::process::{ProcessArgs, say};
use demo::shop;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Requests under way get this long to finish after SIGTERM; one that hangs is cut off.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// An HTTP shop: GET /health, GET /products, POST /orders, GET /orders/{id}
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8081", env = "DEMO_LISTEN")]
    listen: SocketAddr,
    /// The store, as host:port
    #[arg(long, default_value = "127.0.0.1:6390", env = "DEMO_STORE")]
    store: String,
    /// Offer POST /faults/hang
    #[arg(long, env = "DEMO_FAULTS")]
    faults: bool,
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
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    say(&format!("shop listens on {}, store at {}", listener.local_addr()?, args.store));

    let (drain, drained) = oneshot::channel::<()>();
    let served = axum::serve(listener, shop::router(args.store, args.faults))
        .with_graceful_shutdown(async { drop(drained.await) })
        .into_future();
    tokio::pin!(served);
    let code = tokio::select! {
        code = end => code,
        ended = &mut served => {
            ended.context("cannot serve")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    drop(drain);
    drop(tokio::time::timeout(DRAIN_TIMEOUT, served).await);
    say("shop ends");
    Ok(code)
}
