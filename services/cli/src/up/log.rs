//! One readable log out of what all children say.
//!
//! A thread of its own writes it: a terminal that is paused, or a reader that is slow, must never hold up
//! the restart of a child, nor block a child that wants to say something.

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::terminal::plain;

/// Lines that wait for a slow terminal. What comes on top is counted and left out.
const LINES_WAITING_MAX: usize = 4096;

/// How long the last lines may take to be written when we end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Our own name in the log.
const UP: &str = "up";

/// Width of the names, so that the messages line up.
const NAME_WIDTH: usize = 10;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// A person, now.
    Error,
    /// We recover by ourselves.
    Warn,
    /// A change.
    Info,
    /// The rest.
    Debug,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "error" | "ERR" | "FTL" => Self::Error,
            "warn" | "WRN" => Self::Warn,
            "info" | "INF" => Self::Info,
            _ => Self::Debug,
        }
    }

    const fn escape(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warn => "\x1b[33m",
            Self::Info => "\x1b[32m",
            Self::Debug => "\x1b[34m",
        }
    }
}

/// How the log looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// One JSON object a line.
    pub(crate) json: bool,
    /// With escape sequences.
    pub(crate) color: bool,
    /// With the broker's remarks.
    pub(crate) verbose: bool,
}

/// Takes lines from everybody. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: SyncSender<String>,
    n_left_out: Arc<AtomicU64>,
    style: Style,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    ended: Receiver<()>,
}

impl Log {
    /// Starts the writer.
    ///
    /// # Errors
    ///
    /// When the system gives us no thread.
    pub(crate) fn start(style: Style) -> std::io::Result<(Self, Writer)> {
        let (lines, waiting) = mpsc::sync_channel(LINES_WAITING_MAX);
        let (end, ended) = mpsc::sync_channel(1);
        let n_left_out = Arc::new(AtomicU64::new(0));
        let log = Self { lines, n_left_out: Arc::clone(&n_left_out), style };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_lines(&waiting, &n_left_out, style);
            drop(end);
        })?;
        Ok((log, Writer { ended }))
    }

    /// Says something ourselves.
    pub(crate) fn say(&self, level: Level, message: &str) {
        self.put(own_line(level, message, Utc::now(), self.style));
    }

    /// Passes on what a child said.
    pub(crate) fn pass(&self, name: &str, line: &str) {
        if let Some(line) = child_line(name, line, Utc::now(), self.style) {
            self.put(line);
        }
    }

    fn put(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.n_left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Waits until all lines are written, but not for ever. All [`Log`]s must have been dropped.
    pub(crate) fn finish(self) {
        // Both outcomes mean that we may go: the thread has ended, or it hangs at the terminal.
        let _ended = self.ended.recv_timeout(LAST_LINES);
    }
}

fn write_lines(waiting: &Receiver<String>, n_left_out: &AtomicU64, style: Style) {
    while let Ok(line) = waiting.recv() {
        let mut text = line;
        let n = n_left_out.swap(0, Ordering::Relaxed);
        if 0 < n {
            let remark = format!("{n} lines left out: the reader of this log is too slow");
            text.push('\n');
            text.push_str(&own_line(Level::Warn, &remark, Utc::now(), style));
        }
        text.push('\n');
        // A closed standard error is no reason to stop healing.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }
}

fn own_line(level: Level, message: &str, now: DateTime<Utc>, style: Style) -> String {
    if style.json {
        return json_line(UP, level, message, now);
    }
    text_line(UP, level, &stamp(now), message, "", style.color)
}

/// Returns how a child's line looks; `None` if nobody wants it.
fn child_line(name: &str, line: &str, now: DateTime<Utc>, style: Style) -> Option<String> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
        return Some(if style.json { line.to_owned() } else { agent_line(name, fields, style) });
    }
    if let Some((level, message)) = broker_line(line) {
        // Its greeting has thirty lines; what it warns of is shown.
        let wanted = style.verbose || matches!(level, Level::Error | Level::Warn);
        return wanted.then(|| raw_line(name, level, message, now, style));
    }
    (!line.trim().is_empty()).then(|| raw_line(name, Level::Info, line, now, style))
}

fn raw_line(name: &str, level: Level, text: &str, now: DateTime<Utc>, style: Style) -> String {
    if style.json {
        return json_line(name, level, text, now);
    }
    text_line(name, level, &stamp(now), text, "", style.color)
}

