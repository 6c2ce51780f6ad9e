//! Runs a target on inputs made by chance, and tells how one that breaks it is run again.

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::FileExt as _,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant},
};

use crate::{Target, Verdict, chance::Chance, mutate::Mutator};

/// Largest input. What is larger is refused before it is decoded, everywhere.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Longest refusal: it goes into a header, a log line, an answer.
pub const REFUSAL_BYTES_MAX: usize = 8 * 1024;

/// Processor time that one input may cost, in a build without optimisation.
pub const TIME_MAX: Duration = Duration::from_secs(2);

/// Memory that one input may cost, in KiB: a few times its size, and much room for what is there once.
pub const MEMORY_KIB_MAX: u64 = 256 * 1024;

/// Inputs between two looks at the memory.
const MEMORY_EVERY: usize = 64;

/// Inputs that were kept since they led to a new answer, besides the first ones.
const KEPT_MAX: usize = 512;

/// Most changes of one input.
const CHANGES_MAX: usize = 6;

/// Tries to make an input that breaks a target smaller.
const SHRINKS_MAX: usize = 3_000;

/// Time for them.
const SHRINK_TIME: Duration = Duration::from_secs(5);

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the sequence of chance begins.
    pub seed: u64,
    /// How long it may take.
    pub time: Duration,
    /// Where the input that is being run, and one that breaks the target, are left.
    pub dir: PathBuf,
}

/// What a run has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Inputs that were run.
    pub n_runs: usize,
    /// Those among them that were understood.
    pub n_taken: usize,
    /// Different answers that were seen.
    pub n_answers: usize,
}

/// An input that breaks a target.
#[derive(Debug)]
pub struct Failure {
    /// What did not hold.
    pub why: String,
    /// The smallest such input that was found.
    pub input: Vec<u8>,
    /// Where it is.
    pub saved: PathBuf,
    /// The target.
    pub target: &'static str,
    /// Where the sequence of chance began.
    pub seed: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, input, saved, target, seed } = self;
        let shown: String = String::from_utf8_lossy(input).chars().take(2_000).collect();
        write!(
            f,
            "{target}: {why}\ninput of {} bytes: {shown}\nrun it again: SELFHEAL_FUZZ_REPLAY={} cargo nextest run -p fuzz {target}\nthe whole run: SELFHEAL_FUZZ_SEED={seed}",
            input.len(),
            saved.display()
        )
    }
}

/// Runs a target on its corpus, then on what chance makes of it.
///
/// # Errors
///
/// The input that breaks it.
pub fn fuzz(target: &Target, corpus: &[Vec<u8>], options: &Options) -> Result<Figures, Failure> {
    let start = Instant::now();
    let mut run = Run::new(target, options);
    let mut population: Vec<Vec<u8>> = (target.seeds)();
    population.extend(corpus.iter().cloned());
    population.retain(|it| it.len() <= INPUT_BYTES_MAX);
    for input in &population {
        run.one(input)?;
    }
    let n_first = population.len();
    let mut chance = Chance::new(options.seed);
    let mut mutator = Mutator::new(target.form, &population);
    while start.elapsed() < options.time {
        let Some(parent) = chance.pick(&population) else { break };
        let mut input = parent.clone();
        for _ in 0..=chance.below(CHANGES_MAX) {
            input = mutator.change(&mut chance, &input, &population);
        }
        input.truncate(INPUT_BYTES_MAX);
        if run.one(&input)? && population.len() < n_first + KEPT_MAX {
            population.push(input);
        }
    }
    run.end()
}

/// Runs one input alone, such as one that broke the target before.
///
/// # Errors
///
/// What did not hold.
pub fn replay(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    let verdict = attempt(target, input)?;
    match memory_of(target, input) {
        Some(kib) => Err(format!("it takes {kib} KiB of memory")),
        None => Ok(verdict),
    }
}

/// Returns how much memory an input takes, if that is too much.
fn memory_of(target: &Target, input: &[u8]) -> Option<u64> {
    let before = forget_memory_peak();
    let _known = attempt(target, input);
    let grown = memory_peak_kib().saturating_sub(before);
    (MEMORY_KIB_MAX / 2 < grown).then_some(grown)
}

struct Run<'a> {
    target: &'a Target,
    options: &'a Options,
    figures: Figures,
    answers: HashSet<u64>,
    /// Those that were run since the last look at the memory.
    recent: Vec<Vec<u8>>,
    memory_kib: u64,
    /// Holds the input that is being run: what a stack overflow leaves behind.
    running: Option<fs::File>,
}

impl<'a> Run<'a> {
    fn new(target: &'a Target, options: &'a Options) -> Self {
        // Without a place to leave it the run is still worth something.
        let running = fs::create_dir_all(&options.dir)
            .and_then(|()| fs::File::create(running_path(&options.dir, target.name)))
            .ok();
        Self {
            target,
            options,
            figures: Figures::default(),
            answers: HashSet::new(),
            recent: Vec::new(),
            memory_kib: memory_peak_kib(),
            running,
        }
    }

