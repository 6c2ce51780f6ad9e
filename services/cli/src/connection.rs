//! The way to the system: connect, ask, order.

use std::time::Duration;

use bus::{Asked, Bus, Error};
use bytes::Bytes;
use domain::{
    access::Proof,
    config::Config,
    id::IncidentId,
    view::{Filter, Page, Query},
    wire::{Answer, AnswerStatus, Command, Input, Verb},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    args::Global,
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, plain, toned},
};

/// What to do when nothing answers.
const NOBODY: &str =
    "is the system running? Start it with `selfheal up`, or say where it is with --nats-url";

/// What to do when the broker knows others, and not us.
const STRANGER: &str = "the broker of `selfheal up` lets in its owner alone: run this as the user who started it, with the same --data-dir";

/// A connection, and how long answers may take.
#[derive(Debug)]
pub(crate) struct System {
    /// The broker.
    pub(crate) bus: Bus,
    /// How long one answer may take.
    pub(crate) timeout: Duration,
    /// How to show what came back.
    pub(crate) terminal: Terminal,
}

impl System {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`] when there is no broker that can be used.
    pub(crate) async fn connect(global: &Global, terminal: Terminal) -> Result<Self, Failure> {
        Self::connect_as("cli", global, terminal).await
    }

    /// Connects in the role of another part, whose user is allowed more.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub(crate) async fn connect_as(
        role: &str,
        global: &Global,
        terminal: Terminal,
    ) -> Result<Self, Failure> {
        let flags = &global.broker;
        let options = global.broker_options(role)?;
        let connected = tokio::time::timeout(flags.timeout, bus::connect(&options)).await;
        let bus = connected
            .map_err(|_elapsed| {
                let ms = flags.timeout.as_millis();
                Failure::new(Exit::Unavailable, format!("no broker answers within {ms} ms"))
                    .hint(NOBODY)
            })?
            .map_err(|error| {
                let is_stranger = matches!(error, Error::Credentials { .. }) && !flags.is_given();
                let failure = of_bus("cannot use the broker", error);
                if is_stranger { failure.hint(STRANGER) } else { failure }
            })?;
        Ok(Self { bus, timeout: flags.timeout, terminal })
    }

    /// Asks any supervisor.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`] when none answers.
    pub(crate) async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<T, Failure> {
        let question = serde_json::to_vec(query).map_err(|error| {
            Failure::new(Exit::Failed, "cannot write the question").because(error)
        })?;
        let subject = self.bus.subjects().query(query.subject());
        let answer = self.bus.request(subject, Bytes::from(question), self.timeout).await;
        let answer = answer.map_err(|error| of_bus("no supervisor answers", error))?;
        serde_json::from_slice(&answer).map_err(|error| {
            Failure::new(Exit::Failed, "cannot read the supervisor's answer")
                .hint("see with `selfheal status` whether all parts have the same version")
                .because(error)
        })
    }

    /// Finds the incident that a person means by an id or a part of one.
    ///
    /// # Errors
    ///
    /// [`Exit::NotFound`] when there is none, [`Exit::Usage`] when there are several.
    pub(crate) async fn find(&self, text: &str) -> Result<IncidentId, Failure> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let wanted = text.to_ascii_lowercase();
        let filter =
            Filter { q: Some(wanted.clone()), limit: Some(Filter::LIMIT_MAX), ..Filter::default() };
        let page: Page = self.query(&Query::Incidents(filter)).await?;
        the_one(
            text,
            page.incidents.iter().map(|it| it.id).filter(|id| id.to_string().contains(&wanted)),
        )
    }

    /// Stores an input and returns the supervisor's answer; `None` when it is stored, but nobody answered in time.
    ///
    /// # Errors
    ///
    /// [`Exit::Unavailable`] when the broker did not take it.
    pub(crate) async fn ask(&self, input: Input, id: String) -> Result<Option<Answer>, Failure> {
        let writer = self.bus.inbox_writer();
        match self.bus.ask::<Answer>(&writer, input, id, self.timeout).await {
            Ok(Asked::Answer(answer)) => Ok(Some(answer)),
            Ok(Asked::Accepted) => Ok(None),
            Err(error) => Err(of_bus("the broker did not take it", error)),
        }
    }

    /// Gives a command, and prints the supervisor's answer.
    ///
    /// # Errors
    ///
    /// When it was refused, or nobody answers.
    pub(crate) async fn command(&self, by: &str, verb: Verb) -> Result<(), Failure> {
        let command = Command::new(by, verb).proven(Proof::Broker);
        let id = format!("cli-{}", Uuid::new_v4());
        match self.ask(Input::Command(command), id).await? {
            Some(answer) => self.show(&answer),
            None => Err(Failure::new(
                Exit::Unavailable,
                "the command is stored, but no supervisor answered in time",
            )
            .hint("it will be carried out as soon as one leads; see `selfheal status`")),
        }
    }

    /// Gives commands one after the other, as long as they are carried out, and prints the
    /// answer to the last one.
    ///
    /// # Errors
    ///
    /// As [`Self::command`].
    pub(crate) async fn commands(&self, by: &str, mut verbs: Vec<Verb>) -> Result<(), Failure> {
        let Some(last) = verbs.pop() else { return Ok(()) };
        for verb in verbs {
            let command = Command::new(by, verb).proven(Proof::Broker);
            let id = format!("cli-{}", Uuid::new_v4());
            // Without an answer it is stored all the same, before the next one.
            let answer = self.ask(Input::Command(command), id).await?;
            if let Some(answer) = answer.filter(|it| exit_of(it.status) != Exit::Success) {
                return self.show(&answer);
            }
        }
        self.command(by, last).await
    }

    /// Returns the configuration in force, as the agents read it; `None` when it cannot be had
    /// in time.
    pub(crate) async fn configuration(&self) -> Option<Config> {
        configuration(&self.bus, self.timeout).await
    }

    /// Prints an answer, and turns a refusal into a failure.
    ///
    /// # Errors
    ///
    /// [`Exit::Refused`] and [`Exit::NotFound`].
    pub(crate) fn show(&self, answer: &Answer) -> Result<(), Failure> {
        let exit = exit_of(answer.status);
        if self.terminal.is_json() {
            self.terminal.print_json(answer, true)?;
            return if exit == Exit::Success { Ok(()) } else { Err(Failure::silent(exit)) };
        }
        if exit != Exit::Success {
            return Err(Failure::new(exit, answer.message.clone()));
        }
        self.terminal.print(&answer_text(answer))
    }
}

