//! The configuration file of the leader, on its way into the inbox.
//!
//! A text is submitted until the ledger says that it was decided about: what the broker does not
//! take, or forgets, is not lost. What counts as news is for [`Given::standing`] to say.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use domain::{
    config::Config,
    desk::Standing,
    event::Status,
    view::HeldConfig,
    wire::{Command, ConfigText, Envelope, Input, InputKind, Verb},
};
use service::Chain;
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant},
};
use tracing::{error, warn};

use super::Reign;
use crate::config_file::{Found, tell};

#[cfg(doc)]
use domain::desk::Given;

/// How long to wait for the decision about a text that the broker has taken, before it is
/// submitted again. To decide it twice changes nothing.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);

/// What is under way with the file.
#[derive(Debug, Default)]
pub(super) struct Submission {
    /// The text that was submitted.
    sent: Option<Sent>,
    /// The text about which something was said.
    said: Option<String>,
    /// The text of which it was reported that it is refused.
    refused: Option<String>,
    /// What was reported about a held text; `None` before anything was.
    held: Option<Option<String>>,
}

/// A text that was submitted.
#[derive(Debug)]
struct Sent {
    sha256: String,
    at: Instant,
    sending: JoinHandle<()>,
    is_taken: Arc<AtomicBool>,
}

impl Sent {
    /// Returns whether the broker has not taken it, or no decision came of it.
    fn is_lost(&self) -> bool {
        let is_taken = self.is_taken.load(Ordering::Relaxed);
        self.sending.is_finished() && (!is_taken || DECIDED_WITHIN < self.at.elapsed())
    }
}

impl Reign {
    /// Submits the text in the file when it is news, and reports what is wrong with it.
    pub(super) async fn look_at_file(&mut self) {
        let (standing, held) = {
            let state = self.state.read().await;
            let given = state.core.desk().given();
            let found = self.found.borrow().clone();
            let standing = found.map(|it| (given.standing(&it.text), it));
            (standing, given.held().cloned())
        };
        self.report_held(held.as_ref()).await;
        let Some((standing, found)) = standing else { return };
        match &found.content {
            Ok(config) => {
                if self.submission.refused.take().is_some() {
                    self.about_us("config_refused", Status::Resolved);
                }
                self.look_at_text(standing, &found, config).await;
            }
            Err(mistakes) => {
                if self.submission.refused.as_ref() != Some(&found.text.sha256) {
                    error!(
                        "the configuration file is refused, the old one stays:\n{}",
                        tell(mistakes)
                    );
                    self.about_us("config_refused", Status::Firing);
                    self.submission.refused = Some(found.text.sha256.clone());
                }
            }
        }
    }

    async fn look_at_text(&mut self, standing: Standing, found: &Arc<Found>, config: &Config) {
        match standing {
            Standing::New => self.submit(found, config),
            Standing::Decided => self.submission.sent = None,
            Standing::Superseded | Standing::Old => {
                self.submission.sent = None;
                if self.submission.said.as_ref() != Some(&found.text.sha256) {
                    self.submission.said = Some(found.text.sha256.clone());
                    if self.state.read().await.core.desk().config() == config {
                        return;
                    }
                    let hint = "it counts when the file changes, or by `selfheal apply`";
                    warn!(
                        hint,
                        "the configuration file of this host is older than the configuration in force, which stays"
                    );
                }
            }
        }
    }

    fn submit(&mut self, found: &Arc<Found>, config: &Config) {
        let sent = self.submission.sent.as_ref();
        if sent.is_some_and(|it| it.sha256 == found.text.sha256 && !it.is_lost()) {
            return;
        }
        let sha256 = found.text.sha256.clone();
        let text =
            ConfigText { sha256: sha256.clone(), followed: true, doubts: found.doubts.clone() };
        let verbs = match Verb::configure_all(config, Some(text)) {
            Ok(verbs) => verbs,
            Err(too_large) => {
                // It was checked when it was read.
                error!(error = %Chain(&too_large), "the configuration file cannot be submitted");
                return;
            }
        };
        let by = format!("file of {}", self.member_id);
        let writer = self.writer.clone();
        let is_taken = Arc::new(AtomicBool::new(false));
        let taken = is_taken.clone();
        let name = format!("configure/{sha256}/{}", uuid::Uuid::now_v7());
        let sending = self.tasks.spawn(async move {
            for (n, verb) in verbs.into_iter().enumerate() {
                let command = Input::Command(Command::new(&by, verb));
                let envelope = Envelope::new(format!("{name}/{n}"), command);
                // One after the other: the last asks for those before.
                if let Err(failure) = writer.submit(InputKind::Command, envelope).await {
                    warn!(error = %Chain(&failure), "the configuration file was not submitted, tried again");
                    return;
                }
            }
            taken.store(true, Ordering::Relaxed);
        });
        self.submission.sent = Some(Sent { sha256, at: Instant::now(), sending, is_taken });
    }

    /// Reports a text that waits for a person, and that none does any more.
    async fn report_held(&mut self, held: Option<&HeldConfig>) {
        let now = held.map(|it| it.sha256.clone());
        if self.submission.held.as_ref() == Some(&now) {
            return;
        }
        // A former leader may have reported it.
        let was_reported = match self.submission.held.replace(now) {
            Some(before) => before.is_some(),
            None => {
                let state = self.state.read().await;
                let is_it = |kind: &str| kind == "selfheal.config_held";
                state.core.desk().open_incidents().any(|it| is_it(it.event.kind.as_str()))
            }
        };
        let Some(held) = held else {
            if was_reported {
                self.about_us("config_held", Status::Resolved);
            }
            return;
        };
        let differences = held.differences.join("; ");
        let file = self.config_path.display();
        warn!(
            differences,
            hint = format!(
                "compare and confirm it with `selfheal apply {file}`, or change the file back"
            ),
            "the configuration file removes or loosens something and is not in force"
        );
        let mut event = self.event_about_us("config_held", Status::Firing);
        let summary = format!(
            "the configuration file is not in force until confirmed by `selfheal apply {file}`"
        );
        event.annotations.insert("summary".to_owned(), summary);
        event.annotations.insert("differences".to_owned(), differences);
        self.report("config_held", event);
    }
}