    /// Runs one input, and tells whether the answer was a new one.
    fn one(&mut self, input: &[u8]) -> Result<bool, Failure> {
        if let Some(running) = &self.running {
            let _told_as_well_as_possible =
                running.set_len(0).and_then(|()| running.write_all_at(input, 0));
        }
        let verdict = attempt(self.target, input).map_err(|why| self.failure(why, input))?;
        self.figures.n_runs += 1;
        self.figures.n_taken += usize::from(verdict == Verdict::Taken);
        self.recent.push(input.to_vec());
        if MEMORY_EVERY <= self.recent.len() {
            self.look_at_memory()?;
        }
        let is_new = self.answers.insert(signature(&verdict));
        self.figures.n_answers = self.answers.len();
        Ok(is_new)
    }

    fn end(mut self) -> Result<Figures, Failure> {
        self.look_at_memory()?;
        self.running = None;
        let _gone = fs::remove_file(running_path(&self.options.dir, self.target.name));
        Ok(self.figures)
    }

    fn look_at_memory(&mut self) -> Result<(), Failure> {
        let recent = std::mem::take(&mut self.recent);
        let peak = memory_peak_kib();
        let grown = peak.saturating_sub(self.memory_kib);
        self.memory_kib = self.memory_kib.max(peak);
        if grown <= MEMORY_KIB_MAX {
            return Ok(());
        }
        for input in recent {
            if let Some(kib) = memory_of(self.target, &input) {
                return Err(self.failure(format!("it takes {kib} KiB of memory"), &input));
            }
        }
        Ok(())
    }

    /// Makes the input smaller as long as it breaks the target, and saves it.
    fn failure(&self, why: String, input: &[u8]) -> Failure {
        let (input, why) = shrink(self.target, input, why);
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let name = format!("{}-{:016x}", self.target.name, hasher.finish());
        let saved = self.options.dir.join(name);
        let written = fs::write(&saved, &input);
        let why = match written {
            Ok(()) => why,
            Err(error) => format!("{why} (cannot save the input: {error})"),
        };
        Failure { why, input, saved, target: self.target.name, seed: self.options.seed }
    }
}

fn running_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.running"))
}

/// Runs an input and checks what must hold for every decoder.
fn attempt(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    catch_quietly();
    let start = Instant::now();
    let before = processor_time();
    let verdict = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = start.elapsed();
    let Ok(verdict) = verdict else {
        return Err(format!("it panics: {}", PANIC.take().unwrap_or_default()));
    };
    if TIME_MAX < took {
        // The machine may be busy: what counts is our own time.
        let own = processor_time().saturating_sub(before);
        if TIME_MAX < own {
            return Err(format!("it takes {own:?} of processor time"));
        }
    }
    if let Verdict::Refused(words) = &verdict {
        if words.trim().is_empty() {
            return Err("it is refused without a word".to_owned());
        }
        if REFUSAL_BYTES_MAX < words.len() {
            let head: String = words.chars().take(200).collect();
            return Err(format!("it is refused with {} bytes: {head}…", words.len()));
        }
    }
    Ok(verdict)
}

fn shrink(target: &Target, input: &[u8], why: String) -> (Vec<u8>, String) {
    let (mut input, mut why) = (input.to_vec(), why);
    let (mut n_tries, start) = (0, Instant::now());
    let mut part = input.len() / 2;
    while 0 < part && n_tries < SHRINKS_MAX {
        let mut at = 0;
        while at < input.len() && n_tries < SHRINKS_MAX && start.elapsed() < SHRINK_TIME {
            n_tries += 1;
            let end = (at + part).min(input.len());
            let mut less = input.clone();
            less.drain(at..end);
            match attempt(target, &less) {
                Err(still) => (input, why) = (less, still),
                Ok(_) => at = end,
            }
        }
        part /= 2;
    }
    (input, why)
}

/// What an answer has in common with those of the same kind: its words without numbers and quotes.
fn signature(verdict: &Verdict) -> u64 {
    let mut hasher = DefaultHasher::new();
    match verdict {
        Verdict::Taken => 0_u8.hash(&mut hasher),
        Verdict::Refused(words) => {
            for (idx, part) in words.split(['`', '"', '\'']).enumerate() {
                if idx % 2 == 0 {
                    let kind: String = part.chars().filter(|it| !it.is_ascii_digit()).collect();
                    kind.hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Keeps the words of a panic instead of printing them: shrinking panics a thousand times.
fn catch_quietly() {
    static ONCE: Once = Once::new();
    QUIET.set(true);
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.with_borrow(|it| *it) {
                PANIC.set(Some(info.to_string()));
            } else {
                loud(info);
            }
        }));
    });
}

/// Lets panics of this thread be printed again.
pub fn speak_again() {
    QUIET.set(false);
}

/// Returns the processor time that this thread has used.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|it| it.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

fn status_kib(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn memory_peak_kib() -> u64 {
    status_kib("VmHWM:")
}

/// Begins to measure the peak anew, and returns what is used now.
fn forget_memory_peak() -> u64 {
    let _measured_less_well_without = fs::write("/proc/self/clear_refs", "5");
    status_kib("VmRSS:")
}
