//! A line in the gateway's own log.

use tracing::warn;

use super::{Doubt, Sending, Sent, Tools, Way};
use crate::letter::Letter;

pub(super) const WAY: Way = Way {
    name: "log",
    // A line that is there twice does no harm.
    in_doubt: Doubt::SendAgain,
    is_for: |to| to.log == Some(true),
    send,
};

fn send<'a>(_tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        // `warn`: a notice is for a person, and is what they asked to see.
        warn!(incident.id = %letter.incident(), text = letter.work.text, "notice: {}", letter.work.title);
        Ok(Sent::new("written"))
    })
}
