//! How the run itself reaches the system: by HTTP through its gateways, as anybody would.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

/// How long a request may take before it is sent again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Reaches the gateways.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    gateways: Vec<SocketAddr>,
    token: Option<String>,
}

/// What a gateway answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null when it is no JSON.
    pub body: Value,
}

impl Http {
    /// Makes a client of these gateways, which may ask for a token.
    ///
    /// # Errors
    ///
    /// When the client cannot be made.
    pub fn new(gateways: Vec<SocketAddr>, token: Option<String>) -> anyhow::Result<Self> {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { client, gateways, token })
    }

    fn url(&self, n: usize, path: &str) -> String {
        let gateway = self.gateways.get(n % self.gateways.len().max(1));
        gateway.map(|it| format!("http://{it}{path}")).unwrap_or_default()
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a document to gateway `n` of them.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    pub async fn post(&self, n: usize, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = self.client.post(self.url(n, path)).json(body);
        answer(self.signed(request).send().await?).await
    }

    /// Gets a document from gateway `n` of them.
    ///
    /// # Errors
    ///
    /// When there is no answer, or it is not 200.
    pub async fn get(&self, n: usize, path: &str) -> anyhow::Result<Value> {
        let answer = answer(self.signed(self.client.get(self.url(n, path))).send().await?).await?;
        anyhow::ensure!(answer.status == 200, "{path} is answered with {}", answer.status);
        Ok(answer.body)
    }

    /// Gets a document from any gateway that has it.
    ///
    /// # Errors
    ///
    /// What the last one answered.
    pub async fn get_anywhere(&self, path: &str) -> anyhow::Result<Value> {
        let mut last = Err(anyhow::anyhow!("there is no gateway"));
        for n in 0..self.gateways.len() {
            last = self.get(n, path).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Sends a document to any gateway that answers.
    ///
    /// # Errors
    ///
    /// What the last one failed with.
    pub async fn post_anywhere(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let mut last = Err(anyhow::anyhow!("there is no gateway"));
        for n in 0..self.gateways.len() {
            last = self.post(n, path, body).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Returns the process id of the supervisor that leads, if somebody knows one.
    pub async fn leader(&self) -> Option<u32> {
        let status = self.get_anywhere("/api/v1/status").await.ok()?;
        let leader = status.get("system")?.get("leader")?.as_str()?.to_owned();
        let agents = status.get("agents")?.as_array()?;
        let agent = agents.iter().find(|it| it.get("id").and_then(Value::as_str) == Some(&leader));
        agent?.get("pid")?.as_u64()?.try_into().ok()
    }
}

async fn answer(response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let body = response.bytes().await.context("the answer is cut off")?;
    Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
}
