//! Bearer tokens of a real provider of OpenID Connect: `oidc-provider-mock`, which signs with
//! a new key each time it starts.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use bus::testing::Broker;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    fixture::{Desk, Gateway, eventually, heard},
    roles::guarded,
};

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

/// A provider that knows some people. Killed when dropped.
struct Provider {
    port: u16,
    child: Child,
    http: Client,
}

impl Provider {
    async fn start(port: u16) -> Self {
        let people = [
            json!({"sub": "ann", "groups": ["staff", "on-call"]}),
            json!({"sub": "bob", "groups": ["staff"]}),
            json!({"sub": "eve", "groups": ["guests"]}),
        ];
        let mut command = Command::new(program());
        command.args(["--port", &port.to_string()]);
        for person in people {
            command.args(["--user-claims", &person.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().unwrap();
        let redirect = reqwest::redirect::Policy::none();
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().redirect(redirect).build().unwrap();
        let provider = Self { port, child, http };
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

    /// Ends it, and starts it at the same place, with another key.
    async fn restart(mut self) -> Self {
        self.child.kill().await.unwrap();
        Self::start(self.port).await
    }

    /// Logs somebody in, as a browser does, and returns the token that says so.
    async fn token(&self, person: &str, audience: &str) -> String {
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
    let provider = Provider::start(free_port()).await;
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    let ann = provider.token("ann", "selfheal").await;
    assert_eq!(code(&gateway, &ann).await.0, 503, "not known before there is a configuration");
    configure(&desk, &provider.url(""), "selfheal").await;
    gateway.line("tokens of this provider are taken").await;
    let (status, told) = whoami(&gateway, &ann).await;
    assert_eq!(
        (status, &told["name"], &told["role"]),
        (200, &json!("oidc:ann"), &json!("approver"))
    );
    let bob = provider.token("bob", "selfheal").await;
    assert_eq!(whoami(&gateway, &bob).await.1["role"], "viewer");
    let pause = heard(gateway.post("/api/v1/pause").bearer_auth(&bob)).await;
    assert_eq!((pause.0, &pause.1["error"]["code"]), (403, &json!("role_too_low")));
    let eve = provider.token("eve", "selfheal").await;
    assert_eq!(code(&gateway, &eve).await, (403, "no_role".to_owned()));
    let elsewhere = provider.token("ann", "shop").await;
    assert_eq!(code(&gateway, &elsewhere).await, (401, "token_audience".to_owned()));
    let (head, signature) = ann.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let forged = format!("{head}.{turned}");
    assert_ne!(code(&gateway, &forged).await.0, 200);

    // The provider is away: the keys that are known count.
    let provider = {
        let port = provider.port;
        drop(provider);
        assert_eq!(code(&gateway, &ann).await.0, 200);
        Provider::start(port).await
    };
    let renewed = provider.token("ann", "selfheal").await;
    eventually("a token of the new key is taken", async || {
        let told = code(&gateway, &renewed).await;
        if told.0 == 200 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(code(&gateway, &ann).await, (401, "token_signature".to_owned()), "the former key");
    let again = provider.restart().await;
    let newest = again.token("bob", "selfheal").await;
    eventually("and once more", async || {
        let told = code(&gateway, &newest).await;
        if told.0 == 200 { Ok(()) } else { Err(told) }
    })
    .await;

    // Without the section nobody of it comes in.
    desk.bus.config_store().put("{}".into(), 0).await.unwrap();
    eventually("the provider is none any more", async || {
        let told = code(&gateway, &newest).await;
        if told == (401, "token_wrong".to_owned()) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_an_honest_503_and_another_issuer_is_refused() {
    let provider = Provider::start(free_port()).await;
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    let ann = provider.token("ann", "selfheal").await;
    configure(&desk, &format!("http://127.0.0.1:{}", free_port()), "selfheal").await;
    gateway.line("tokens of this provider are taken").await;
    assert_eq!(code(&gateway, &ann).await, (503, "provider_away".to_owned()));
    gateway.line("cannot get the provider's keys").await;
    // It answers at this name too, and calls itself otherwise.
    configure(&desk, &provider.url("").replace("127.0.0.1", "localhost"), "selfheal").await;
    eventually("the other issuer is followed", async || {
        let told = code(&gateway, &ann).await;
        if told == (401, "token_issuer".to_owned()) { Ok(()) } else { Err(told) }
    })
    .await;
}
