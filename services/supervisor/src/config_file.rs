//! The configuration file: read at the start, followed while we run.
//!
//! A text is taken when it is at rest: two reads in a row are equal, no program has it open for
//! writing, and it has been so for as long as the pauses of whoever writes it ask for. What is
//! seen of a save that is under way is waited for.

mod follow;
mod seen;
#[cfg(test)]
mod tests;
mod writers;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{
    config::{self, Config, ConfigError as Mistake, TEXT_BYTES_MAX},
    desk::FoundText,
    id::sha256_hex,
};
use service::ConfigError;
use tokio::time::Instant;

use self::writers::Writers;

pub(crate) use self::{follow::follow, seen::SeenFile};

/// The file that is used when none is named.
pub(crate) const DEFAULT: &str = "./selfheal.yaml";

/// How long a text must be the same before it is taken; there are two reads in that time.
const QUIET: Duration = Duration::from_millis(900);
/// How long a text with mistakes must be the same before it is refused: most are half written.
const QUIET_REFUSED: Duration = Duration::from_secs(3);
/// How long a text must be the same that a person will be asked to confirm.
const QUIET_HELD: Duration = Duration::from_secs(10);
/// A writer that paused is waited for this many times as long.
const PAUSES: u32 = 3;
/// Nothing is waited for longer than this, unless it is open for writing.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Pause between the two reads at the start.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A text that was found in the file, at rest.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which, and since when.
    pub(crate) text: FoundText,
    /// Why it may not be the whole text.
    pub(crate) doubts: Vec<String>,
    /// What it says.
    pub(crate) content: Result<Box<Config>, Vec<Mistake>>,
}

/// What a look at the file has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What was taken last, or no file.
    Same,
    /// Something else, and it may still be written.
    Writing,
    /// Something else, which has been the same for so long.
    Quiet(Duration),
}

/// The configuration file.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    writers: Writers,
    /// A process that had the file open for writing when it was looked at last.
    writer: Option<u32>,
    candidate: Option<Candidate>,
    /// Hash and text that were taken last.
    taken: Option<(String, String)>,
    /// Whether the text that was taken last ended with a line end; unknown before the first.
    ended_line: Option<bool>,
}

/// A text that is not taken yet.
#[derive(Debug)]
struct Candidate {
    identity: Identity,
    sha256: String,
    text: String,
    content: Result<Box<Config>, Vec<Mistake>>,
    since: Instant,
    /// The longest pause of its writer so far.
    pause: Duration,
}

/// What is the same as long as nobody writes a file or puts another in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let it = std::fs::metadata(path)?;
        let modified = (it.mtime(), it.mtime_nsec());
        Ok(Self { device: it.dev(), inode: it.ino(), bytes: it.len(), modified })
    }
}

impl ConfigFile {
    /// Names the file.
    #[must_use]
    pub(crate) fn new(path: PathBuf) -> Self {
        let writers = Writers::new();
        Self { path, writers, writer: None, candidate: None, taken: None, ended_line: None }
    }

    /// Reads the file for the first time. Unless it is being written, it is taken at once.
    ///
    /// # Errors
    ///
    /// All its mistakes with file, line, column and a hint; or that it cannot be read.
    /// The default file may be absent: then the configuration comes by `selfheal apply`.
    pub(crate) async fn first(&mut self) -> Result<bool, ConfigError> {
        let now = Instant::now();
        if !self.path.exists() && self.path == Path::new(DEFAULT) {
            return Ok(false);
        }
        let unreadable = |source| {
            ConfigError::new(
                format!("cannot read the configuration {}", self.path.display()),
                "name a file with --config; deploy/examples has some that work",
            )
            .because(source)
        };
        // So that what cannot be read at all is said.
        std::fs::read_to_string(&self.path).map_err(unreadable)?;
        self.look(now);
        tokio::time::sleep(FIRST_PAUSE).await;
        let look = self.look(Instant::now());
        match self.candidate.as_ref().map(|it| &it.content) {
            Some(Err(mistakes)) => {
                let hint = mistakes.first().map(|it| it.hint.clone()).unwrap_or_default();
                Err(ConfigError::new(tell(mistakes), hint))
            }
            Some(Ok(_)) => Ok(matches!(look, Look::Quiet(_))),
            None => Ok(false),
        }
    }

