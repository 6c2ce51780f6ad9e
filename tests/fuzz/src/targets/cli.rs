//! What the command line reads.

use super::{Form, Target, Verdict};

pub(super) const URL: Target = Target {
    name: "cli_http",
    about: "a URL to ask, and the first line of an answer",
    form: Form::Text,
    seeds: || {
        [
            "http://a",
            "http://[::1]:9/x",
            "http://a:8080/readyz?x=1",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 503\r\n",
        ]
        .map(|it| it.as_bytes().to_vec())
        .into()
    },
    run: |input| {
        let status = cli::edges::http_status(input);
        let Ok(text) = std::str::from_utf8(input) else {
            return Verdict::Refused("no text".to_owned());
        };
        match cli::edges::http_url(text) {
            Some((authority, path)) => {
                let legal = |it: &str| it.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(legal(&authority) && legal(&path), "they stand in a request: {text:?}");
                assert!(path.starts_with('/') && authority.contains(':'), "{authority} {path}");
                Verdict::Taken
            }
            None if status.is_some() => Verdict::Taken,
            None => Verdict::Refused("no URL".to_owned()),
        }
    },
};

pub(super) const WORDS: Target = Target {
    name: "cli_words",
    about: "a whole command line, one word on each line",
    form: Form::Text,
    seeds: || {
        [
            "publish\nservice_down\n--target\ndb\n--payload\n{\"a\": 1}\n--severity\nerror",
            "incidents\nls\n--since\n2h\n--status\nopen,fixing\n--limit\n5",
            "doctor\n--role\nfixer\n--gateway\nhttp://a\n--timeout\n5s",
            "up\n--nats-port\n0\n--nats-sync\n1s\n--listen\n127.0.0.1:0",
            "approve\nx\n--plan\nabc\n--by\nme",
        ]
        .map(|it| it.as_bytes().to_vec())
        .into()
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Verdict::Refused("no text".to_owned());
        };
        match cli::edges::command_line(text.split('\n')) {
            Ok(()) => Verdict::Taken,
            Err(words) => Verdict::Refused(words.chars().take(2_000).collect()),
        }
    },
};
