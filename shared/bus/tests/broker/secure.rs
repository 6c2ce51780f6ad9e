//! Brokers that want TLS, certificates, keys, or credentials as `nsc` writes them.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::{BrokerOptions, Bus, Error, connect, testing::Broker};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
use serde_json::{Value, json};

/// How long to wait for a connection that must not come.
const NEVER: Duration = Duration::from_secs(2);

/// Files of a test: certificates, keys, contexts. Removed at its end.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("selfheal-secure-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        private::write(&path, text.as_bytes()).unwrap();
        path.display().to_string()
    }

    /// Writes a context of the `nats` command, and returns the options that name it.
    fn context(&self, context: &Value) -> BrokerOptions {
        let path = self.write("context.json", &context.to_string());
        BrokerOptions { context: Some(path), ..BrokerOptions::default() }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left behind in a temporary directory does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// An authority of our own with certificates for the server and a client.
struct Authority {
    ca: String,
    server: [String; 2],
    client: [String; 2],
}

impl Authority {
    fn new(files: &Files) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let signed = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let cert = params.signed_by(&key, &issuer).unwrap();
            [
                files.write(&format!("{name}.pem"), &cert.pem()),
                files.write(&format!("{name}.key"), &key.serialize_pem()),
            ]
        };
        Self {
            ca: files.write("ca.pem", &issuer.pem()),
            server: signed("server"),
            client: signed("client"),
        }
    }

    fn config(&self, more: &str) -> String {
        let [cert, key] = &self.server;
        let ca = &self.ca;
        format!(
            "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", timeout: 5, {more} }}"
        )
    }
}

/// Everything over this connection: streams, a frame, a reader, a lease.
async fn works(bus: &Bus) {
    bus.ensure_topology().await.unwrap();
    let kind = domain::wire::InputKind::Timer;
    bus.inbox_writer().submit(kind, crate::input("secure")).await.unwrap();
    let mut inbox = bus.read_inbox(0).await.unwrap();
    let read = inbox.next_batch(1, Duration::from_secs(10)).await.unwrap();
    assert_eq!(crate::ids(&read[0]), ["secure"]);
    bus.lead("node").await.unwrap().release().await;
}

#[tokio::test]
async fn a_broker_with_tls_is_trusted_by_its_authority_alone() {
    let files = Files::new();
    let authority = Authority::new(&files);
    let mut broker = Broker::with_config(&authority.config("")).await;
    let with = files.context(&json!({"url": broker.url(), "ca": authority.ca}));
    let bus = connect(&with).await.unwrap();
    works(&bus).await;
    broker.restart().await;
    crate::connected(&bus).await;
    assert_ne!(bus.ledger().state().await.unwrap().first_seq, u64::MAX);

    // Another authority of the same name has not signed it.
    let others = Files::new();
    let ca = Authority::new(&others).ca;
    let with = others.context(&json!({"url": broker.url(), "ca": ca}));
    assert!(tokio::time::timeout(NEVER, connect(&with)).await.is_err(), "it is not trusted");
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_of_the_client_gets_it_before_a_word_is_said() {
    let files = Files::new();
    let authority = Authority::new(&files);
    let broker =
        Broker::with_config(&authority.config("verify: true, handshake_first: auto")).await;
    let [cert, key] = &authority.client;
    let whole = json!({"url": broker.url(), "ca": authority.ca, "cert": cert, "key": key, "tls_first": true});
    works(&connect(&files.context(&whole)).await.unwrap()).await;
    let without = files.context(&json!({"url": broker.url(), "ca": authority.ca}));
    assert!(
        tokio::time::timeout(NEVER, connect(&without)).await.is_err(),
        "it shows no certificate"
    );
}

#[tokio::test]
async fn a_key_of_a_user_is_taken_from_its_file() {
    let files = Files::new();
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key());
    let broker = Broker::with_config(&config).await;
    let with = |key: &KeyPair| {
        let seed = files.write("user.nk", &format!("{}\n", key.seed().unwrap()));
        files.context(&json!({"url": broker.url(), "nkey": seed}))
    };
    works(&connect(&with(&user)).await.unwrap()).await;
    let refused = connect(&with(&other)).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials { .. }), "{refused:?}");
}

