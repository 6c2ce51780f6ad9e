//! Asking the supervisor, through the broker.

use std::time::Duration;

use axum::http::StatusCode;
use bus::{Asked, Error, NotAccepted, topology::FRAME_BYTES_MAX};
use bytes::Bytes;
use domain::{
    view::Query,
    wire::{Answer, Input},
};
use serde::de::DeserializeOwned;
use service::{Chain, trace};
use tracing::warn;

use crate::{app::App, problem::Problem};

/// How long a question may take; supervisors answer from memory.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// When a client may try again while no supervisor or no broker is there. A standby
/// takes over within about 2 s.
const RETRY_AFTER_S: u16 = 2;

/// When a client may try again while the inbox is full: the supervisor purges it in minutes.
const RETRY_AFTER_FULL_S: u16 = 30;

impl App {
    /// Puts an input into the inbox and waits for the supervisor's answer.
    ///
    /// `None`: the broker has it, and nobody answered in time.
    pub(crate) async fn ask(&self, input: Input, id: String) -> Result<Option<Answer>, Problem> {
        let (named, timeout) = ((id, trace::current()), self.answer_timeout());
        let asked = self.bus().ask_traced::<Answer>(&self.writer(), input, named, timeout).await;
        match asked {
            Ok(Asked::Answer(answer)) => Ok(Some(answer)),
            Ok(Asked::Accepted) => Ok(None),
            Err(error) => Err(not_accepted(&error)),
        }
    }

    /// Asks any supervisor and returns its answer as it came.
    pub(crate) async fn query_raw(&self, query: &Query) -> Result<Bytes, Problem> {
        let question = serde_json::to_vec(query).map_err(|error| defect(&error))?;
        let subject = self.bus().subjects().query(query.subject());
        let asked = self.bus().request(subject, question.into(), QUERY_TIMEOUT).await;
        asked.map_err(|error| {
            warn!(error = %Chain(&error), what = query.subject(), "a question was not answered");
            if let Error::Refused { message, .. } = error {
                return Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "question_refused",
                    message,
                    "see that gateway and supervisor have the same version",
                );
            }
            Problem::later(
                "no_supervisor",
                "no supervisor answers",
                "see GET /api/v1/status and the supervisor's log; events are still accepted",
                RETRY_AFTER_S,
            )
        })
    }

    /// Asks any supervisor.
    pub(crate) async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<T, Problem> {
        let answer = self.query_raw(query).await?;
        serde_json::from_slice(&answer).map_err(|error| defect(&error))
    }
}

/// 503 or 413: what the broker did not take.
pub(crate) fn not_accepted(error: &Error) -> Problem {
    warn!(error = %Chain(error), "an input was not accepted");
    let unavailable = || {
        Problem::later(
            "broker_unavailable",
            "the broker did not confirm; it is not known whether it has this",
            "send the same event with the same `id` again after the time in Retry-After: it counts once",
            RETRY_AFTER_S,
        )
    };
    let Error::NotAccepted(refusal) = error else { return unavailable() };
    match refusal {
        NotAccepted::Full(_) => Problem::later(
            "inbox_full",
            "the broker's inbox is full; nothing was accepted",
            "send it again after the time in Retry-After; see whether a supervisor runs and the broker's disk has room",
            RETRY_AFTER_FULL_S,
        ),
        NotAccepted::Unavailable(_) => unavailable(),
        NotAccepted::TooLarge { .. } => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "event_too_large",
            format!("one event may have {FRAME_BYTES_MAX} bytes"),
            "send the part that matters, and a link to the rest",
        ),
        NotAccepted::Unwritable(_) => defect(refusal),
    }
}

/// 502: what a supervisor said is not what we understand.
pub(crate) fn defect(error: &(dyn std::error::Error + 'static)) -> Problem {
    warn!(error = %Chain(error), "an answer of a supervisor cannot be read");
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "answer_unreadable",
        "the supervisor's answer cannot be read",
        "see that gateway and supervisor have the same version",
    )
}
