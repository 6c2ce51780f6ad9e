//! The simulation, as long as continuous integration lets it run.

use std::time::Duration;

use simulation::{Batch, Bug, Options, find_bugs, run, run_many, shrink};

/// How long seeds are run here.
const BUDGET: Duration = Duration::from_secs(80);
/// No more seeds than these, however fast the machine: what is run here is the same for all.
const SEEDS_MAX: u64 = 110;
/// A planted bug is looked for in so many seeds.
const BUG_SEEDS_MAX: u64 = 12;
/// Found in the first eight seeds. The others need more time than there is here; `cargo xtask
/// simulate --bugs` takes it.
const QUICK: [Bug; 31] = [
    Bug::AckBeforeStore,
    Bug::AnswerBeforeAppend,
    Bug::AppendWithoutExpectation,
    Bug::ApprovalOfAnyPlan,
    Bug::DeadlinesFromBefore,
    Bug::DedupeDropped,
    Bug::FailedStepStays,
    Bug::FingerprintOfTheConfigured,
    Bug::FixerSkipsClaim,
    Bug::GuardsSkippedForRetries,
    Bug::InboxIdWithoutTime,
    Bug::IncompleteLookIsFinal,
    Bug::LabelsIgnored,
    Bug::LogSyncedLate,
    Bug::NumberIsIdentity,
    Bug::OldFileAtFailover,
    Bug::OldSamplesCount,
    Bug::PassingChecksProveAnything,
    Bug::PositionForgotten,
    Bug::PurgeCountedInMessages,
    Bug::QuietEndsAtOnce,
    Bug::RefusalIsFailure,
    Bug::RefusedCommandsForgotten,
    Bug::RepeatsForgotten,
    Bug::SameHostOnly,
    Bug::SnapshotLineWithoutBound,
    Bug::StandbyStartsAtEnd,
    Bug::StartWithoutLook,
    Bug::TimersLostAtFailover,
    Bug::UnseenCountsAsWell,
    Bug::WishUnderNewId,
];

#[test]
fn no_law_is_broken_in_any_seed() {
    let batch = Batch {
        like: Options::of(1),
        seeds: SEEDS_MAX,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        budget: Some(BUDGET),
        stop_at_failure: true,
    };
    let report = run_many(&batch, |_, _| {});
    if let Some((seed, broken)) = report.broken.first_key_value() {
        let story = shrink(&Options::of(*seed));
        let story = story.map(|it| format!("{}\n{}", it.story.join("\n"), it.options.command()));
        panic!("seed {seed}: {}: {}\n{}", broken.law, broken.why, story.unwrap_or_default());
    }
    let (n, hours) = (report.seeds, report.hours());
    assert!(0 < hours, "{n} seeds, {hours} simulated hours");
    assert!(0 < report.counts.resolved, "nothing was healed: {:?}", report.counts);
}

#[test]
fn planted_bugs_are_found() {
    let found = find_bugs(&Options::of(1), &QUICK, BUG_SEEDS_MAX, 2);
    let missed: Vec<Bug> = found.iter().filter(|it| it.broken.is_none()).map(|it| it.bug).collect();
    assert!(missed.is_empty(), "not found in {BUG_SEEDS_MAX} seeds each: {missed:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..4 {
        let options = Options::of(seed);
        assert_eq!(run(&options).hash, run(&options).hash, "seed {seed}");
    }
    assert_ne!(run(&Options::of(1)).hash, run(&Options::of(2)).hash);
}