    /// Looks whether the file has changed, and whether it is at rest.
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        self.writers.watch(&self.path);
        let Some((identity, text)) = read(&self.path) else {
            // A file that is being replaced may be absent for a moment. One that is gone for
            // good takes nothing with it.
            return if self.candidate.is_some() { Look::Writing } else { Look::Same };
        };
        let is_writing = self.writers.is_writing();
        if let Some(candidate) = &self.candidate
            && candidate.identity == identity
            && candidate.text == text
        {
            let quiet = now.saturating_duration_since(candidate.since);
            let needed = (candidate.pause * PAUSES).min(QUIET_MAX);
            let is_at_rest = !is_writing && needed <= quiet && self.is_closed(&identity);
            return if is_at_rest { Look::Quiet(quiet) } else { Look::Writing };
        }
        let sha256 = sha256_hex(text.as_bytes());
        if self.taken.as_ref().is_some_and(|(taken, _)| *taken == sha256) && !is_writing {
            self.candidate = None;
            return Look::Same;
        }
        // Another state of the same save: so long does its writer pause.
        let pause = self
            .candidate
            .take()
            .map_or(Duration::ZERO, |it| now.saturating_duration_since(it.since).max(it.pause));
        let content = self.parsed(&text);
        self.candidate = Some(Candidate { identity, sha256, text, content, since: now, pause });
        Look::Writing
    }

    /// Tells whether nobody has the file open for writing, and nobody had since it was read.
    ///
    /// Looks through all processes, so it is asked only for a text that is new.
    fn is_closed(&mut self, read: &Identity) -> bool {
        self.writer = writers::who_writes(&self.path);
        // Who wrote the rest and closed the file meanwhile is not found, but has changed it.
        self.writer.is_none() && Identity::of(&self.path).is_ok_and(|now| now == *read)
    }

    /// Returns the process that is waited for, if it is known.
    const fn writer(&self) -> Option<u32> {
        self.writer
    }

    /// Returns what the text says that is not taken yet.
    pub(crate) fn candidate(&self) -> Option<Result<&Config, &[Mistake]>> {
        let candidate = self.candidate.as_ref()?;
        Some(candidate.content.as_deref().map_err(Vec::as_slice))
    }

    /// Takes the text that was looked at last; `since` says how to remember it.
    pub(crate) fn take(&mut self, remember: impl FnOnce(&str, bool) -> FoundText) -> Option<Found> {
        let candidate = self.candidate.take()?;
        let ends_line =
            candidate.text.ends_with('\n') || candidate.text.trim_start().starts_with('{');
        let doubts = self.doubts(&candidate.text, ends_line);
        let text = remember(&candidate.sha256, ends_line);
        self.ended_line = Some(ends_line);
        self.taken = Some((candidate.sha256, candidate.text));
        Some(Found { text, doubts, content: candidate.content })
    }

    /// Tells whether the text that was taken before the start ended with a line end.
    pub(crate) const fn remember_end(&mut self, ended_line: bool) {
        self.ended_line = Some(ended_line);
    }

    /// Says why a text may be cut though it is valid.
    fn doubts(&self, text: &str, ends_line: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        if !text.is_empty() && !ends_line && self.ended_line == Some(true) {
            doubts.push("the last line has no line end, as in a text that was cut".to_owned());
        }
        let is_begin =
            |(_, former): &(String, String)| text.len() < former.len() && former.starts_with(text);
        if !text.is_empty() && self.taken.as_ref().is_some_and(is_begin) {
            doubts.push("the text is the beginning of the former one".to_owned());
        }
        doubts
    }

    fn parsed(&self, text: &str) -> Result<Box<Config>, Vec<Mistake>> {
        let file = Some(self.path.display().to_string());
        let named = |it: Mistake| Mistake { file: file.clone(), ..it };
        config::parse(text)
            .map(Box::new)
            .map_err(|mistakes| mistakes.into_iter().map(named).collect())
    }
}

/// Reads a file and what it is; `None` when there is none, or when it changed meanwhile.
fn read(path: &Path) -> Option<(Identity, String)> {
    let before = Identity::of(path).ok()?;
    if TEXT_BYTES_MAX < before.bytes {
        // Refused by its size; see `config::parse`. Its beginning says so as well.
        let text = " ".repeat(usize::try_from(TEXT_BYTES_MAX).unwrap_or(0) + 1);
        return Some((before, text));
    }
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
    (Identity::of(path).ok()? == before).then_some((before, text))
}

/// How long a text must be the same before it is taken.
pub(crate) const fn quiet_needed(is_refused: bool, is_held: bool) -> Duration {
    match (is_refused, is_held) {
        (true, _) => QUIET_REFUSED,
        (false, true) => QUIET_HELD,
        (false, false) => QUIET,
    }
}

/// Tells all mistakes, each with its place, snippet and hint.
#[must_use]
pub(crate) fn tell(mistakes: &[Mistake]) -> String {
    let one = |it: &Mistake| format!("{it}\n{}\nhint: {}", it.snippet, it.hint);
    mistakes.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// What was found last, for the leader.
pub(crate) type FoundNow = Option<Arc<Found>>;
