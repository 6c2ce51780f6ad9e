//! Ends a process whose tasks no longer run.
//!
//! A process that hangs answers nobody, yet looks alive to its orchestrator. A thread of its
//! own watches that the runtime still turns, and ends the process with [`EX_STUCK`] when it has
//! stood still for too long, so that a whole one is started.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::systemd::Systemd;

/// `EX_SOFTWARE` of sysexits.h: the tasks of the process no longer ran.
pub(crate) const EX_STUCK: u8 = 70;

/// How often the runtime shows that it turns, and how often that is looked at.
const BEAT: Duration = Duration::from_millis(250);

/// The most that one look counts. On a busy machine, a look that comes late says nothing
/// about the tasks, which had to wait as well.
const COUNTED_MAX: Duration = Duration::from_millis(500);

/// A look that comes so late was held up together with everything else, as by SIGSTOP or by
/// the suspension of a virtual machine: the tasks are given their whole time again.
const RESUMED: Duration = Duration::from_secs(5);

/// How long the last log line may take: what blocks the tasks may be the log itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Threads that the last log line names.
const THREADS_MAX: usize = 16;

/// Stack of the watching thread, which calls nothing deep.
const STACK_BYTES: usize = 256 * 1024;

/// What the reader of the last log line can do.
const HINT: &str = "a restart helps for now; see `threads` for what they wait for: a disk or a network file system that hangs, a full pipe behind standard error, a debugger, or a defect, which please report. SELFHEAL_STUCK_AFTER allows more time";

/// Watches until dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: Option<Thread>,
    _beat: AbortOnDropHandle<()>,
}

impl Watchdog {
    /// Starts to watch; with a time of zero only the service manager is told that we live.
    pub(crate) fn start(runtime: &Runtime, stuck_max: Duration, systemd: Systemd) -> Self {
        let beats = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let beat = AbortOnDropHandle::new(runtime.spawn(beat(Arc::clone(&beats))));
        let stopped = Arc::clone(&stop);
        let watching = thread::Builder::new()
            .name("watchdog".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || watch(&beats, &stopped, stuck_max, &systemd));
        let thread = match watching {
            Ok(watching) => Some(watching.thread().clone()),
            Err(error) => {
                warn!(%error, "cannot start the thread that watches the tasks; they run unwatched");
                None
            }
        };
        Self { stop, thread, _beat: beat }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

async fn beat(beats: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        beats.fetch_add(1, Ordering::Relaxed);
    }
}

fn watch(beats: &AtomicU64, stop: &AtomicBool, stuck_max: Duration, systemd: &Systemd) {
    let mut judge = Judge::new(stuck_max, Instant::now());
    let mut told_at = None;
    loop {
        thread::park_timeout(BEAT);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        match judge.look(now, beats.load(Ordering::Relaxed)) {
            Verdict::Turning => systemd.alive(now, &mut told_at),
            Verdict::Still => {}
            Verdict::Stuck => end(judge.still),
        }
    }
}

/// What one look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Tasks have run since the look before.
    Turning,
    /// They have not, but that may pass.
    Still,
    /// They have not for too long.
    Stuck,
}

/// Counts how long tasks have not run, by the time that this process had for itself.
#[derive(Debug)]
struct Judge {
    /// Zero: they may stand still for ever.
    stuck_max: Duration,
    looked_at: Instant,
    beats: u64,
    still: Duration,
}

impl Judge {
    fn new(stuck_max: Duration, now: Instant) -> Self {
        Self { stuck_max, looked_at: now, beats: 0, still: Duration::ZERO }
    }

    fn look(&mut self, now: Instant, beats: u64) -> Verdict {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        if beats != self.beats {
            self.beats = beats;
            self.still = Duration::ZERO;
            return Verdict::Turning;
        }
        if RESUMED < passed {
            self.still = Duration::ZERO;
            return Verdict::Still;
        }
        self.still += passed.min(COUNTED_MAX);
        if !self.stuck_max.is_zero() && self.stuck_max < self.still {
            Verdict::Stuck
        } else {
            Verdict::Still
        }
    }
}

