//! Deliberate mistakes, to see that the simulation finds them.
//!
//! Each sits where a shell uses its core: the answer, order or position that the core gave
//! is used wrongly. Without a bug these places do nothing.

use std::{fmt, str::FromStr};

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The gateway answers before the broker has acknowledged.
    AnswerBeforeAppend,
    /// Hands acknowledge their work before the report is stored.
    AckBeforeStore,
    /// The fixer carries an order out without a claim.
    FixerSkipsClaim,
    /// The fixer begins orders that are too old.
    FixerIgnoresNotAfter,
    /// The leader appends without the expected last sequence.
    AppendWithoutExpectation,
    /// A new leader reads the inbox from where it does not know, and decides twice.
    PositionForgotten,
    /// A standby that begins to lead goes on behind the newest input.
    StandbyStartsAtEnd,
    /// Verification counts samples from before the fix.
    OldSamplesCount,
    /// The soak time counts from the question, not from the answer.
    SoakFromTheQuestion,
    /// After a failed attempt the next one begins without asking the guards.
    GuardsSkippedForRetries,
    /// A leader that took over tells no deadlines.
    TimersLostAtFailover,
    /// Answers go out before the lines of the log are on disk.
    LogSyncedLate,
    /// What is pending is published again as a new attempt.
    WishUnderNewId,
    /// An event that is sent again counts as a new one.
    DedupeDropped,
    /// An approval counts for whatever plan there is now.
    ApprovalOfAnyPlan,
    /// Decisions are used before the ledger has them.
    WishBeforeAppend,
    /// A leader does not say that it took over: deadlines count from before.
    DeadlinesFromBefore,
    /// What was ordered is not withdrawn when fixes are paused.
    PauseRecallsNothing,
    /// A fixer does not ask for its claim before each step, and who is silent counts as gone.
    StepsWithoutLease,
    /// A step that failed is not taken back itself.
    FailedStepStays,
    /// An alert that no check measures is closed because the checks pass.
    PassingChecksProveAnything,
    /// What was not seen in time counts as well.
    UnseenCountsAsWell,
    /// Nobody looks again after an incomplete look.
    IncompleteLookIsFinal,
    /// What a fixer refuses counts as a failed fix.
    RefusalIsFailure,
    /// Labels do not find a target when the event names another.
    LabelsIgnored,
    /// The fingerprint of an event depends on the configuration.
    FingerprintOfTheConfigured,
    /// The end of a silence decides more than the ledger takes, again and again.
    QuietEndsAtOnce,
    /// A configuration file that is half written is taken.
    HalfFileTaken,
    /// Who begins to lead submits its file, however old.
    OldFileAtFailover,
    /// A file counts as submitted although the broker has not taken it.
    EditRememberedTooEarly,
    /// A large configuration is sent in one message.
    ConfigInOnePiece,
    /// All work has one queue, and what is pending is published again whether or not it is there.
    OneQueueForAll,
    /// Only an agent on the same host stands for one that is missed.
    SameHostOnly,
    /// Of a sender that says again and again that something goes on, only the first word counts.
    RepeatsForgotten,
    /// A command that is refused leaves no decision.
    RefusedCommandsForgotten,
    /// A process is known by its number alone.
    NumberIsIdentity,
    /// A fixer starts what is dead without looking whether somebody else has started it.
    StartWithoutLook,
    /// The ledger is shortened by the number of its messages, whatever their size.
    PurgeCountedInMessages,
    /// The ledger is shortened by its snapshots, whatever the log lacks.
    PurgeBySnapshotsOnly,
    /// All that is kept quiet is one line of a snapshot.
    SnapshotLineWithoutBound,
    /// An event without an id is called after its place in the inbox, whichever inbox that is.
    InboxIdWithoutTime,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::AnswerBeforeAppend,
        Self::AckBeforeStore,
        Self::FixerSkipsClaim,
        Self::FixerIgnoresNotAfter,
        Self::AppendWithoutExpectation,
        Self::PositionForgotten,
        Self::StandbyStartsAtEnd,
        Self::OldSamplesCount,
        Self::SoakFromTheQuestion,
        Self::GuardsSkippedForRetries,
        Self::TimersLostAtFailover,
        Self::LogSyncedLate,
        Self::WishUnderNewId,
        Self::DedupeDropped,
        Self::ApprovalOfAnyPlan,
        Self::WishBeforeAppend,
        Self::DeadlinesFromBefore,
        Self::PauseRecallsNothing,
        Self::StepsWithoutLease,
        Self::FailedStepStays,
        Self::PassingChecksProveAnything,
        Self::UnseenCountsAsWell,
        Self::IncompleteLookIsFinal,
        Self::RefusalIsFailure,
        Self::LabelsIgnored,
        Self::FingerprintOfTheConfigured,
        Self::QuietEndsAtOnce,
        Self::HalfFileTaken,
        Self::OldFileAtFailover,
        Self::EditRememberedTooEarly,
        Self::ConfigInOnePiece,
        Self::NumberIsIdentity,
        Self::StartWithoutLook,
        Self::OneQueueForAll,
        Self::SameHostOnly,
        Self::RepeatsForgotten,
        Self::RefusedCommandsForgotten,
        Self::PurgeCountedInMessages,
        Self::PurgeBySnapshotsOnly,
        Self::SnapshotLineWithoutBound,
        Self::InboxIdWithoutTime,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnswerBeforeAppend => "answer-before-append",
            Self::AckBeforeStore => "ack-before-store",
            Self::FixerSkipsClaim => "fixer-skips-claim",
            Self::FixerIgnoresNotAfter => "fixer-ignores-not-after",
            Self::AppendWithoutExpectation => "append-without-expectation",
            Self::PositionForgotten => "position-forgotten",
            Self::StandbyStartsAtEnd => "standby-starts-at-end",
            Self::OldSamplesCount => "old-samples-count",
            Self::SoakFromTheQuestion => "soak-from-the-question",
            Self::GuardsSkippedForRetries => "guards-skipped-for-retries",
            Self::TimersLostAtFailover => "timers-lost-at-failover",
            Self::LogSyncedLate => "log-synced-late",
            Self::WishUnderNewId => "wish-under-new-id",
            Self::DedupeDropped => "dedupe-dropped",
            Self::ApprovalOfAnyPlan => "approval-of-any-plan",
            Self::WishBeforeAppend => "wish-before-append",
            Self::DeadlinesFromBefore => "deadlines-from-before",
            Self::PauseRecallsNothing => "pause-recalls-nothing",
            Self::StepsWithoutLease => "steps-without-lease",
            Self::FailedStepStays => "failed-step-stays",
            Self::ConfigInOnePiece => "config-in-one-piece",
            Self::NumberIsIdentity => "number-is-identity",
            Self::StartWithoutLook => "start-without-look",
            Self::SameHostOnly => "same-host-only",
            Self::RepeatsForgotten => "repeats-forgotten",
            Self::RefusedCommandsForgotten => "refused-commands-forgotten",
            Self::OneQueueForAll => "one-queue-for-all",
            Self::PurgeCountedInMessages => "purge-counted-in-messages",
            Self::PurgeBySnapshotsOnly => "purge-by-snapshots-only",
            Self::SnapshotLineWithoutBound => "snapshot-line-without-bound",
            Self::InboxIdWithoutTime => "inbox-id-without-time",
            Self::EditRememberedTooEarly => "edit-remembered-too-early",
            Self::OldFileAtFailover => "old-file-at-failover",
            Self::HalfFileTaken => "half-file-taken",
            Self::QuietEndsAtOnce => "quiet-ends-at-once",
            Self::FingerprintOfTheConfigured => "fingerprint-of-the-configured",
            Self::LabelsIgnored => "labels-ignored",
            Self::RefusalIsFailure => "refusal-is-failure",
            Self::IncompleteLookIsFinal => "incomplete-look-is-final",
            Self::UnseenCountsAsWell => "unseen-counts-as-well",
            Self::PassingChecksProveAnything => "passing-checks-prove-anything",
        }
    }

    /// Returns what is wrong, in a sentence.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub const fn what(self) -> &'static str {
        match self {
            Self::AnswerBeforeAppend => "the gateway answers before the broker has acknowledged",
            Self::AckBeforeStore => "hands acknowledge their work before the report is stored",
            Self::FixerSkipsClaim => "the fixer carries an order out without a claim",
            Self::FixerIgnoresNotAfter => "the fixer begins orders that are too old",
            Self::AppendWithoutExpectation => {
                "the leader appends without the expected last sequence"
            }
            Self::PositionForgotten => "a new leader forgets the position and decides inputs twice",
            Self::StandbyStartsAtEnd => {
                "a standby that begins to lead goes on behind the newest input"
            }
            Self::OldSamplesCount => "verification counts samples from before the fix",
            Self::SoakFromTheQuestion => "the soak time counts from the question, not the answer",
            Self::GuardsSkippedForRetries => {
                "after a failed attempt the next begins without the guards"
            }
            Self::TimersLostAtFailover => "a leader that took over tells no deadlines",
            Self::LogSyncedLate => "answers go out before the lines of the log are on disk",
            Self::WishUnderNewId => "what is pending is published again as a new attempt",
            Self::DedupeDropped => "an event that is sent again counts as a new one",
            Self::ApprovalOfAnyPlan => "an approval counts for whatever plan there is now",
            Self::WishBeforeAppend => "work is published before the ledger has its decision",
            Self::DeadlinesFromBefore => {
                "deadlines of what waited while nobody led are over at the take-over"
            }
            Self::PauseRecallsNothing => "what was ordered begins although fixes were stopped",
            Self::StepsWithoutLease => {
                "a fixer that was cut off goes on beside the one that took over"
            }
            Self::PassingChecksProveAnything => {
                "an alert that no check measures is closed because the checks pass"
            }
            Self::UnseenCountsAsWell => "what was not seen in time counts as well",
            Self::IncompleteLookIsFinal => "after an incomplete look a person is asked at once",
            Self::RefusalIsFailure => "what a fixer refuses counts as a failed fix",
            Self::LabelsIgnored => {
                "labels do not find a target when the event names something else"
            }
            Self::FingerprintOfTheConfigured => {
                "the fingerprint of an event changes with the configuration"
            }
            Self::QuietEndsAtOnce => {
                "the end of a silence decides more than the ledger takes, again and again"
            }
            Self::HalfFileTaken => "a configuration file that is half written is taken",
            Self::OldFileAtFailover => {
                "whoever begins to lead submits its file, however old that is"
            }
            Self::EditRememberedTooEarly => {
                "an edit counts as submitted although the broker has not taken it"
            }
            Self::ConfigInOnePiece => "a configuration is sent in one message, however large it is",
            Self::NumberIsIdentity => "a process is known by its number alone, which is used again",
            Self::RepeatsForgotten => {
                "what is kept quiet ends by its sender's first word, whatever it says later"
            }
            Self::RefusedCommandsForgotten => "a command that is refused leaves no line in the log",
            Self::SameHostOnly => "only an agent on the same host replaces one that is missed",
            Self::OneQueueForAll => {
                "all work has one queue, and is published again although it is still there"
            }
            Self::StartWithoutLook => {
                "a target is started without looking whether it runs and who holds its port"
            }
            Self::PurgeCountedInMessages => {
                "the ledger is shortened by the number of its messages, however large they are"
            }
            Self::PurgeBySnapshotsOnly => {
                "the ledger is shortened behind snapshots, whatever the log lacks"
            }
            Self::SnapshotLineWithoutBound => {
                "all that is kept quiet is one line of a snapshot, however long"
            }
            Self::InboxIdWithoutTime => {
                "an event without an id is called after its place in the inbox, in whichever inbox"
            }
            Self::FailedStepStays => "a step that failed half-way is not taken back itself",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|it| it.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|it| it.as_str()).collect();
            format!("`{text}` is no bug of ours; use one of {}", names.join(", "))
        })
    }
}
