//! What those can do whom nobody knows: not keep out those who are known, and not stay for ever.

use bus::testing::Broker;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    fixture::{Desk, Gateway, PATIENCE, command, eventually, heard},
    roles::{ADMIN, guarded},
};

/// Opens a connection and sends this.
async fn sent(gateway: &Gateway, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads until the other side ends it.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    // A connection that is cut ends as well as one that is closed.
    let _how = ended.expect("the connection ends");
    String::from_utf8_lossy(&read).into_owned()
}

/// Reads one answer of a kept connection: its status, and that its body has come.
async fn answered(stream: &mut TcpStream) -> String {
    let mut read = String::new();
    let whole = async {
        loop {
            let mut part = [0; 4096];
            let n_bytes = stream.read(&mut part).await.unwrap();
            assert!(0 < n_bytes, "it was closed after: {read}");
            read.push_str(&String::from_utf8_lossy(&part[..n_bytes]));
            if read.ends_with('}') {
                break;
            }
        }
    };
    timeout(PATIENCE, whole).await.expect("an answer comes");
    read.lines().next().unwrap().to_owned()
}

/// Gives the gateway a configuration and waits until its doors are open.
async fn configure(desk: &Desk, gateway: &mut Gateway, config: &Value) {
    desk.bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    gateway.line("the integrations are as configured").await;
}

