//! TLS: who is trusted by whom, and certificates that are renewed.

use std::{fs, path::Path};

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};
use serde_json::json;

use crate::fixture::{Desk, Gateway, PATIENCE, answer, command, eventually, heard};

/// An authority of our own, and what it signs.
struct Authority {
    pem: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { pem: issuer.pem(), issuer }
    }

    /// Returns a certificate and its key.
    fn signed(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        [cert.pem(), key.serialize_pem()]
    }

    fn client(&self, identity: Option<&[String; 2]>) -> Client {
        let trusted = Certificate::from_pem(self.pem.as_bytes()).unwrap();
        let builder = Client::builder().timeout(PATIENCE).tls_certs_only([trusted]);
        let builder = match identity {
            Some([cert, key]) => {
                builder.identity(Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.build().unwrap()
    }
}

fn write(dir: &Path, [cert, key]: &[String; 2]) {
    fs::write(dir.join("tls.key"), key).unwrap();
    fs::write(dir.join("tls.crt"), cert).unwrap();
}

async fn start(broker: &Broker, dir: &Path, more: &[&str]) -> Gateway {
    let mut with_tls = command(&broker.url());
    with_tls.current_dir(dir).args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"]).args(more);
    let mut gateway = Gateway::spawn(with_tls).await;
    gateway.line("ready").await;
    assert_eq!(gateway.line("listening").await["tls"], true);
    gateway.url = gateway.url.replace("http://", "https://");
    gateway
}

#[tokio::test]
async fn a_gateway_with_tls_speaks_nothing_else_and_shows_new_certificates_without_a_restart() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::IncidentOpened)).await;
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    write(dir.path(), &first.signed("first"));
    let mut gateway = start(&broker, dir.path(), &[]).await;
    gateway.http = first.client(None);
    // Both ways through the gateway.
    for path in ["/publish_event", "/api/v1/events"] {
        assert_eq!(gateway.send(path, json!({"type": "a"})).await.0, 200, "{path}");
    }
    let same = gateway.url.clone();
    let request = gateway.get("/api/v1/status").header("origin", &same);
    assert_eq!(heard(request).await.0, 200, "a page of its own");
    let other = gateway.get("/api/v1/status").header("origin", same.replace("https", "http"));
    assert_eq!(heard(other).await.0, 403, "a page that anybody on the way may have written");
    assert!(second.client(None).get(&same).send().await.is_err(), "not signed by that one");
    assert!(gateway.http.get(same.replace("https", "http")).send().await.is_err(), "plain HTTP");

    // A half-written file changes nothing.
    fs::write(dir.path().join("tls.crt"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    gateway.line("the new certificates cannot be used, the former stay").await;
    assert!(first.client(None).get(&same).send().await.is_ok());
    write(dir.path(), &second.signed("second"));
    eventually("the new certificate is shown", async || {
        second.client(None).get(&same).send().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert!(first.client(None).get(&same).send().await.is_err());
    let kept = gateway.send("/publish_event", json!({"type": "a"})).await;
    assert_eq!(kept.0, 200, "a connection that stood goes on");
}

#[tokio::test]
async fn a_client_must_show_a_certificate_of_the_authority_and_its_token_all_the_same() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::IncidentOpened)).await;
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new(), Authority::new());
    write(dir.path(), &servers.signed("server"));
    fs::write(dir.path().join("clients.pem"), &clients.pem).unwrap();
    let more = ["--tls-client-ca", "clients.pem", "--require-token"];
    let mut gateway = start(&broker, dir.path(), &more).await;
    let url = gateway.url.clone();
    assert!(servers.client(None).get(&url).send().await.is_err(), "no certificate");
    let strangers = servers.signed("client");
    assert!(servers.client(Some(&strangers)).get(&url).send().await.is_err(), "of another");
    gateway.http = servers.client(Some(&clients.signed("client")));
    assert_eq!(heard(gateway.get("/healthz")).await.0, 200);
    assert_eq!(heard(gateway.get("/api/v1/status")).await.0, 401, "who is it?");
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_with_78_and_say_which() {
    let broker = Broker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Authority::new(), Authority::new());
    write(dir.path(), &one.signed("one"));
    fs::write(dir.path().join("other.key"), &other.signed("other")[1]).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    for (arguments, part) in [
        (vec!["--tls-cert", "tls.crt"], "--tls-key"),
        (vec!["--tls-client-ca", "tls.crt"], "--tls-cert"),
        (vec!["--tls-cert", "absent", "--tls-key", "tls.key"], "absent"),
        (vec!["--tls-cert", "tls.crt", "--tls-key", "empty"], "empty"),
        (vec!["--tls-cert", "tls.crt", "--tls-key", "other.key"], "tls.crt"),
        (
            vec!["--tls-cert", "tls.crt", "--tls-key", "tls.key", "--tls-client-ca", "empty"],
            "empty",
        ),
    ] {
        let mut refused = command(&broker.url());
        let output = refused.current_dir(dir.path()).args(&arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