#[tokio::test]
async fn what_a_context_names_can_be_named_by_options_too() {
    let files = Files::new();
    let authority = Authority::new(&files);
    let user = KeyPair::new_user();
    let users = format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key());
    let config = format!("{}\n{users}", authority.config("verify: true"));
    let broker = Broker::with_config(&config).await;
    let [cert, key] = authority.client.clone().map(PathBuf::from);
    let whole = BrokerOptions {
        url: broker.url().replace("nats://", "tls://"),
        ca: Some(authority.ca.clone().into()),
        cert: Some(cert),
        key: Some(key),
        nkey: Some(files.write("user.nk", &user.seed().unwrap()).into()),
        ..BrokerOptions::default()
    };
    works(&connect(&whole).await.unwrap()).await;
    for (without, option) in [
        (BrokerOptions { key: None, ..whole.clone() }, "cert"),
        (BrokerOptions { ca: Some("/nowhere.pem".into()), ..whole.clone() }, "ca"),
        (BrokerOptions { key: Some("/nowhere.key".into()), ..whole.clone() }, "key"),
        (BrokerOptions { nkey: Some("/nowhere.nk".into()), ..whole.clone() }, "nkey"),
    ] {
        let told = connect(&without).await.unwrap_err();
        assert!(matches!(told, Error::Option { option: it, .. } if it == option), "{told:?}");
    }
    let trusts_others = BrokerOptions { ca: None, ..whole };
    let never = tokio::time::timeout(NEVER, connect(&trusts_others)).await;
    assert!(never.is_err(), "our authority is none of this host's");
}

/// Signs claims as `nsc` does.
fn jwt(kind: &str, name: &str, subject: &KeyPair, issuer: &KeyPair, mut claims: Value) -> String {
    claims["type"] = json!(kind);
    claims["version"] = json!(2);
    let body = json!({
        "jti": uuid::Uuid::new_v4().simple().to_string(),
        "iat": chrono::Utc::now().timestamp(),
        "iss": issuer.public_key(),
        "name": name,
        "sub": subject.public_key(),
        "nats": claims,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&body));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn creds(jwt: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_file_of_credentials_opens_an_account_of_an_operator() {
    let files = Files::new();
    let (operator, account, user) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1});
    let operator_jwt = jwt("operator", "O", &operator, &operator, json!({}));
    let account_jwt = jwt("account", "A", &account, &operator, json!({"limits": limits}));
    let system_jwt = jwt("account", "SYS", &system, &operator, json!({}));
    let (a, sys) = (account.public_key(), system.public_key());
    let config = format!(
        "operator: {operator_jwt}\nsystem_account: {sys}\nresolver: MEMORY\n\
         resolver_preload: {{ {a}: {account_jwt}, {sys}: {system_jwt} }}"
    );
    let broker = Broker::with_config(&config).await;
    let of_user = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let with = |name: &str, jwt: &str| BrokerOptions {
        url: broker.url(),
        creds: Some(files.write(name, &creds(jwt, &user)).into()),
        ..BrokerOptions::default()
    };
    let good = with("good.creds", &jwt("user", "u", &user, &account, of_user.clone()));
    works(&connect(&good).await.unwrap()).await;

    // Signed by an account that the operator does not know.
    let stranger = KeyPair::new_account();
    let bad = with("bad.creds", &jwt("user", "u", &user, &stranger, of_user));
    let refused = connect(&bad).await.unwrap_err();
    assert!(matches!(refused, Error::Credentials { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("--nats-creds"));
    let absent = BrokerOptions { creds: Some("/nowhere.creds".into()), ..good };
    let told = connect(&absent).await.unwrap_err();
    assert!(matches!(told, Error::Option { option: "creds", .. }), "{told:?}");
}
