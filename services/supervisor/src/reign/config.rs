//! The configuration file of the leader, on its way into the inbox.

use domain::{
    config::Config,
    event::Status,
    wire::{Command, Envelope, Input, Verb},
};
use tracing::{error, info, warn};

use super::Reign;
use crate::config_file::{Look, tell};

impl Reign {
    /// Submits the file that was read at the start, unless it was submitted before: a
    /// configuration that was applied since then counts more than an old file.
    pub(super) async fn submit_given(&mut self) {
        let Some((config, hash)) = self.given.take() else { return };
        let never = self.state.read().await.core.n_stored() == 0;
        if never || self.dir.seen_config().as_ref() != Some(&hash) {
            self.submit(config, &hash);
        }
    }

    /// Submits the file when it has changed.
    pub(super) fn look_at_file(&mut self) {
        match self.file.look() {
            Look::Same => {}
            Look::New(config, hash) => {
                info!(targets = config.targets.len(), "the configuration file has changed");
                self.submit(*config, &hash);
                self.about_us("config_refused", Status::Resolved);
            }
            Look::Refused(mistakes) => {
                error!(
                    "the configuration file is refused, the old one stays:\n{}",
                    tell(&mistakes)
                );
                self.about_us("config_refused", Status::Firing);
            }
        }
    }

    fn submit(&self, config: Config, hash: &str) {
        let verb = Verb::Configure { config: Box::new(config) };
        let command = Command::new(format!("file of {}", self.member_id), verb);
        let id = format!("configure/{hash}/{}", uuid::Uuid::now_v7());
        self.tell(vec![Envelope::new(id, Input::Command(command))]);
        if let Err(failure) = self.dir.remember_config(hash) {
            warn!(error = %failure, "cannot remember that the file was submitted");
        }
    }
}
