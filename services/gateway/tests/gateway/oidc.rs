//! Bearer tokens of a provider of OpenID Connect: access tokens of a small one that signs here, and
//! ID tokens of a real one (`oidc-provider-mock`), which must not count.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::testing::Broker;
use chrono::Utc;
use reqwest::Client;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    fixture::{Desk, Gateway, eventually, heard},
    roles::guarded,
};

/// A provider that gives out access tokens. It ends when dropped.
struct Provider {
    port: u16,
    state: Arc<Mutex<Keys>>,
    serving: JoinHandle<()>,
}

/// What it signs with now.
struct Keys {
    issuer: String,
    pair: Ed25519KeyPair,
    id: u32,
    is_away: bool,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn new_pair() -> Ed25519KeyPair {
    let text = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(text.as_ref()).unwrap()
}

type Told = Result<Json<Value>, StatusCode>;

async fn discovery(State(keys): State<Arc<Mutex<Keys>>>, headers: HeaderMap) -> Told {
    let keys = keys.lock().unwrap();
    // It is known by several names.
    let issuer = format!("http://{}", headers["host"].to_str().unwrap());
    let jwks = format!("{issuer}/jwks");
    if keys.is_away {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(Json(json!({"issuer": issuer, "jwks_uri": jwks})))
}

async fn jwks(State(keys): State<Arc<Mutex<Keys>>>) -> Told {
    let keys = keys.lock().unwrap();
    if keys.is_away {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let x = URL_SAFE_NO_PAD.encode(keys.pair.public_key().as_ref());
    let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": keys.id.to_string(), "x": x});
    Ok(Json(json!({"keys": [key]})))
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let issuer = format!("http://127.0.0.1:{port}");
        let state = Arc::new(Mutex::new(Keys { issuer, pair: new_pair(), id: 1, is_away: false }));
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, state, serving }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Signs with another key from now on.
    fn rotate(&self) {
        let mut keys = self.state.lock().unwrap();
        (keys.pair, keys.id) = (new_pair(), keys.id + 1);
    }

    fn set_away(&self, is_away: bool) {
        self.state.lock().unwrap().is_away = is_away;
    }

    /// Returns an access token of one of its people, with more claims.
    fn token_with(&self, person: &str, audience: &str, more: &Value) -> String {
        let keys = self.state.lock().unwrap();
        let groups = match person {
            "ann" => json!(["staff", "on-call"]),
            "bob" => json!(["staff"]),
            _ => json!(["guests"]),
        };
        let now = Utc::now().timestamp();
        let mut claims = json!({"iss": keys.issuer, "aud": audience, "sub": person,
            "groups": groups, "iat": now, "exp": now + 600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = json!({"alg": "EdDSA", "kid": keys.id.to_string(), "typ": "at+jwt"});
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let text = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(keys.pair.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn token(&self, person: &str, audience: &str) -> String {
        self.token_with(person, audience, &json!({}))
    }
}

/// Returns where the provider's program is.
fn program() -> PathBuf {
    const NAME: &str = "oidc-provider-mock";
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/oidc/bin").join(NAME);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(NAME));
    let found = std::iter::once(ours).chain(on_path).find(|it| it.is_file());
    found.unwrap_or_else(|| {
        panic!("there is no {NAME}; run .ci/partners.sh, or `pip install oidc-provider-mock`")
    })
}

/// A real provider, whose log-ins give ID tokens. Killed when dropped.
struct LogIn {
    port: u16,
    _child: Child,
    http: Client,
}

impl LogIn {
    async fn start(port: u16) -> Self {
        let ann = json!({"sub": "ann", "groups": ["staff", "on-call"]});
        let mut command = Command::new(program());
        command.args(["--port", &port.to_string()]);
        command.args(["--user-claims", &ann.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().unwrap();
        let redirect = reqwest::redirect::Policy::none();
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().redirect(redirect).build().unwrap();
        let provider = Self { port, _child: child, http };
        eventually("the provider answers", async || {
            let keys = provider.http.get(provider.url("/jwks")).send().await;
            keys.map(drop).map_err(|error| error.to_string())
        })
        .await;
        provider
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Logs somebody in, as a browser does, and returns the ID token that says so.
    async fn id_token(&self, person: &str, audience: &str) -> String {
        let query = format!(
            "/oauth2/authorize?response_type=code&client_id={audience}&redirect_uri=http%3A%2F%2Flocalhost%2Fback&scope=openid"
        );
        let form = |fields: &[(&str, &str)]| {
            fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join("&")
        };
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let asked = self.http.post(self.url(&query)).header(kind.0, kind.1);
        let asked = asked.body(form(&[("sub", person)])).send().await.unwrap();
        let back = asked.headers().get("location").expect("it sends us back").to_str().unwrap();
        let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        let fields = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("client_id", audience),
            ("client_secret", "any"),
            ("redirect_uri", "http%3A%2F%2Flocalhost%2Fback"),
        ]);
        let asked = self.http.post(self.url("/oauth2/token")).header(kind.0, kind.1).body(fields);
        let (_, told) = heard(asked).await;
        told["id_token"].as_str().unwrap_or_else(|| panic!("no token: {told}")).to_owned()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn configure(desk: &Desk, issuer: &str, audience: &str) {
    let config = json!({"access": {"oidc": {
        "issuer": issuer, "audience": audience, "role_claim": "groups", "name_claim": "sub",
        "roles": {"staff": "viewer", "on-call": "approver"},
    }}});
    desk.bus.config_store().put(config.to_string().into(), 0).await.unwrap();
}

async fn whoami(gateway: &Gateway, token: &str) -> (u16, Value) {
    heard(gateway.get("/api/v1/whoami").bearer_auth(token)).await
}

async fn code(gateway: &Gateway, token: &str) -> (u16, String) {
    let (status, told) = whoami(gateway, token).await;
    (status, told["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn people_of_a_provider_have_the_roles_of_their_groups_across_a_rotation_of_its_keys() {
    let provider = Provider::start().await;
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    let ann = provider.token("ann", "selfheal");
    assert_eq!(code(&gateway, &ann).await.0, 503, "not known before there is a configuration");
    configure(&desk, &provider.url(), "selfheal").await;
    gateway.line("tokens of this provider are taken").await;
    let (status, told) = whoami(&gateway, &ann).await;
    assert_eq!(
        (status, &told["name"], &told["role"]),
        (200, &json!("oidc:ann"), &json!("approver"))
    );
    let bob = provider.token("bob", "selfheal");
    assert_eq!(whoami(&gateway, &bob).await.1["role"], "viewer");
    let pause = heard(gateway.post("/api/v1/pause").bearer_auth(&bob)).await;
    assert_eq!((pause.0, &pause.1["error"]["code"]), (403, &json!("role_too_low")));
    let eve = provider.token("eve", "selfheal");
    assert_eq!(code(&gateway, &eve).await, (403, "no_role".to_owned()));
    let elsewhere = provider.token("ann", "shop");
    assert_eq!(code(&gateway, &elsewhere).await, (401, "token_audience".to_owned()));
    let (head, signature) = ann.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let forged = format!("{head}.{turned}");
    assert_ne!(code(&gateway, &forged).await.0, 200);

    // The provider is away: the keys that are known count.
    provider.set_away(true);
    assert_eq!(code(&gateway, &ann).await.0, 200);
    provider.set_away(false);
    provider.rotate();
    let renewed = provider.token("ann", "selfheal");
    eventually("a token of the new key is taken", async || {
        let told = code(&gateway, &renewed).await;
        if told.0 == 200 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(code(&gateway, &ann).await, (401, "token_signature".to_owned()), "the former key");

    // Without the section nobody of it comes in.
    desk.bus.config_store().put("{}".into(), 0).await.unwrap();
    eventually("the provider is none any more", async || {
        let told = code(&gateway, &renewed).await;
        if told == (401, "token_wrong".to_owned()) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn what_a_provider_signs_for_other_purposes_is_no_access_token() {
    let provider = Provider::start().await;
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    configure(&desk, &provider.url(), "selfheal").await;
    gateway.line("tokens of this provider are taken").await;
    let now = Utc::now().timestamp();
    let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
    for (more, told) in [
        (json!({}), (200, "")),
        (logout, (401, "token_use")),
        (json!({"typ": "ID"}), (401, "token_use")),
        (json!({"nonce": "n"}), (401, "token_use")),
        (json!({"at_hash": "h"}), (401, "token_use")),
        (json!({"exp": now + 10 * 365 * 86_400}), (401, "token_too_long")),
        (json!({"sub": "\u{200b}\u{202e}"}), (401, "token_nameless")),
    ] {
        let token = provider.token_with("ann", "selfheal", &more);
        assert_eq!(code(&gateway, &token).await, (told.0, told.1.to_owned()), "{more}");
    }
    let token = provider.token_with("ann", "selfheal", &json!({"sub": "\u{202e}na\u{200b}n"}));
    assert_eq!(whoami(&gateway, &token).await.1["name"], "oidc:nan");

    let real = LogIn::start(free_port()).await;
    configure(&desk, &real.url(""), "selfheal").await;
    let id_token = real.id_token("ann", "selfheal").await;
    eventually("the real provider is asked, and its ID token refused", async || {
        let told = code(&gateway, &id_token).await;
        if told == (401, "token_use".to_owned()) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_an_honest_503_and_another_issuer_is_refused() {
    let provider = Provider::start().await;
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    let ann = provider.token("ann", "selfheal");
    configure(&desk, &format!("http://127.0.0.1:{}", free_port()), "selfheal").await;
    gateway.line("tokens of this provider are taken").await;
    assert_eq!(code(&gateway, &ann).await, (503, "provider_away".to_owned()));
    gateway.line("cannot get the provider's keys").await;
    // It answers at this name too, and calls itself otherwise.
    configure(&desk, &provider.url().replace("127.0.0.1", "localhost"), "selfheal").await;
    eventually("the other issuer is followed", async || {
        let told = code(&gateway, &ann).await;
        if told == (401, "token_issuer".to_owned()) { Ok(()) } else { Err(told) }
    })
    .await;
}
