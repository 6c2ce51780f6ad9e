//! No secret is in anything that the system says: secrets are planted wherever there is a place for
//! one, the system is driven at the most talkative level, and all of its output is searched.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bus::testing::Broker;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tests::{
    agents::Agent,
    eventually,
    stack::{binary, directory},
};

/// A secret that is sent or configured somewhere, with a name for the one who reads a failure.
struct Planted(Vec<(&'static str, String)>);

impl Planted {
    fn new() -> Self {
        let unique = || uuid::Uuid::new_v4().simple().to_string();
        Self(vec![
            ("password of the broker", format!("p{}", unique())),
            ("token of the flags", format!("api-{}", unique())),
            ("wrong token", format!("wrong-{}", unique())),
            ("wrong token of our form", format!("sht_{}{}", unique(), unique())),
            ("password of another scheme", format!("basic-{}", unique())),
            ("signature of a provider's token", unique()),
            ("approval link", format!("{}.{}", unique(), unique())),
        ])
    }

    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(it, _)| *it == name).unwrap().1
    }

    /// Looks for all of them in a text.
    fn search(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            let at = text.find(secret.as_str());
            let around = at.map(|at| {
                let (from, to) = (at.saturating_sub(200), at + secret.len());
                String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()
            });
            assert!(around.is_none(), "{place} holds the {name}: …{}", around.unwrap());
        }
    }
}

fn config(provider: u16) -> String {
    json!({
        "targets": [{
            "name": "store",
            "process": {"command": ["sleep", "600"]},
            "checks": [{"http": "http://127.0.0.1:9/", "every": "200ms"}],
        }],
        "policy": {"notify": [{"log": true}], "autonomy": "approve"},
        "access": {"oidc": {
            "issuer": format!("http://127.0.0.1:{provider}"), "audience": "selfheal",
            "role_claim": "groups", "name_claim": "sub", "roles": {"a": "viewer"},
        }},
    })
    .to_string()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The five agents at a broker with a password, each as talkative as can be.
struct System {
    agents: Vec<Agent>,
    health: Vec<u16>,
    url: String,
}

impl System {
    async fn start(dir: &Path, broker_url: &str, api_token: &str) -> Self {
        let token_file = dir.join("api-token");
        private::write(&token_file, api_token.as_bytes()).unwrap();
        let file = dir.join("selfheal.yaml");
        fs::write(&file, config(free_port())).unwrap();
        let listen = free_port();
        let (file, listen_at) = (file.display().to_string(), format!("127.0.0.1:{listen}"));
        let token_file = token_file.display().to_string();
        let (mut agents, mut health) = (Vec::new(), Vec::new());
        for kind in ["supervisor", "gateway", "monitor", "analyzer", "fixer"] {
            let port = free_port();
            let health_at = format!("127.0.0.1:{port}");
            // Also what libraries say: nobody reads the source of all of them.
            let mut more =
                vec!["--log-format", "json", "--log", "trace", "--health-listen", &health_at];
            match kind {
                "supervisor" => more.extend(["--config", &file, "--data-dir", "data"]),
                "gateway" => more.extend(["--listen", &listen_at, "--api-token-file", &token_file]),
                _ => {}
            }
            health.push(port);
            agents.push(Agent::start(kind, &dir.join(kind), broker_url, &more));
        }
        let system = Self { agents, health, url: format!("http://{listen_at}") };
        for port in &system.health {
            eventually("an agent is ready", || async {
                let asked = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await;
                let status = asked.map_err(|error| error.to_string())?.status().as_u16();
                if status == 200 { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
        }
        system
    }
}

async fn ask(
    client: &reqwest::Client,
    url: &str,
    authorization: &str,
    body: Option<Value>,
) -> String {
    let request = match &body {
        Some(body) => client.post(url).json(body),
        None => client.get(url),
    };
    let answer = request.header("authorization", authorization).send().await.unwrap();
    let head = format!("{} {:?}", answer.status(), answer.headers());
    format!("{head} {}", answer.text().await.unwrap())
}

/// Returns everything that the broker has stored, but the configuration of `nats-server` itself.
async fn stored(broker: &Broker, password: &str) -> String {
    let user = ("all".to_owned(), password.to_owned());
    let options = async_nats::ConnectOptions::with_user_and_password(user.0, user.1);
    let client = options.connect(broker.url()).await.unwrap();
    let js = async_nats::jetstream::new(client);
    let mut names = js.stream_names();
    let mut text = String::new();
    while let Some(name) = names.next().await {
        let stream = js.get_stream(name.unwrap()).await.unwrap();
        let state = stream.cached_info().state.clone();
        for seq in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(seq).await {
                let payload = String::from_utf8_lossy(&message.payload);
                // Writing to a string cannot fail.
                let _infallible =
                    writeln!(text, "{} {:?} {payload}", message.subject, message.headers);
            }
        }
    }
    text
}

/// Returns all files below a directory but the ones that hold a secret because they must.
fn files(dir: &Path, but: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, but));
        } else if !but.contains(&path) {
            let text = fs::read(&path).unwrap_or_default();
            found.push((path, String::from_utf8_lossy(&text).into_owned()));
        }
    }
    found
}

