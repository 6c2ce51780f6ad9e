//! `disk.clean`: removes old files that match a pattern inside named directories.
//!
//! Every directory is entered by its descriptor, from the root on, and no symbolic
//! link is ever followed: a link that appears while we walk leads nowhere. Only
//! regular files are removed; directories stay, and other file systems are not entered.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use domain::action::{Action, ActionName};
use glob::{MatchOptions, Pattern};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat,
};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::allow::{AllowList, Denied, Setting};

/// Deepest directory below a named one.
const DEPTH_MAX: usize = 32;

/// Most files that one step removes.
const FILES_MAX: u64 = 100_000;

/// Most files that are named in the report.
const NAMED_MAX: usize = 100;

pub(super) const LISTED: Listed =
    Listed { name: ActionName::DiskClean, by_default: false, permit, run };

/// Why a directory could not be cleaned.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0} is, or lies behind, a symbolic link or is no directory")]
    Link(PathBuf),
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{pattern}` is not a pattern of file names")]
    Pattern { pattern: String, source: glob::PatternError },
    #[error("timed out")]
    TimeOver,
}

impl Error {
    const fn hint(&self) -> &'static str {
        match self {
            Self::Link(_) => "name the real directory (`realpath` tells it)",
            Self::Open { .. } | Self::Read { .. } => {
                "see that it exists and that the fixer's user may read it"
            }
            Self::Pattern { .. } => "write patterns such as `*.log.*` or `core.[0-9]*`",
            Self::TimeOver => "raise the step's `timeout`; what was removed stays removed",
        }
    }
}

fn permit(action: &Action, allow: &AllowList, _: Setting<'_>) -> Result<(), Denied> {
    let Action::DiskClean { directories, .. } = action else { return Ok(()) };
    directories.iter().try_for_each(|it| allow.directory(Path::new(it)))
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::DiskClean { directories, patterns, older_than, dry_run } = action else {
            return Err(Failure::misled(action));
        };
        // Asked again here, where it is done, besides at the door.
        for directory in directories {
            tools
                .allow
                .directory(Path::new(directory))
                .map_err(|it| Failure::new(it.to_string()))?;
        }
        let changed_before = SystemTime::now().checked_sub(older_than.to_std());
        let mut sweep = Sweep {
            patterns: compile(patterns).map_err(|error| Failure::of(&error, error.hint()))?,
            changed_before: changed_before.unwrap_or(UNIX_EPOCH),
            dry_run: *dry_run,
            deadline: attempt.deadline.into_std(),
            found: Found::default(),
        };
        let directories: Vec<_> = directories.iter().map(PathBuf::from).collect();
        let swept = tokio::task::spawn_blocking(move || {
            let ended = directories.iter().try_for_each(|it| sweep.clean(it));
            (sweep, ended)
        });
        let (sweep, ended) = swept.await.map_err(|error| {
            Failure::of(&error, "this is a fault of the fixer: please report it")
        })?;
        sweep.tell(ended)
    })
}

fn compile(patterns: &[String]) -> Result<Vec<Pattern>, Error> {
    let one = |pattern: &String| {
        Pattern::new(pattern).map_err(|source| Error::Pattern { pattern: pattern.clone(), source })
    };
    patterns.iter().map(one).collect()
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    n_files: u64,
    n_bytes: u64,
    n_failed: u64,
    first_failure: Option<String>,
    names: Vec<String>,
}

/// One walk through the named directories.
#[derive(Debug)]
struct Sweep {
    patterns: Vec<Pattern>,
    changed_before: SystemTime,
    dry_run: bool,
    deadline: Instant,
    found: Found,
}

impl Sweep {
    fn clean(&mut self, path: &Path) -> Result<(), Error> {
        let dir = open_from_root(path)?;
        let own = fstat(&dir)
            .map_err(|error| Error::Read { path: path.to_path_buf(), source: error.into() })?;
        self.walk(&dir, path, own.st_dev, 0)
    }

    fn walk(&mut self, dir: &OwnedFd, path: &Path, device: u64, depth: usize) -> Result<(), Error> {
        let unreadable = |error: rustix::io::Errno| Error::Read {
            path: path.to_path_buf(),
            source: error.into(),
        };
        for entry in Dir::read_from(dir).map_err(unreadable)? {
            if self.deadline <= Instant::now() {
                return Err(Error::TimeOver);
            }
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Gone meanwhile: whoever removed it did our work.
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let below = path.join(name.to_string_lossy().as_ref());
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory && stat.st_dev == device && depth < DEPTH_MAX {
                match open_below(dir, name) {
                    Ok(inner) => self.walk(&inner, &below, device, depth + 1)?,
                    Err(error) => self.fail(&below, error),
                }
            } else if kind == FileType::RegularFile
                && self.is_wanted(&name.to_string_lossy(), &stat)
            {
                let removed =
                    if self.dry_run { Ok(()) } else { unlinkat(dir, name, AtFlags::empty()) };
                match removed {
                    Ok(()) => self.count(&below, &stat),
                    Err(error) => self.fail(&below, error),
                }
            }
            if FILES_MAX <= self.found.n_files {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_wanted(&self, name: &str, stat: &Stat) -> bool {
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
        let age_known = u64::try_from(stat.st_mtime).ok().and_then(|seconds| {
            let nanos = u32::try_from(stat.st_mtime_nsec).ok()?;
            UNIX_EPOCH.checked_add(std::time::Duration::new(seconds, nanos))
        });
        age_known.is_some_and(|it| it < self.changed_before)
            && self.patterns.iter().any(|it| it.matches_with(name, options))
    }

    fn count(&mut self, path: &Path, stat: &Stat) {
        let n_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        self.found.n_files += 1;
        self.found.n_bytes += n_bytes;
        if self.found.names.len() < NAMED_MAX {
            self.found.names.push(format!("{n_bytes:>12} {}", path.display()));
        }
    }

    fn fail(&mut self, path: &Path, error: rustix::io::Errno) {
        self.found.n_failed += 1;
        self.found.first_failure.get_or_insert_with(|| format!("{}: {error}", path.display()));
    }

    fn tell(self, ended: Result<(), Error>) -> Result<Done, Failure> {
        let Self { found, dry_run, .. } = self;
        let verb = if dry_run { "would remove" } else { "removed" };
        let most =
            if FILES_MAX <= found.n_files { " (the most that one step removes)" } else { "" };
        let failed = found.first_failure.as_ref().map(|first| {
            format!("; {} could not be removed or entered, first {first}", found.n_failed)
        });
        let failed = failed.unwrap_or_default();
        let summary =
            format!("{verb} {} files, {} bytes{most}{failed}", found.n_files, found.n_bytes);
        let n_named = u64::try_from(found.names.len()).unwrap_or(u64::MAX);
        let more = match found.n_files - n_named.min(found.n_files) {
            0 => String::new(),
            n_more => format!("\n… and {n_more} more"),
        };
        let output = found.names.join("\n") + &more;
        match ended {
            Err(error) => {
                let failure = Failure::of(&error, error.hint());
                Err(Failure { output, ..Failure::new(format!("{}; {summary}", failure.reason)) })
            }
            Ok(()) if found.n_files == 0 && 0 < found.n_failed => {
                Err(Failure { output, ..Failure::new(summary) })
            }
            Ok(()) => Ok(Done { summary, output, is_idle: false }),
        }
    }
}

const ENTER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Opens a directory part by part, so that no part can be a link.
fn open_from_root(path: &Path) -> Result<OwnedFd, Error> {
    let told = |error: rustix::io::Errno| match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => Error::Link(path.to_path_buf()),
        error => Error::Open { path: path.to_path_buf(), source: error.into() },
    };
    let mut dir = openat(CWD, "/", ENTER, Mode::empty()).map_err(told)?;
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                dir = openat(&dir, name, ENTER, Mode::empty()).map_err(told)?;
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Link(path.to_path_buf()));
            }
        }
    }
    Ok(dir)
}

fn open_below(dir: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, ENTER, Mode::empty())
}
