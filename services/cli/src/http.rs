//! The smallest HTTP client that can ask "are you well?": no TLS, no redirects, no body.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    exit::{Exit, Failure},
    terminal::Terminal,
};

/// Longest answer that is read whole.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// Longest answer that is read: a status line and what comes with it in the first packet.
const ANSWER_BYTES_MAX: usize = 1024;

/// Asks a URL for a container engine that wants to know whether we are well.
///
/// # Errors
///
/// When the answer is not 2xx, or there is none.
pub(crate) async fn health(
    url: &str,
    timeout: Duration,
    terminal: Terminal,
) -> Result<(), Failure> {
    let status = match get(url, timeout).await {
        Ok(status) => status,
        Err(error @ Error::NotAUrl(_)) => {
            return Err(Failure::new(Exit::Usage, error.to_string()));
        }
        Err(error) => {
            return Err(Failure::new(Exit::Failed, format!("{url} is not healthy")).because(error));
        }
    };
    if !(200..300).contains(&status) {
        return Err(Failure::new(Exit::Failed, format!("{url} answers {status}")));
    }
    if terminal.is_json() {
        return terminal.print_json(&serde_json::json!({"url": url, "status": status}), false);
    }
    terminal.print(&format!("{url} answers {status}"))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The text is no URL that we can ask.
    #[error("`{0}` is not a URL of the form http://host[:port][/path]")]
    NotAUrl(String),
    /// Nobody is there, or the connection broke.
    #[error("cannot ask {authority}")]
    Io {
        /// Host and port.
        authority: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The time ran out.
    #[error("{authority} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Host and port.
        authority: String,
        /// The time.
        after: Duration,
    },
    /// What should be sent as a token is none.
    #[error("a token has no spaces and no special characters")]
    NotAToken,
    /// What came back is not HTTP.
    #[error("{0} does not speak HTTP")]
    NotHttp(String),
}

/// Asks with GET and returns the status code.
///
/// # Errors
///
/// See [`Error`]. An answer of any status is none.
pub(crate) async fn get(url: &str, timeout: Duration) -> Result<u16, Error> {
    let (authority, path) = split(url).ok_or_else(|| Error::NotAUrl(url.to_owned()))?;
    match tokio::time::timeout(timeout, ask(&authority, path)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Error::TimedOut { authority, after: timeout }),
    }
}

/// What is wanted of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// To see it.
    Get,
    /// To do it; nothing is sent along.
    Post,
}

/// Asks as the holder of a token, if there is one, and returns the status code and the body.
///
/// # Errors
///
/// See [`Error`].
pub(crate) async fn call(
    method: Method,
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(u16, String), Error> {
    let (authority, path) = split(url).ok_or_else(|| Error::NotAUrl(url.to_owned()))?;
    if !token.unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::NotAToken);
    }
    let (method, length) = match method {
        Method::Get => ("GET", ""),
        Method::Post => ("POST", "Content-Length: 0\r\n"),
    };
    let token = token.map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: selfheal\r\n{token}{length}Connection: close\r\n\r\n"
    );
    match tokio::time::timeout(timeout, ask_whole(&authority, &request)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Error::TimedOut { authority, after: timeout }),
    }
}

async fn ask_whole(authority: &str, request: &str) -> Result<(u16, String), Error> {
    let io = |source| Error::Io { authority: authority.to_owned(), source };
    let mut stream = TcpStream::connect(authority).await.map_err(io)?;
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    let mut stream = stream.take(WHOLE_BYTES_MAX);
    stream.read_to_end(&mut answer).await.map_err(io)?;
    let status = status(&answer).ok_or_else(|| Error::NotHttp(authority.to_owned()))?;
    let text = String::from_utf8_lossy(&answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Returns whether a URL leads to this host.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Some((authority, _)) = split(url) else { return false };
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

async fn ask(authority: &str, path: &str) -> Result<u16, Error> {
    let io = |source| Error::Io { authority: authority.to_owned(), source };
    let mut stream = TcpStream::connect(authority).await.map_err(io)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: selfheal\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await.map_err(io)? == 0 {
            break;
        }
    }
    status(&answer).ok_or_else(|| Error::NotHttp(authority.to_owned()))
}

/// Returns host with port, and the path with query.
pub(crate) fn split(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let legal = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || authority.contains('@') || !legal(authority) || !legal(path) {
        return None;
    }
    let host_end = authority.rfind(']').map_or(0, |end| end + 1);
    let has_port = authority.get(host_end..)?.contains(':');
    Some((if has_port { authority.to_owned() } else { format!("{authority}:80") }, path))
}

/// Reads the number in `HTTP/1.1 200 OK`.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_url_is_split_into_whom_to_ask_and_what_for() {
        let table = [
            ("http://a", Some(("a:80", "/"))),
            ("http://a:8080/readyz?x=1", Some(("a:8080", "/readyz?x=1"))),
            ("http://[::1]:9/x", Some(("[::1]:9", "/x"))),
            ("http://[::1]/x", Some(("[::1]:80", "/x"))),
            ("https://a", None),
            ("http://", None),
            ("http://a b", None),
            ("http://user@a/", None),
            ("a:80", None),
        ];
        for (url, expected) in table {
            let got = split(url);
            let got = got.as_ref().map(|(authority, path)| (authority.as_str(), *path));
            assert_eq!(got, expected, "{url}");
        }
    }

    async fn answer_with(text: &'static str) -> Result<u16, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _n = stream.read(&mut request).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(get(&url, Duration::from_secs(5)), serve);
        answer
    }

    #[tokio::test]
    async fn the_status_of_the_answer_is_returned() {
        assert_eq!(answer_with("HTTP/1.1 204 No Content\r\n\r\n").await.unwrap(), 204);
        assert_eq!(answer_with("HTTP/1.0 503 Busy\r\n\r\n").await.unwrap(), 503);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_an_error() {
        assert!(matches!(answer_with("+OK\r\n").await, Err(Error::NotHttp(_))));
        assert!(matches!(answer_with("").await, Err(Error::NotHttp(_))));
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = get(&url, Duration::from_millis(20)).await;
        assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    }
}