/// Asks the gateway by the command line who the holder of a token is.
fn checked(system: &System, dir: &Path, token: &str) -> String {
    let mut command = Command::new(binary("selfheal"));
    command.args(["token", "check", "--gateway", &system.url]).current_dir(dir);
    let output = command.env("SELFHEAL_API_TOKEN", token).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn cli(url: &str, dir: &Path, words: &[&str]) -> String {
    let mut command = Command::new(binary("selfheal"));
    command.args(words).env("SELFHEAL_NATS_URL", url).current_dir(dir);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Asks for everything, with what is right and with what is wrong, and returns the answers.
async fn by_http(
    system: &System,
    client: &reqwest::Client,
    planted: &Planted,
    good: &[String],
) -> Vec<String> {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0";
    let wrong = [
        format!("Bearer {jwt}.{}", planted.get("signature of a provider's token")),
        format!("Bearer {}", planted.get("wrong token")),
        format!("Bearer {}", planted.get("wrong token of our form")),
        format!("Basic {}", planted.get("password of another scheme")),
    ];
    let mut answers = Vec::new();
    for authorization in good.iter().chain(&wrong) {
        let at = |path: &str| format!("{}{path}", system.url);
        for path in ["/", "/api/v1/tokens", "/api/v1/status", "/api/v1/incidents", "/nothing"] {
            answers.push(ask(client, &at(path), authorization, None).await);
        }
        let link = at(&format!("/approve/{}", planted.get("approval link")));
        answers.push(ask(client, &link, authorization, None).await);
        answers.push(ask(client, &link, authorization, Some(json!({}))).await);
        let event = json!({"type": "service_down", "target": "store", "source": "test"});
        for path in ["/publish_event", "/api/v1/events", "/api/v1/pause", "/api/v1/resume"] {
            let body = if path.contains("event") { event.clone() } else { json!({"by": "ann"}) };
            answers.push(ask(client, &at(path), authorization, Some(body)).await);
        }
    }
    for status in ["200", "401", "403", "503"] {
        assert!(answers.iter().any(|it| it.starts_with(status)), "{status}: {answers:#?}");
    }
    answers
}

fn by_command(broker: &Broker, url: &str, dir: &Path, planted: &Planted) -> Vec<String> {
    let asked = [
        &["status"][..],
        &["doctor"],
        &["doctor", "--json"],
        &["token", "ls"],
        &["token", "ls", "--json"],
        &["incidents", "ls"],
    ];
    let mut answers: Vec<_> = asked.iter().map(|words| cli(url, dir, words)).collect();
    let wrong_url = broker.url_for("all", planted.get("wrong token"));
    for words in [["doctor", "--timeout", "1s"], ["status", "--timeout", "1s"]] {
        answers.push(cli(&wrong_url, dir, &words));
    }
    answers
}

async fn by_health(system: &System) -> Vec<String> {
    let mut answers = Vec::new();
    for port in &system.health {
        for path in ["/metrics", "/readyz", "/healthz"] {
            let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.unwrap();
            answers.push(answer.text().await.unwrap());
        }
    }
    answers
}

#[tokio::test]
async fn no_secret_is_in_anything_that_the_system_says_or_stores() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut planted = Planted::new();
    let dir = directory("secrets");
    let password = planted.get("password of the broker").to_owned();
    let users = format!("authorization {{ users: [{{ user: all, password: \"{password}\" }}] }}");
    let broker = Broker::with_config(&users).await;
    let url = broker.url_for("all", &password);
    let system = System::start(&dir, &url, planted.get("token of the flags")).await;
    let client = reqwest::Client::new();
    let good = format!("Bearer {}", planted.get("token of the flags"));

    let made = cli(&url, &dir, &["token", "create", "--name", "ci", "--role", "operator"]);
    let token = made.split_whitespace().find(|it| it.starts_with("sht_")).unwrap().to_owned();
    let ci = format!("Bearer {token}");
    planted.0.push(("token that was made", token));
    let whoami = format!("{}/api/v1/whoami", system.url);
    eventually("the token is known", || async {
        let told = ask(&client, &whoami, &ci, None).await;
        if told.starts_with("200") { Ok(()) } else { Err(told) }
    })
    .await;

    let mut answers = by_http(&system, &client, &planted, &[good, ci]).await;
    answers.extend(by_command(&broker, &url, &dir, &planted));
    answers.extend(by_health(&system).await);
    let known = checked(&system, &dir, planted.get("token that was made"));
    let wrong = checked(&system, &dir, planted.get("wrong token of our form"));
    assert!(known.contains("token:ci: operator") && wrong.contains("not known"), "{known}{wrong}");
    answers.extend([known, wrong]);
    for (idx, answer) in answers.iter().enumerate() {
        planted.search(&format!("answer {idx}"), answer);
    }
    let stored = stored(&broker, &password).await;
    assert!(
        stored.contains("service_down") && stored.contains("token:ci (ann)"),
        "is the test blind?"
    );
    planted.search("the broker's store", &stored);
    drop(system.agents);
    let mut n_bytes = 0;
    for (path, text) in files(&dir, &[dir.join("api-token")]) {
        n_bytes += text.len();
        planted.search(&path.display().to_string(), &text);
    }
    assert!(100_000 < n_bytes, "only {n_bytes} bytes were written: is the test blind?");
    let log = fs::read_to_string(dir.join("supervisor/data/incident_logs.jsonl")).unwrap();
    assert!(log.contains("token:ci (ann)"), "{log}");
    drop(fs::remove_dir_all(&dir));
}