/// Says why, as far as that is still possible, and ends the process.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "no task is left to end it in order")]
fn end(still: Duration) -> ! {
    let (said, heard) = mpsc::channel();
    let words = thread::Builder::new().spawn(move || {
        error!(
            still_s = still.as_secs(),
            exit_code = EX_STUCK,
            threads = threads(),
            hint = HINT,
            "the tasks of this process no longer run, ending it"
        );
        let _nobody_hears_it_when_it_came_too_late = said.send(());
    });
    if words.is_ok() {
        let _in_time_or_not = heard.recv_timeout(LAST_WORDS);
    }
    std::process::exit(i32::from(EX_STUCK));
}

/// Returns the threads of this process, each with its state and where in the kernel it waits.
fn threads() -> String {
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return String::new() };
    let one = |task: fs::DirEntry| {
        let stat = read(task.path().join("stat"));
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        let (comm, wchan) = (read(task.path().join("comm")), read(task.path().join("wchan")));
        let state = state.unwrap_or("?");
        match wchan.trim() {
            "" | "0" => format!("{} {state}", comm.trim()),
            place => format!("{} {state} in {place}", comm.trim()),
        }
    };
    tasks.flatten().take(THREADS_MAX).map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUCK_MAX: Duration = Duration::from_secs(30);

    /// Looks every [`BEAT`] for so long, with a counter that does not move.
    fn still_for(
        judge: &mut Judge,
        from: Instant,
        span: Duration,
        beats: u64,
    ) -> (Instant, Verdict) {
        let (mut now, mut verdict) = (from, Verdict::Turning);
        while now < from + span {
            now += BEAT;
            verdict = judge.look(now, beats);
        }
        (now, verdict)
    }

    #[test]
    fn tasks_that_stand_still_for_too_long_are_stuck_and_one_beat_forgives_all() {
        let start = Instant::now();
        let mut judge = Judge::new(STUCK_MAX, start);
        let (now, verdict) = still_for(&mut judge, start, STUCK_MAX, 0);
        assert_eq!(verdict, Verdict::Still);
        assert_eq!(judge.look(now + BEAT, 1), Verdict::Turning);
        let (now, verdict) = still_for(&mut judge, now + BEAT, STUCK_MAX, 1);
        assert_eq!(verdict, Verdict::Still, "the whole time again");
        assert_eq!(judge.look(now + BEAT, 1), Verdict::Stuck);
    }

    #[test]
    fn a_process_that_was_stopped_has_its_whole_time_when_it_goes_on() {
        let start = Instant::now();
        let mut judge = Judge::new(STUCK_MAX, start);
        let (now, _) = still_for(&mut judge, start, STUCK_MAX, 0);
        // Stopped for an hour; the watching thread may well be the first to run again.
        let resumed = now + Duration::from_secs(3600);
        assert_eq!(judge.look(resumed, 0), Verdict::Still);
        let (_, verdict) = still_for(&mut judge, resumed, STUCK_MAX, 0);
        assert_eq!(verdict, Verdict::Still);
    }

    #[test]
    fn looks_that_come_late_on_a_busy_machine_count_for_little() {
        let start = Instant::now();
        let mut judge = Judge::new(STUCK_MAX, start);
        let late = Duration::from_secs(4);
        let verdicts: Vec<_> = (1..=60).map(|n| judge.look(start + late * n, 0)).collect();
        assert!(verdicts.iter().all(|it| *it == Verdict::Still), "4 min, of which 30 s count");
        assert_eq!(judge.look(start + late * 61, 0), Verdict::Stuck);
    }

    #[test]
    fn a_time_of_zero_turns_it_off() {
        let start = Instant::now();
        let mut judge = Judge::new(Duration::ZERO, start);
        let (_, verdict) = still_for(&mut judge, start, STUCK_MAX * 10, 0);
        assert_eq!(verdict, Verdict::Still);
    }

    #[test]
    fn the_threads_are_named_with_what_they_do() {
        let threads = threads();
        assert!(threads.split(", ").all(|it| it.contains(' ')), "{threads}");
    }
}
