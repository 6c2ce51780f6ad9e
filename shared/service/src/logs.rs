//! Log lines, for people or for machines, always on standard error.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::IsTerminal as _,
    panic::PanicHookInfo,
};

use chrono::{DateTime, SecondsFormat, Utc};
use domain::{redact, visible};
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use crate::{Common, ConfigError, LogFormat};

/// What is written when nobody asks for anything else.
const FILTER_DEFAULT: &str = "info,async_nats=warn";

/// Starts to write log lines, panics among them.
///
/// # Errors
///
/// [`ConfigError`] when the filter cannot be understood.
pub(crate) fn init(service: &'static str, common: &Common) -> Result<(), ConfigError> {
    let text = common.log_filter().unwrap_or(FILTER_DEFAULT);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        ConfigError::new(
            format!("cannot understand the log filter `{text}`"),
            "write a level, or targets with levels: `debug`, `info,bus=debug`",
        )
        .because(error)
    })?;
    let colour =
        common.log_format == LogFormat::Text && std::io::stderr().is_terminal() && wants_colour();
    let lines = Lines { service, format: common.log_format, clock: Utc::now };
    let started = tracing_subscriber::fmt()
        .with_ansi(colour)
        .event_format(lines)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// Follows <https://no-color.org>: any value but the empty one takes the colour away.
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    metrics::counter!("selfheal_panics_total").increment(1);
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        message_text = message,
        place,
        "a task panicked: this is a defect, please report it"
    );
}

/// Formats one event as one line; in text, a `hint` has a line of its own.
struct Lines {
    service: &'static str,
    format: LogFormat,
    clock: fn() -> DateTime<Utc>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let mut spans = String::new();
        for span in
            ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            let fields =
                extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
            write!(
                spans,
                "{}{}{{{fields}}}",
                if spans.is_empty() { "" } else { ":" },
                span.name()
            )?;
        }
        let at = (self.clock)().to_rfc3339_opts(SecondsFormat::Millis, true);
        match self.format {
            LogFormat::Text => {
                self.text(&mut writer, &at, *event.metadata().level(), &told, &spans)
            }
            LogFormat::Json => self.json(&mut writer, &at, event, told, spans),
        }
    }
}

impl Lines {
    fn text(
        &self,
        writer: &mut Writer<'_>,
        at: &str,
        level: Level,
        told: &Told,
        spans: &str,
    ) -> fmt::Result {
        let (dim, bold, off) = if writer.has_ansi_escapes() {
            ("\x1b[2m", paint(level), "\x1b[0m")
        } else {
            ("", "", "")
        };
        let message = visible::line(&told.message);
        write!(writer, "{dim}{at}{off} {bold}{level:<5}{off} {}: {message}", self.service)?;
        for (name, value) in told.fields.iter().filter(|(name, _)| *name != "hint") {
            write!(writer, " {dim}{name}={off}{}", quoted(value))?;
        }
        if !spans.is_empty() {
            write!(writer, " {dim}{}{off}", visible::line(spans))?;
        }
        if let Some((_, hint)) = told.fields.iter().find(|(name, _)| *name == "hint") {
            write!(writer, "\n  hint: {}", visible::line(hint.as_str().unwrap_or_default()))?;
        }
        writeln!(writer)
    }

    fn json(
        &self,
        writer: &mut Writer<'_>,
        at: &str,
        event: &Event<'_>,
        told: Told,
        spans: String,
    ) -> fmt::Result {
        let mut line = Map::new();
        for (name, value) in told.fields {
            line.insert(name.to_owned(), value);
        }
        // Ours come last: a field of the same name must not hide the level or the time.
        line.insert("timestamp".to_owned(), at.into());
        line.insert("level".to_owned(), event.metadata().level().to_string().to_lowercase().into());
        line.insert("service".to_owned(), self.service.into());
        line.insert("module".to_owned(), event.metadata().target().into());
        line.insert("message".to_owned(), told.message.into());
        if !spans.is_empty() {
            line.insert("span".to_owned(), spans.into());
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn paint(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Shows a value so that it is one word: what holds blanks or control characters is quoted,
/// so that no value can pretend to be another field or another line.
fn quoted(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let plain = !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || visible::is_hidden(c) || c == '"' || c == '=');
    if plain { text.clone() } else { visible::line(&format!("{text:?}")).into_owned() }
}

/// The message and the fields of one event.
#[derive(Default)]
struct Told {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Told {
    fn add(&mut self, field: &Field, value: Value) {
        // Hints are ours, and speak of flags.
        let text = value.as_str().filter(|_| field.name() != "hint");
        let shown = text.and_then(|it| match redact::text(it) {
            Cow::Owned(shown) => Some(shown),
            Cow::Borrowed(_) => None,
        });
        let value = shown.map_or(value, Value::from);
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn write(format: LogFormat, say: impl FnOnce()) -> String {
        let page = Page::default();
        let lines = Lines { service: "monitor", format, clock: || DateTime::UNIX_EPOCH };
        let copy = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(lines)
            .with_writer(move || copy.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_text_line_reads_time_level_service_message_fields() {
        let line = write(LogFormat::Text, || {
            tracing::warn!(target.name = "db", attempt = 2, "target is down");
        });
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000Z WARN  monitor: target is down target.name=db attempt=2\n"
        );
    }

    #[test]
    fn a_value_cannot_pretend_to_be_another_line() {
        let line = write(LogFormat::Text, || {
            tracing::info!(name = "a\nb c", "seen");
        });
        assert_eq!(line, "1970-01-01T00:00:00.000Z INFO  monitor: seen name=\"a\\nb c\"\n");
    }

    #[test]
    fn a_message_is_one_line_and_steers_no_terminal_whatever_is_in_it() {
        let target = "x\n2026-01-01T00:00:00.000Z INFO  fixer: forged \u{1b}[31m\u{202e}\u{85}";
        let line = write(LogFormat::Text, || {
            tracing::warn!(hint = target, target, "notice: down on {target}");
        });
        assert_eq!(line.lines().count(), 2, "{line}");
        assert!(line.lines().nth(1).unwrap().starts_with("  hint: x\\n2026"), "{line}");
        let hidden = |c: char| c != '\n' && visible::is_hidden(c);
        assert!(!line.chars().any(hidden), "{line:?}");
        let line = write(LogFormat::Json, || tracing::warn!("notice: down on {target}"));
        assert_eq!(line.matches('\n').count(), 1, "{line}");
    }

    #[test]
    fn no_line_holds_what_looks_like_a_credential() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = write(format, || {
                let url = "nats://a:hunter22@broker:4222";
                tracing::info!(url, header = "Authorization: Bearer hunter22", "asked {url}");
            });
            assert!(!line.contains("hunter22") && line.contains("broker:4222"), "{line}");
        }
    }

    #[test]
    fn a_hint_has_a_line_of_its_own() {
        let line = write(LogFormat::Text, || {
            tracing::error!(hint = "start it", "no broker");
        });
        assert_eq!(line, "1970-01-01T00:00:00.000Z ERROR monitor: no broker\n  hint: start it\n");
    }

    #[test]
    fn a_json_line_is_one_object_whose_own_fields_win() {
        let line = write(LogFormat::Json, || {
            tracing::info!(level = "fake", count = 3, "told");
        });
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(told["level"], "info");
        assert_eq!(told["count"], 3);
        assert_eq!(told["message"], "told");
        assert_eq!(told["service"], "monitor");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