/// Returns the value of the sample of a metric that begins so.
async fn metric(gateway: &Gateway, sample: &str) -> f64 {
    let (_, text) = heard(gateway.get("/metrics")).await;
    let text = text.as_str().unwrap().to_owned();
    let line = text.lines().find_map(|it| it.strip_prefix(sample));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Doors whose callers only the body can prove.
fn signed_doors() -> Value {
    let secret = json!({"env": "HOOK_SECRET"});
    json!({"integrations": [
        {"name": "grafana", "secret": {"hmac": {"secret": secret}}},
        {"name": "pagerduty", "secret": {"routing_keys": [secret]}},
    ]})
}

async fn guarded_with_doors(broker: &Broker) -> (Gateway, Desk) {
    let desk =
        Desk::open(broker, |_| crate::fixture::answer(domain::wire::AnswerStatus::Done)).await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", ADMIN).env("HOOK_SECRET", "s3cret-of-the-hook");
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    configure(&desk, &mut gateway, &signed_doors()).await;
    (gateway, desk)
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_nobody_out_and_are_ended() {
    let broker = Broker::start().await;
    let (gateway, _desk) = guarded_with_doors(&broker).await;
    let mut slow = Vec::new();
    for n in 0..300 {
        let path =
            ["/integrations/grafana", "/v2/enqueue", "/integrations/slack/actions", "/approve/x"]
                [n % 4];
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 8388608\r\n\r\n{{");
        slow.push(sent(&gateway, &head).await);
    }
    for _ in 0..20 {
        let event = gateway.post("/publish_event").bearer_auth(ADMIN).json(&json!({"type": "a"}));
        let (status, told) = heard(event).await;
        assert_eq!(status, 200, "{told}");
        let (status, told) = heard(gateway.post("/api/v1/pause").bearer_auth(ADMIN)).await;
        assert_eq!(status, 200, "{told}");
    }
    assert_eq!(heard(gateway.get("/healthz")).await.0, 200);
    let mut n_too_slow = 0;
    for stream in &mut slow {
        let told = rest(stream).await;
        let is_too_slow = told.starts_with("HTTP/1.1 408") && told.contains("body_too_slow");
        // Above their number they are refused, and at some paths before the body.
        let is_refused =
            ["503", "401"].iter().any(|it| told.starts_with(&format!("HTTP/1.1 {it}")));
        assert!(is_too_slow || is_refused, "{told}");
        n_too_slow += u32::from(is_too_slow);
    }
    assert!(100 <= n_too_slow, "only {n_too_slow} were ended for being slow: is the test blind?");
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_may_be_known() {
    let broker = Broker::start().await;
    let (gateway, desk) = guarded_with_doors(&broker).await;
    // None of them sends the body that it announces.
    for (head, status) in [
        ("POST /publish_event HTTP/1.1\r\ncontent-type: application/json", 401),
        ("POST /publish_event HTTP/1.1\r\nauthorization: Bearer wrong", 401),
        ("POST /api/v1/config HTTP/1.1", 401),
        ("POST /api/v1/pause HTTP/1.1\r\nauthorization: Bearer wrong", 401),
        ("POST /integrations/alertmanager HTTP/1.1", 401),
        ("POST /integrations/nobody HTTP/1.1\r\nauthorization: Bearer wrong", 401),
        ("POST /nothing HTTP/1.1", 401),
    ] {
        let text = format!("{head}\r\nhost: a\r\ncontent-length: 8388608\r\n\r\n");
        let told = rest(&mut sent(&gateway, &text).await).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {told}");
    }
    // What only a link would prove is small; what a signature may prove is not.
    let long = "x".repeat(100_000);
    assert_eq!(heard(gateway.post("/approve/x").body(long.clone())).await.0, 413);
    let (status, told) = heard(gateway.post("/integrations/grafana").body(long)).await;
    assert_eq!((status, &told["error"]["code"]), (401, &json!("secret_wrong")));
    assert_eq!(desk.seen.borrow().len(), 0);
}

#[tokio::test]
async fn a_signature_over_an_empty_body_opens_the_door_to_no_other() {
    let broker = Broker::start().await;
    let (gateway, desk) = guarded_with_doors(&broker).await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret-of-the-hook");
    let of_nothing = ring::hmac::sign(&key, b"");
    let of_nothing: String = of_nothing.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    for path in ["/integrations/grafana", "/integrations/gr%61fana"] {
        let forged = gateway.post(path).json(&json!({"alerts": []}));
        let forged = forged.header("x-grafana-alerting-signature", &of_nothing);
        assert_eq!(heard(forged).await.0, 401, "{path}");
    }
    assert_eq!(desk.seen.borrow().len(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended() {
    let broker = Broker::start().await;
    let _desk =
        Desk::open(&broker, |_| crate::fixture::answer(domain::wire::AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &["--write-timeout", "1s"]).await;
    let request = format!("GET /openapi.json HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address());
    let mut stream = sent(&gateway, &request.repeat(100)).await;
    let sample = "selfheal_gateway_connections_closed_total{reason=\"not_reading\"} ";
    eventually("it is ended", async || {
        let n = metric(&gateway, sample).await;
        if 1.0 <= n { Ok(()) } else { Err(n) }
    })
    .await;
    let (_, document) = heard(gateway.get("/openapi.json")).await;
    let whole = document.to_string().len();
    let told = rest(&mut stream).await;
    assert!(told.len() < 100 * whole, "all {} bytes were written", told.len());
}

#[tokio::test]
async fn a_full_house_of_strangers_keeps_neither_health_nor_known_callers_out() {
    let broker = Broker::start().await;
    let desk =
        Desk::open(&broker, |_| crate::fixture::answer(domain::wire::AnswerStatus::Done)).await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", ADMIN).args(["--connections", "32"]);
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    let ask =
        format!("GET /api/v1/whoami HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    let mut known = sent(&gateway, &ask).await;
    assert_eq!(answered(&mut known).await, "HTTP/1.1 200 OK");
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(sent(&gateway, "GET /healthz HTTP/1.1\r\nhost:").await);
    }
    // Connections of their own each time.
    for _ in 0..10 {
        let health =
            sent(&gateway, "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let told = rest(&mut health.await).await;
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        strangers.push(sent(&gateway, "G").await);
    }
    known.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(answered(&mut known).await, "HTTP/1.1 200 OK", "a known caller's connection stays");
    let event = gateway.post("/publish_event").bearer_auth(ADMIN).json(&json!({"type": "a"}));
    assert_eq!(heard(event).await.0, 200);
    let sample = "selfheal_gateway_connections_closed_total{reason=\"full\"} ";
    assert!(150.0 <= metric(&gateway, sample).await);
    assert!(rest(&mut strangers[0]).await.is_empty(), "the first went first");
    drop(desk);
}

#[tokio::test]
async fn a_door_has_a_rate_and_above_it_nobody_hears_401() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", ADMIN).env("HOOK_SECRET", "s3cret-of-the-hook");
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    let secret = json!({"env": "HOOK_SECRET"});
    let config = json!({"access": {"rate": {"events": "2/h"}}, "integrations": [
        {"name": "alertmanager", "secret": {"bearer": secret}},
        {"name": "grafana", "secret": {"hmac": {"secret": secret}}},
    ]});
    configure(&desk, &mut gateway, &config).await;
    let body = json!({"alerts": []}).to_string();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret-of-the-hook");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let by_secret = || gateway.post("/integrations/alertmanager").bearer_auth("s3cret-of-the-hook");
    let by_signature =
        || gateway.post("/integrations/grafana").header("x-grafana-alerting-signature", &tag);
    let by_token = || gateway.post("/integrations/grafana").bearer_auth(ADMIN);
    eventually("the rate counts", async || {
        let told = heard(by_secret().body(body.clone())).await;
        if told.0 == 503 && told.1["error"]["code"] == "rate_limited" { Ok(()) } else { Err(told) }
    })
    .await;
    for request in [&by_signature as &dyn Fn() -> reqwest::RequestBuilder, &by_token] {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let answer = request().body(body.clone()).send().await.unwrap();
            let is_later = answer.headers().contains_key("retry-after");
            statuses.push((answer.status().as_u16(), is_later));
        }
        assert_eq!(statuses, [(202, false), (202, false), (503, true), (503, true)]);
    }
    let wrong = gateway.post("/integrations/alertmanager").bearer_auth("wrong").body(body.clone());
    assert_eq!(heard(wrong).await.0, 401, "who is nobody has no rate");
}

#[tokio::test]
async fn an_approval_link_stands_in_no_log_line() {
    const PLANTED: &str = "c2VsZmhlYWwtYXBwcm92ZS0x.cGxhbnRlZC1saW5r";
    let broker = Broker::start().await;
    let (mut gateway, _desk) = {
        let desk = Desk::open(&broker, |_| None).await;
        let mut with_token = command(&broker.url());
        with_token.env("SELFHEAL_API_TOKEN", ADMIN).args(["--log", "debug"]);
        let mut gateway = Gateway::spawn(with_token).await;
        gateway.line("ready").await;
        (gateway, desk)
    };
    for path in ["/approve/", "/APPROVE/", "/selfheal/approve/", "/approve/x/", "/integrations/"] {
        let path = format!("{path}{PLANTED}");
        for request in [gateway.get(&path), gateway.post(&path), gateway.delete(&path)] {
            assert!(400 <= heard(request.body("decision=")).await.0, "{path}");
        }
    }
    let line = gateway.line_with("a change was asked for", "route", "/approve/{token}").await;
    assert_eq!(line["by"], "unknown");
    gateway.line("answered").await;
    let log = gateway.log_text();
    let line = log.lines().find(|it| it.contains(PLANTED));
    assert!(line.is_none(), "{line:?}");
}

#[tokio::test]
async fn a_silence_in_a_year_that_nobody_means_is_a_400() {
    let broker = Broker::start().await;
    let (gateway, _desk) = guarded(&broker).await;
    for times in [
        json!({"from": "+262142-12-31T00:00:00Z", "for": "365000d"}),
        json!({"for": "18446744073709551615ms"}),
        json!({"until": "+262142-12-31T00:00:00Z"}),
    ] {
        let mut body = times.clone();
        body["matchers"] = json!(["target=database"]);
        let request = gateway.post("/api/v1/silences").bearer_auth(ADMIN).json(&body);
        let (status, told) = heard(request).await;
        assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_body")), "{times}");
    }
    assert!(!gateway.log_text().contains("panicked"));
}
