//! Where output goes and how it looks: colour only on a terminal, tables, relative times.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use chrono::{DateTime, Utc};
use comfy_table::{Table, presets};
use domain::visible;
use serde::Serialize;

use crate::{
    args::ColorChoice,
    exit::{Exit, Failure},
};

/// A meaning that has a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Somebody may want to look.
    Notice,
    /// Somebody has to look.
    Bad,
    /// Of less weight than the rest.
    Faint,
    /// A heading.
    Strong,
}

/// Ends what a [`Tone::mark`] began.
const MARK_END: char = '\u{2060}';

impl Tone {
    /// Every tone, for the loop that paints.
    const ALL: [Self; 5] = [Self::Good, Self::Notice, Self::Bad, Self::Faint, Self::Strong];

    /// A character without width that stands for the tone until the table has been laid out: escape sequences
    /// would be counted as text, and the columns would not line up.
    const fn mark(self) -> char {
        match self {
            Self::Good => '\u{2061}',
            Self::Notice => '\u{2062}',
            Self::Bad => '\u{2063}',
            Self::Faint => '\u{2064}',
            Self::Strong => '\u{200d}',
        }
    }

    const fn escape(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Notice => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Faint => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

/// Returns `text` in a tone. [`Terminal`] turns it into colour, or into nothing.
#[must_use]
pub(crate) fn toned(tone: Tone, text: impl Display) -> String {
    format!("{}{}{MARK_END}", tone.mark(), plain(&text.to_string()))
}

/// Returns text from outside with what could steer the terminal, or hide something, written out: a target's log must
/// not move the cursor.
#[must_use]
pub(crate) fn plain(text: &str) -> String {
    let is_mark = |c: char| c == MARK_END || Tone::ALL.iter().any(|tone| tone.mark() == c);
    let unmarked: String = text.chars().filter(|c| !is_mark(*c)).collect();
    visible::lines(&unmarked).into_owned()
}

/// The two output streams of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    json: bool,
    color_out: bool,
    color_err: bool,
}

impl Terminal {
    /// Looks at the streams and at `NO_COLOR` once.
    #[must_use]
    pub(crate) fn new(json: bool, choice: ColorChoice) -> Self {
        let wanted = |is_terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let value = |name| std::env::var_os(name).filter(|value| !value.is_empty());
                let forced = value("CLICOLOR_FORCE").is_some_and(|value| value != "0");
                value("NO_COLOR").is_none() && (is_terminal || forced)
            }
        };
        Self {
            json,
            color_out: wanted(io::stdout().is_terminal()),
            color_err: wanted(io::stderr().is_terminal()),
        }
    }

    /// Returns whether programs read the output.
    #[must_use]
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Returns whether standard error takes colour.
    #[must_use]
    pub(crate) const fn has_color_err(self) -> bool {
        self.color_err
    }

    /// Prints text and a line end on standard output.
    ///
    /// # Errors
    ///
    /// When standard output is gone; silently if its reader went away, as `head` does.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        let text = paint(text, self.color_out);
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(Failure::silent(Exit::Success))
            }
            Err(error) => {
                Err(Failure::new(Exit::Failed, "cannot write to standard output").because(error))
            }
        }
    }

    /// Prints a value as one JSON document: indented for `pretty`, else on one line.
    ///
    /// # Errors
    ///
    /// When standard output is gone.
    pub(crate) fn print_json<T: Serialize>(self, value: &T, pretty: bool) -> Result<(), Failure> {
        let text =
            if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = text.map_err(|error| {
            Failure::new(Exit::Failed, "cannot show the answer as JSON").because(error)
        })?;
        self.print(&text)
    }

    /// Prints a remark on standard error. A closed standard error is no reason to stop.
    pub(crate) fn remark(self, text: &str) {
        let text = paint(text, self.color_err);
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Prints why a command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.json {
            let error = serde_json::json!({"error": {
                "code": failure.exit().word(),
                "message": failure.chain(),
                "hint": failure.hint_text(),
            }});
            drop(writeln!(io::stderr().lock(), "{error}"));
            return;
        }
        self.remark(&format!("{} {}", toned(Tone::Bad, "error:"), plain(&failure.chain())));
        if let Some(hint) = failure.hint_text() {
            self.remark(&format!("{} {}", toned(Tone::Notice, "hint:"), plain(hint)));
        }
    }
}

/// Turns marks into escape sequences, or drops them.
fn paint(text: &str, color: bool) -> String {
    let mut painted = String::with_capacity(text.len());
    for c in text.chars() {
        if c == MARK_END {
            painted.push_str(if color { "\x1b[0m" } else { "" });
        } else if let Some(tone) = Tone::ALL.iter().find(|tone| tone.mark() == c) {
            painted.push_str(if color { tone.escape() } else { "" });
        } else {
            painted.push(c);
        }
    }
    painted
}

/// Returns a table with a heading, in the plain form that is easy to copy and to `awk`.
#[must_use]
pub(crate) fn table(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heading.iter().map(|word| toned(Tone::Faint, word)));
    for row in rows {
        table.add_row(row);
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Returns how long ago something was, in the largest unit that fits.
#[must_use]
pub(crate) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - at).num_seconds();
    if seconds < 0 {
        return format!("in {}", span(-seconds));
    }
    if seconds == 0 { "now".to_owned() } else { format!("{} ago", span(seconds)) }
}

/// Returns a length of time in the largest unit that fits.
#[must_use]
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toned_cells_line_up_with_plain_ones() {
        let rows = vec![
            vec![toned(Tone::Bad, "down"), "a".to_owned()],
            vec!["healthy".to_owned(), "b".to_owned()],
        ];
        let shown = paint(&table(&["STATE", "NAME"], rows), false);
        let columns: Vec<_> = shown.lines().map(str::len).collect();
        assert_eq!(columns, [13, 10, 10], "{shown}");
    }

    #[test]
    fn colour_appears_only_when_it_is_wanted() {
        let text = toned(Tone::Good, "resolved");
        assert_eq!(paint(&text, false), "resolved");
        assert_eq!(paint(&text, true), "\x1b[32mresolved\x1b[0m");
    }

    #[test]
    fn a_log_line_of_a_target_cannot_steer_the_terminal() {
        assert_eq!(plain("\x1b[2Jgone\r"), "\\u{1b}[2Jgone\\r");
        assert_eq!(paint(&plain("\u{2063}red"), true), "red");
        assert_eq!(plain("api\u{202e}dorp\u{200b}\nb"), "api\\u{202e}dorp\\u{200b}\nb");
    }

    #[test]
    fn relative_times_use_the_largest_unit_that_fits() {
        let now = DateTime::<Utc>::from_timestamp(1_000_000, 0).unwrap();
        let table = [
            (0, "now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3_599, "59m ago"),
            (3_600, "1h ago"),
            (90_000, "1d ago"),
            (-30, "in 30s"),
        ];
        for (seconds, shown) in table {
            assert_eq!(ago(now - chrono::TimeDelta::seconds(seconds), now), shown);
        }
    }
}
