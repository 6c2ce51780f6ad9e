//! The shop: an HTTP API whose every order lies in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::process::say;
use crate::resp::{self, Reply};

/// The store must answer within this time, else the shop is not healthy.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(300);

/// What is for sale: sku and price in cents.
const PRODUCTS: [(&str, u32); 3] = [("tea", 420), ("coffee", 690), ("cup", 1250)];

/// The shop's shared state.
#[derive(Debug)]
pub struct Shop {
    store: String,
    is_hung: AtomicBool,
}

/// Why the store did not help.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("store {0} did not answer within {ms} ms", ms = STORE_TIMEOUT.as_millis())]
    Timeout(String),
    #[error("cannot reach store {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("store hung up or broke the protocol: {0}")]
    Talk(#[from] resp::Error),
    #[error("store refused: {0}")]
    Refused(String),
    #[error("store gave an unexpected answer")]
    Unexpected,
}

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        let body = json!({"status": "unavailable", "reason": self.to_string()});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    sku: String,
    #[serde(default = "one")]
    quantity: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: i64,
    sku: String,
    quantity: u32,
    total_cents: u64,
}

/// Returns the API of a shop that keeps its orders in the store at `store` (`host:port`).
///
/// With `faults`, `POST /faults/hang` makes `/health` never answer again.
pub fn router(store: String, faults: bool) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/products", get(products))
        .route("/orders", post(place_order))
        .route("/orders/{id}", get(show_order));
    if faults {
        router = router.route("/faults/hang", post(hang));
    }
    router.with_state(Arc::new(Shop { store, is_hung: AtomicBool::new(false) }))
}

async fn health(State(shop): State<Arc<Shop>>) -> Result<Response, StoreError> {
    if shop.is_hung.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    match shop.ask(&[b"PING"]).await? {
        Reply::Status("PONG") => Ok(Json(json!({"status": "ok"})).into_response()),
        Reply::Status(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Bulk(_) => {
            Err(StoreError::Unexpected)
        }
    }
}

async fn products(State(shop): State<Arc<Shop>>) -> Result<Response, StoreError> {
    let mut list = Vec::new();
    for (sku, price_cents) in PRODUCTS {
        let n_sold = match shop.ask(&[b"GET", format!("sold:{sku}").as_bytes()]).await? {
            Reply::Bulk(Some(text)) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            Reply::Bulk(None) | Reply::Status(_) | Reply::Error(_) | Reply::Integer(_) => 0_u64,
        };
        list.push(json!({"sku": sku, "price_cents": price_cents, "sold": n_sold}));
    }
    Ok(Json(list).into_response())
}

async fn place_order(
    State(shop): State<Arc<Shop>>,
    Json(new): Json<NewOrder>,
) -> Result<Response, StoreError> {
    let Some((sku, price)) = PRODUCTS.into_iter().find(|(sku, _)| *sku == new.sku) else {
        let reason = format!("there is no product '{}'; GET /products lists them", new.sku);
        return Ok((StatusCode::NOT_FOUND, Json(json!({"reason": reason}))).into_response());
    };
    let Reply::Integer(id) = shop.ask(&[b"INCR", b"orders"]).await? else {
        return Err(StoreError::Unexpected);
    };
    let total_cents = u64::from(price) * u64::from(new.quantity);
    let order = Order { id, sku: sku.to_owned(), quantity: new.quantity, total_cents };
    let body = json!(order).to_string();
    shop.ask(&[b"SET", format!("order:{id}").as_bytes(), body.as_bytes()]).await?;
    shop.ask(&[b"INCR", format!("sold:{sku}").as_bytes()]).await?;
    Ok((StatusCode::CREATED, Json(order)).into_response())
}

async fn show_order(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<u64>,
) -> Result<Response, StoreError> {
    let Reply::Bulk(found) = shop.ask(&[b"GET", format!("order:{id}").as_bytes()]).await? else {
        return Err(StoreError::Unexpected);
    };
    let Some(body) = found else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let order: Order = serde_json::from_slice(&body).map_err(|_bad| StoreError::Unexpected)?;
    Ok(Json(order).into_response())
}

async fn hang(State(shop): State<Arc<Shop>>) -> Json<serde_json::Value> {
    say("hangs from now on, as POST /faults/hang asks");
    shop.is_hung.store(true, Ordering::Relaxed);
    Json(json!({"status": "hanging"}))
}

impl Shop {
    /// Asks the store over a fresh connection, so that a store that was restarted is reached at once.
    async fn ask(&self, words: &[&[u8]]) -> Result<Reply, StoreError> {
        let talk = async {
            let connect = TcpStream::connect(&self.store).await;
            let mut stream = connect
                .map_err(|source| StoreError::Connect { address: self.store.clone(), source })?;
            let mut out = Vec::new();
            resp::encode_command(words, &mut out);
            stream.write_all(&out).await.map_err(resp::Error::Read)?;
            let reply = resp::read_reply(&mut BufReader::new(stream)).await?;
            match reply {
                Reply::Error(why) => Err(StoreError::Refused(why)),
                Reply::Status(_) | Reply::Integer(_) | Reply::Bulk(_) => Ok(reply),
            }
        };
        let answer = tokio::time::timeout(STORE_TIMEOUT, talk).await;
        answer.unwrap_or_else(|_late| Err(StoreError::Timeout(self.store.clone())))
    }
}
