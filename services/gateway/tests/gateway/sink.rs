//! Somebody who is told by HTTP, and answers what a test wants answered.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use crate::fixture::PATIENCE;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    Later(u16, &'static str),
    Json(Value),
    /// Nothing, for as long as anybody waits.
    Silence,
}

type Answering = dyn Fn(usize, &Asked) -> Reply + Send + Sync;

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answering>,
}

/// Somebody who is told by HTTP.
pub(crate) struct Sink {
    pub(crate) url: String,
    shared: Shared,
}

async fn take(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.path().to_owned();
    let asked = Asked { path, headers: head.headers, body };
    let reply = {
        let mut all = shared.asked.lock().unwrap();
        all.push(asked.clone());
        (shared.answer)(all.len(), &asked)
    };
    match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Later(status, after) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", after)]).into_response()
        }
        Reply::Json(body) => axum::Json(body).into_response(),
        Reply::Silence => std::future::pending().await,
    }
}

impl Sink {
    /// Opens one; it is told the number of each request, from 1.
    pub(crate) async fn open(
        answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { asked: Arc::default(), answer: Arc::new(answer) };
        let router = Router::new().fallback(take).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// Returns what was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until so much was asked, and returns it.
    pub(crate) async fn wait(&self, n: usize) -> Vec<Asked> {
        let looking = async {
            while self.asked().len() < n {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, looking).await;
        assert!(waited.is_ok(), "{n} requests were expected: {:#?}", self.asked());
        self.asked()
    }
}