/// Returns why a child ended, and what can be done about it, from the last lines that it wrote.
pub(crate) fn last_words(lines: &[String]) -> (String, Option<String>) {
    let fields = lines.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
    let is_error = |fields: &Map<String, Value>| {
        fields.get("level").and_then(Value::as_str) == Some(Level::Error.as_str())
    };
    let Some(fields) = fields.into_iter().find(is_error) else {
        // It did not get as far as to have a log: a usage message, or a panic.
        return (lines.join("\n"), None);
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    let why = text("error").or_else(|| text("message")).unwrap_or_default();
    (why, text("hint"))
}

/// Reads nats-server's `[4711] [WRN] message`.
fn broker_line(line: &str) -> Option<(Level, &str)> {
    let (pid, rest) = line.strip_prefix('[')?.split_once("] [")?;
    let (level, message) = rest.split_once("] ")?;
    let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    (is_pid && level.len() == 3).then(|| (Level::parse(level), message))
}

/// Shows a JSON line of one of our agents to people.
fn agent_line(name: &str, mut fields: Map<String, Value>, style: Style) -> String {
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (at, level, message) = (take("timestamp"), take("level"), take("message"));
    let (_service, _module, _span, hint) =
        (take("service"), take("module"), take("span"), take("hint"));
    let at = DateTime::parse_from_rfc3339(&at)
        .map_or_else(|_not_a_time| stamp(Utc::now()), |at| stamp(at.with_timezone(&Utc)));
    let (dim, off) = if style.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    let mut text = String::new();
    for (key, value) in &fields {
        // Writing to a string cannot fail.
        let _infallible = write!(text, " {dim}{}={off}{}", plain(key), quoted(value));
    }
    let mut line = text_line(name, Level::parse(&level), &at, &message, &text, style.color);
    if !hint.is_empty() {
        let _infallible =
            write!(line, "\n{:width$}hint: {}", "", plain(&hint), width = 14 + NAME_WIDTH);
    }
    line
}

/// Shows a value so that it is one word: no value can pretend to be another field or another line.
fn quoted(value: &Value) -> String {
    let Value::String(text) = value else { return plain(&value.to_string()) };
    let is_word =
        !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"');
    if is_word { plain(text) } else { format!("{text:?}") }
}

fn text_line(
    name: &str,
    level: Level,
    at: &str,
    message: &str,
    fields: &str,
    color: bool,
) -> String {
    let message = plain(message);
    if !color {
        let level = level.as_str().to_uppercase();
        return format!("{at} {name:<NAME_WIDTH$} {level:<5} {message}{fields}");
    }
    let (tint, paint, level) = (tint(name), level.escape(), level.as_str().to_uppercase());
    format!(
        "\x1b[2m{at}\x1b[0m {tint}{name:<NAME_WIDTH$}\x1b[0m {paint}{level:<5}\x1b[0m {message}{fields}"
    )
}

fn json_line(name: &str, level: Level, message: &str, now: DateTime<Utc>) -> String {
    serde_json::json!({
        "timestamp": now.to_rfc3339_opts(SecondsFormat::Millis, true),
        "level": level.as_str(),
        "service": name,
        "message": message,
    })
    .to_string()
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3fZ").to_string()
}

/// Returns the colour by which the eye finds one agent's lines.
fn tint(name: &str) -> &'static str {
    match name {
        "supervisor" => "\x1b[35m",
        "monitor" => "\x1b[36m",
        "analyzer" => "\x1b[34m",
        "fixer" => "\x1b[33m",
        "gateway" => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { json: false, color: false, verbose: false };
    const JSON: Style = Style { json: true, ..PLAIN };

    fn show(line: &str, style: Style) -> Option<String> {
        child_line("fixer", line, DateTime::UNIX_EPOCH, style)
    }

    #[test]
    fn an_agents_json_becomes_a_line_for_people() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.678Z","level":"warn","service":"fixer","module":"fixer","message":"fix failed","attempt":2,"why":"no such file"}"#;
        assert_eq!(
            show(line, PLAIN).unwrap(),
            "03:04:05.678Z fixer      WARN  fix failed attempt=2 why=\"no such file\""
        );
        assert_eq!(show(line, JSON).unwrap(), line);
    }

    #[test]
    fn a_hint_stands_below_its_message() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.678Z","level":"error","message":"no broker","hint":"start one"}"#;
        let shown = show(line, PLAIN).unwrap();
        assert!(shown.ends_with("no broker\n                        hint: start one"), "{shown}");
    }

    #[test]
    fn of_the_brokers_lines_only_the_grave_ones_are_shown() {
        assert_eq!(show("[4711] [INF] Server is ready", PLAIN), None);
        assert_eq!(
            show("[4711] [ERR] disk full", PLAIN).unwrap(),
            "00:00:00.000Z fixer      ERROR disk full"
        );
        let verbose = Style { verbose: true, ..PLAIN };
        assert!(show("[4711] [INF] Server is ready", verbose).is_some());
    }

    #[test]
    fn the_last_words_of_a_child_are_its_last_error() {
        let words = |lines: &[&str]| {
            last_words(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
        };
        let hint = Some("write one".to_owned());
        assert_eq!(
            words(&[
                r#"{"level":"error","message":"earlier"}"#,
                r#"{"level":"error","message":"ended","error":"no file","hint":"write one"}"#,
                r#"{"level":"info","message":"bye"}"#,
            ]),
            ("no file".to_owned(), hint)
        );
        assert_eq!(
            words(&["error: unexpected", "Usage: x"]),
            ("error: unexpected\nUsage: x".to_owned(), None)
        );
    }

    #[test]
    fn any_other_line_is_shown_as_it_is() {
        assert_eq!(
            show("thread panicked [1] [x]", PLAIN).unwrap(),
            "00:00:00.000Z fixer      INFO  thread panicked [1] [x]"
        );
        let json: Value = serde_json::from_str(&show("plain", JSON).unwrap()).unwrap();
        assert_eq!((&json["service"], &json["message"]), (&"fixer".into(), &"plain".into()));
        assert_eq!(show("  ", PLAIN), None);
    }
}
