//! `http.request` against a real server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::kit::{Place, act, act_within, carry_out, order, step};
use domain::{action::Action, span::Span, wire::FixOutcome};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;

/// A server that gives one answer to everything, and notes what was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// An empty answer means none.
    async fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (notes, answer) = (Arc::clone(&asked), answer.to_owned());
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                notes.lock().unwrap().push(String::from_utf8(request).unwrap());
                if answer.is_empty() {
                    silent.push(stream);
                } else {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Self { port, asked, _task: AbortOnDropHandle::new(task) }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/cache", self.port)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length: ").nth(1).and_then(|it| it.split("\r\n").next());
    length.map_or(0, |it| it.parse().unwrap()) <= body.len()
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn request(method: &str, url: String) -> Action {
    Action::HttpRequest {
        method: method.to_owned(),
        url,
        headers: BTreeMap::from([("X-Reason".to_owned(), "healing".into())]),
        body: (method == "POST").then(|| "flush".into()),
        status: Vec::new(),
    }
}

#[tokio::test]
async fn the_request_arrives_as_it_was_planned() {
    let server = Server::answering(&answer("200 OK", "flushed")).await;
    let report = act(&Place::new().tools(), request("POST", server.url())).await.unwrap();
    assert!(report.summary.contains("200 OK"), "{}", report.summary);
    assert_eq!(report.output, "flushed");
    let asked = server.asked();
    assert!(asked[0].starts_with("POST /cache HTTP/1.1"), "{}", asked[0]);
    assert!(asked[0].contains("x-reason: healing") && asked[0].ends_with("flush"), "{}", asked[0]);
}

#[tokio::test]
async fn an_unwanted_status_fails_the_step_with_the_answer() {
    let server = Server::answering(&answer("500 Internal Server Error", "broken cache")).await;
    let tools = Place::new().tools();
    let told = act(&tools, request("POST", server.url())).await.unwrap_err();
    assert!(told.contains("answered 500") && told.contains("broken cache"), "{told}");
    let Action::HttpRequest { method, url, headers, body, .. } = request("POST", server.url())
    else {
        panic!("it is a request");
    };
    let wanted = Action::HttpRequest { method, url, headers, body, status: vec![500] };
    act(&tools, wanted).await.unwrap();
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let other = Server::answering(&answer("200 OK", "secret")).await;
    let away = format!(
        "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        other.url()
    );
    let server = Server::answering(&away).await;
    let told = act(&Place::new().tools(), request("GET", server.url())).await.unwrap_err();
    assert!(told.contains("302"), "{told}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = Server::answering("").await;
    let action = request("GET", server.url());
    let told = act_within(&Place::new().tools(), action, Span::from_millis(300)).await.unwrap_err();
    assert!(told.contains("did not end within 0.3 s"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let told = act(&Place::new().tools(), request("GET", url)).await.unwrap_err();
    assert!(told.contains("onnection refused"), "{told}");
}

#[tokio::test]
async fn addresses_where_clouds_keep_credentials_are_not_asked_also_with_all_allowed() {
    let tools = Place::new().tools();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://2852039166/",
    ] {
        let ask = Action::HttpRequest {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: BTreeMap::new(),
            body: None,
            status: Vec::new(),
        };
        let order = order(vec![step("ask", ask)]);
        assert!(tools.permits(&order).is_err(), "{url}");
        let ended = carry_out(&tools, &order).await;
        let FixOutcome::Refused { reason, .. } = ended.outcome else { panic!("{url}: {ended:?}") };
        assert!(reason.contains("--outgoing-allow"), "{url}: {reason}");
    }
}