/// Returns the configuration in force, as the agents read it; `None` when it cannot be had in
/// time.
pub(crate) async fn configuration(bus: &Bus, within: Duration) -> Option<Config> {
    let (configs, looked) = bus.config_store().watch_from_the_first_look();
    tokio::time::timeout(within, looked).await.ok()?.ok()?;
    let (_, text) = configs.borrow().clone()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the only one, or why there is none.
fn the_one(text: &str, mut found: impl Iterator<Item = IncidentId>) -> Result<IncidentId, Failure> {
    match (found.next(), found.count()) {
        (Some(id), 0) => Ok(id),
        (Some(_), n) => {
            Err(Failure::new(Exit::Usage, format!("`{text}` is part of {} incidents' ids", n + 1))
                .hint("write more of it; `selfheal incidents ls` shows ids"))
        }
        (None, _) => Err(Failure::new(Exit::NotFound, format!("there is no incident `{text}`"))
            .hint("`selfheal incidents ls` shows ids")),
    }
}

fn exit_of(status: AnswerStatus) -> Exit {
    match status {
        AnswerStatus::IncidentOpened
        | AnswerStatus::IncidentUpdated
        | AnswerStatus::IncidentResolved
        | AnswerStatus::Suppressed
        | AnswerStatus::Done => Exit::Success,
        AnswerStatus::Refused => Exit::Refused,
        AnswerStatus::NotFound => Exit::NotFound,
    }
}

fn answer_text(answer: &Answer) -> String {
    let (tone, word) = match answer.status {
        AnswerStatus::IncidentOpened => (Tone::Notice, "incident opened:"),
        AnswerStatus::IncidentUpdated => (Tone::Notice, "incident updated:"),
        AnswerStatus::IncidentResolved => (Tone::Good, "incident resolved:"),
        AnswerStatus::Suppressed => (Tone::Faint, "suppressed:"),
        AnswerStatus::Done => (Tone::Good, "done:"),
        AnswerStatus::Refused => (Tone::Bad, "refused:"),
        AnswerStatus::NotFound => (Tone::Bad, "not found:"),
    };
    let mut text = format!("{} {}", toned(tone, word), plain(&answer.message));
    if let Some(id) = answer.incident_id {
        text.push_str("\nincident ");
        text.push_str(&id.to_string());
    }
    text
}

/// Turns an error of the bus into a failure with its exit code and hint.
pub(crate) fn of_bus(what: &str, error: Error) -> Failure {
    let exit = match &error {
        Error::TooOld { .. }
        | Error::JetStreamOff { .. }
        | Error::Credentials { .. }
        | Error::NotStored { .. }
        | Error::NotAccepted(_)
        | Error::NoAnswer { .. }
        | Error::NoResponder { .. }
        | Error::Client { .. } => Exit::Unavailable,
        Error::Option { .. } => Exit::Usage,
        Error::Topology { .. }
        | Error::Incompatible { .. }
        | Error::LogLost { .. }
        | Error::LogPurged { .. }
        | Error::TooLarge { .. }
        | Error::ClaimUnknown(_)
        | Error::Refused { .. }
        | Error::NotBelieved { .. }
        | Error::Unreadable { .. } => Exit::Failed,
    };
    let nobody = matches!(error, Error::NoAnswer { .. } | Error::NoResponder { .. });
    let hint = if nobody { Some(NOBODY) } else { error.hint() };
    let failure = Failure::new(exit, what);
    let failure = match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    };
    failure.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(texts: &[&str]) -> Vec<IncidentId> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_part_of_an_id_must_mean_one_incident() {
        let all =
            ids(&["01990000-0000-7000-8000-00000000000a", "01990000-0000-7000-8000-00000000000b"]);
        assert_eq!(the_one("a", all.iter().copied().take(1)).unwrap(), all[0]);
        assert_eq!(the_one("0", all.iter().copied()).unwrap_err().exit(), Exit::Usage);
        assert_eq!(the_one("x", all.iter().copied().take(0)).unwrap_err().exit(), Exit::NotFound);
    }

    #[test]
    fn a_refusal_is_told_by_the_exit_code() {
        assert_eq!(exit_of(AnswerStatus::Refused), Exit::Refused);
        assert_eq!(exit_of(AnswerStatus::NotFound), Exit::NotFound);
        assert_eq!(exit_of(AnswerStatus::Done), Exit::Success);
    }
}
