//! A line in the gateway's own log.

use domain::{policy::Notifier, wire::NotifyWork};
use tracing::warn;

use super::{Sending, Tools, Way};

pub(super) const WAY: Way = Way { name: "log", send };

fn send<'a>(_tools: &'a Tools, work: &'a NotifyWork, to: &'a Notifier) -> Option<Sending<'a>> {
    if to.log != Some(true) {
        return None;
    }
    Some(Box::pin(async move {
        // `warn`: a notice is for a person, and is what they asked to see.
        warn!(incident.id = %work.work.incident, text = work.text, "notice: {}", work.title);
        Ok("written".to_owned())
    }))
}
