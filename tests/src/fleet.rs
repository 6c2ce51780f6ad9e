//! All agents as processes of their own, each with an address for health and metrics, at a
//! broker that the test can see.

#![expect(clippy::indexing_slicing, reason = "a kind that is none fails the test")]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bus::testing::Broker;
use serde_json::Value;

use crate::{
    agents::Agent,
    eventually,
    stack::{kill_targets, reqwest_client},
    target::free_address,
};

/// The kinds of agents.
pub const KINDS: [&str; 5] = ["supervisor", "monitor", "analyzer", "fixer", "gateway"];

/// A running fleet. It and its targets end when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    dir: PathBuf,
    agents: BTreeMap<&'static str, Agent>,
    health: BTreeMap<&'static str, SocketAddr>,
    url: String,
    client: reqwest::Client,
    _broker: Broker,
}

impl Fleet {
    /// Starts one agent of each kind and waits until all are ready.
    ///
    /// # Panics
    ///
    /// When one does not become ready.
    #[expect(clippy::unwrap_used, reason = "without its files there is no test")]
    pub async fn start(dir: &Path, config: &str, env: &[(String, String)]) -> Self {
        let broker = Broker::start().await;
        let config_path = dir.join("selfheal.yaml");
        fs::write(&config_path, config).unwrap();
        let listen = free_address();
        let health = KINDS.map(|kind| (kind, free_address()));
        let run = dir.join("data/run").display().to_string();
        let flags = |kind: &str| -> Vec<String> {
            let own: [String; 4] = match kind {
                "supervisor" => {
                    let config = config_path.display().to_string();
                    ["--config".into(), config, "--data-dir".into(), ".".into()]
                }
                "gateway" => {
                    let at = listen.to_string();
                    ["--listen".into(), at, "--answer-timeout".into(), "5s".into()]
                }
                "analyzer" => return Vec::new(),
                _ => return vec!["--state-dir".to_owned(), run.clone()],
            };
            own.into()
        };
        let start = |(kind, address): (&'static str, SocketAddr)| {
            let mut more = flags(kind);
            more.extend(["--health-listen".to_owned(), address.to_string()]);
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let agent = Agent::start_with(kind, &dir.join(kind), &broker.url(), &more, env);
            (kind, agent)
        };
        let fleet = Self {
            dir: dir.to_owned(),
            agents: health.into_iter().map(start).collect(),
            health: health.into_iter().collect(),
            url: format!("http://{listen}"),
            client: reqwest_client(),
            _broker: broker,
        };
        for kind in KINDS {
            let ready = format!("http://{}/readyz", fleet.health[kind]);
            eventually(&format!("{kind} is ready"), || async {
                let answer = fleet.client.get(&ready).send().await;
                let answer = answer.map_err(|error| error.to_string())?;
                if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
            })
            .await;
        }
        fleet
    }

    /// Returns the gateway's address, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns where each kind answers for health and metrics.
    #[must_use]
    pub const fn health(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.health
    }

    /// Returns the metrics of one agent, as they are scraped.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[expect(clippy::unwrap_used, reason = "an agent that does not answer fails the test")]
    pub async fn metrics(&self, kind: &str) -> String {
        let url = format!("http://{}/metrics", self.health[kind]);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Sends an event with these headers, and returns the answer.
    ///
    /// # Panics
    ///
    /// When it is not taken.
    #[expect(clippy::unwrap_used, reason = "an event that is refused fails the test")]
    pub async fn publish(&self, event: &Value, headers: &[(&str, &str)]) -> Value {
        let mut request = self.client.post(format!("{}/publish_event", self.url)).json(event);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.unwrap()
    }

    /// Waits until `n` incidents of this target have this state, and returns the newest.
    ///
    /// # Panics
    ///
    /// When it does not come to that in time.
    pub async fn until(&self, target: &str, state: &str, n: usize) -> Value {
        let url = format!("{}/api/v1/incidents", self.url);
        eventually(&format!("{n} incidents of {target} are {state}"), || async {
            let failed = |error: reqwest::Error| error.to_string();
            let page = self.client.get(&url).send().await.map_err(failed)?;
            let page: Value = page.json().await.map_err(failed)?;
            let all = page["incidents"].as_array().cloned().unwrap_or_default();
            let mut fit = all.iter().filter(|it| it["target"] == target && it["status"] == state);
            let newest = fit.next().cloned();
            newest.filter(|_| n <= 1 + fit.count()).ok_or_else(|| format!("{all:#?}"))
        })
        .await
    }

    /// Asks one agent to end, and returns its exit code.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[expect(clippy::unwrap_used, reason = "the agent is ours")]
    pub async fn stop(&mut self, kind: &str) -> i32 {
        self.agents.get_mut(kind).unwrap().stop().await
    }

    /// Returns what an agent has said so far.
    #[must_use]
    pub fn said(&self, kind: &str) -> String {
        self.agents[kind].said()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The fixer first, so that it starts nothing any more.
        self.agents.clear();
        kill_targets(&self.dir);
        if !std::thread::panicking() {
            let _left_over = fs::remove_dir_all(&self.dir);
        }
    }
}
