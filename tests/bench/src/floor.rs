//! What the machine can do without us: a bare HTTP server, and the broker alone.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_nats::jetstream;
use axum::{Json, Router, routing::post, serve::ListenerExt as _};
use bus::roles::Role;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{load::Bodies, stack::Stack};

/// A server of the same framework that decodes the body and answers as much as we do.
#[derive(Debug)]
pub struct Bare;

impl Bare {
    /// Serves on a free port of this host, in this process, until the runtime ends.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn serve() -> anyhow::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/publish_event", post(answer));
        let listener = listener.tap_io(|stream| {
            // Without it answers wait; the same as in the gateway.
            stream.set_nodelay(true).ok();
        });
        let serving = axum::serve(listener, router);
        drop(tokio::spawn(async move { serving.await }));
        Ok(address)
    }

    /// Serves until the standard input ends, and prints the address first: the bare server
    /// is a process of its own, as the gateway is.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    #[expect(clippy::print_stdout, reason = "the parent reads the address")]
    pub fn process() -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // As many as the gateway has.
            .worker_threads(2)
            .enable_all()
            .build()?;
        let address = runtime.block_on(Self::serve())?;
        println!("{address}");
        let mut all = String::new();
        std::io::Read::read_to_string(&mut std::io::stdin(), &mut all)?;
        Ok(())
    }
}

async fn answer(Json(body): Json<Value>) -> Json<Value> {
    let known = body.get("type").is_some();
    Json(json!({
        "status": if known { "incident_opened" } else { "refused" },
        "incident_id": "0199c8f2-6b1c-7c4e-9a52-000000000000",
        "message": "Incident logged and under analysis.",
    }))
}

/// Name of the stream that holds what the floor publishes.
const STREAM: &str = "BENCH_FLOOR";
/// One that supervisors may publish to, and that nobody listens on.
const SUBJECT: &str = "_INBOX_supervisor.bench_floor";

/// Publishes with acknowledgement, `in_flight` at once, for `span`; returns messages a second.
///
/// # Errors
///
/// When the broker cannot be reached or refuses.
pub async fn broker(stack: &Stack, in_flight: usize, span: Duration) -> anyhow::Result<f64> {
    let js = jetstream::new(stack.nats(Role::Supervisor).await?);
    js.create_stream(jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        max_bytes: 256 * 1024 * 1024,
        discard: jetstream::stream::DiscardPolicy::Old,
        ..Default::default()
    })
    .await
    .context("cannot make a stream")?;
    let per_s = publish(&js, &|_| SUBJECT.to_owned(), &Bodies::distinct(0), in_flight, span).await;
    js.delete_stream(STREAM).await.context("cannot remove the stream")?;
    per_s
}

/// Publishes events as somebody who has only a NATS client does; returns events a second.
///
/// # Errors
///
/// When the broker cannot be reached or refuses.
pub async fn direct(
    stack: &Stack,
    bodies: &Bodies,
    in_flight: usize,
    span: Duration,
) -> anyhow::Result<f64> {
    let js = jetstream::new(stack.nats(Role::Publisher).await?);
    publish(&js, &|_| "selfheal.event.service_down".to_owned(), bodies, in_flight, span).await
}

async fn publish(
    js: &jetstream::Context,
    subject: &dyn Fn(u64) -> String,
    bodies: &Bodies,
    in_flight: usize,
    span: Duration,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let messages = stream::iter(0_u64..).take_while(|_| {
        let goes_on = begun.elapsed() < span;
        async move { goes_on }
    });
    let mut acks = messages
        .map(|idx| async move {
            let acked = js.publish(subject(idx), bodies.body(idx).into()).await?;
            acked.await.map(|_ack| ())
        })
        .buffered(in_flight)
        .boxed_local();
    let mut n = 0_u64;
    while let Some(acked) = acks.next().await {
        acked.context("a message was not acknowledged")?;
        n += 1;
    }
    Ok(crate::float(n) / begun.elapsed().as_secs_f64())
}
