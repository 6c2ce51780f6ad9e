//! The ways to tell somebody. [`crate::outbox`] takes notices from the queue and reports them.
//!
//! To add a way, write one file and add its two lines below.

mod alertmanager;
mod email;
mod log;
mod pagerduty;
mod slack;
mod teams;
mod webhook;

use std::pin::Pin;

use domain::{notify::Receiver, secret::SecretRef};
use service::{
    Chain, Secret,
    outgoing::{Client, Outgoing},
    read_secret,
};

use crate::{
    letter::Letter,
    outgoing::{ATTEMPT_TIME_MAX, Trouble},
};

/// All ways.
const WAYS: [Way; 7] =
    [alertmanager::WAY, email::WAY, log::WAY, pagerduty::WAY, slack::WAY, teams::WAY, webhook::WAY];

/// One way to tell somebody.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// What is done with a notice that somebody who is gone may have sent.
    in_doubt: Doubt,
    /// Whether a receiver asks for this way.
    is_for: fn(&Receiver) -> bool,
    send: for<'a> fn(&'a Tools, &'a Letter<'a>) -> Sending<'a>,
}

/// What is done with a notice that somebody who is gone may have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It is sent again: the receiver knows a repetition, or it does no harm.
    SendAgain,
    /// The way looks whether it was sent, and sends it if not.
    Look,
    /// It is not sent again, and reported as unknown: nobody is told twice.
    Leave,
}

/// A notice on its way.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<Sent, Failure>> + Send + 'a>>;

/// A notice that was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// What is told in the log.
    pub(crate) told: String,
    /// What the way must know to go on.
    pub(crate) keep: Option<String>,
}

/// A notice that was not sent, or nobody knows.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why, without anything secret.
    pub(crate) reason: String,
    /// Whether sending it again is of use and tells nobody twice.
    pub(crate) again: bool,
    /// What the way must know to go on, when something was sent.
    pub(crate) keep: Option<String>,
}

impl Sent {
    fn new(told: impl Into<String>) -> Self {
        Self { told: told.into(), keep: None }
    }
}

impl Failure {
    /// It was certainly not sent.
    fn not_sent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), again: true, keep: None }
    }

    /// It may have been sent, and must not be sent again.
    fn unknown(reason: impl Into<String>) -> Self {
        let reason = format!("it may have arrived, so it is not sent again: {}", reason.into());
        Self { reason, again: false, keep: None }
    }

    /// Of a request that brought nothing, to a receiver that knows no repetitions.
    fn once(trouble: Trouble) -> Self {
        if trouble.may_have_arrived {
            Self::unknown(trouble.reason)
        } else {
            Self::not_sent(trouble.reason)
        }
    }
}

/// What the ways share.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    http: Client,
    outgoing: Outgoing,
}

impl Tools {
    /// Prepares them.
    pub(crate) fn new(outgoing: &Outgoing) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .timeout(ATTEMPT_TIME_MAX)
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")));
        // Where a notice goes is configured; a receiver does not send it on by a redirect.
        let http = outgoing.client(builder)?;
        Ok(Self { http, outgoing: outgoing.clone() })
    }
}

/// Reads a secret of a receiver.
fn secret(reference: &SecretRef) -> Result<Secret, Failure> {
    read_secret(reference).map_err(|error| Failure::not_sent(Chain(&error).to_string()))
}

/// Returns the name of a receiver's way.
pub(crate) fn name_of(to: &Receiver) -> &'static str {
    WAYS.iter().find(|way| (way.is_for)(to)).map_or("nothing", |way| way.name)
}

/// Sends a letter by its receiver's way.
pub(crate) async fn deliver(tools: &Tools, letter: &Letter<'_>) -> Result<Sent, Failure> {
    let Some(way) = WAYS.iter().find(|way| (way.is_for)(letter.to)) else {
        return Err(Failure::not_sent("this version knows no way to this receiver"));
    };
    if letter.in_doubt && way.in_doubt == Doubt::Leave {
        return Err(Failure::unknown("the gateway that was about to send it is gone"));
    }
    (way.send)(tools, letter).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_the_folder_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/notifiers");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut listed = WAYS.map(|way| way.name.to_owned());
        listed.sort();
        assert_eq!(files, listed);
    }
}
