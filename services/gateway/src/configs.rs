//! `POST /api/v1/config`: a new configuration for the whole system.

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use domain::{
    config,
    wire::{Command, ConfigText, Input, Verb},
};
use uuid::Uuid;

use crate::{access::Caller, app::App, body::Group, commands, problem::Problem};

/// Mistakes that are told in one answer.
const MISTAKES_MAX: usize = 20;

/// Takes the text of a `selfheal.yaml`, which may be JSON as well. It is checked here, where
/// the mistakes can be told with their places, and again by the supervisor.
pub(crate) async fn configure(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let text = std::str::from_utf8(&body.0).map_err(|error| {
        Problem::bad(
            "invalid_config",
            format!("the body is not UTF-8: {error}"),
            "send the file as it is",
        )
    })?;
    let given = ConfigText::given(text);
    let config = config::parse(text).map_err(|mistakes| {
        let told: Vec<_> = mistakes
            .iter()
            .take(MISTAKES_MAX)
            .map(|it| format!("{}:{}: {}", it.line, it.column, it.message))
            .collect();
        let hint = mistakes.first().map(|it| it.hint.clone()).unwrap_or_default();
        Problem::bad("invalid_config", told.join("; "), hint)
    })?;
    let principal = caller.require_any()?;
    let mut verbs = Verb::configure_all(&config, Some(given)).map_err(|error| {
        let hint = "shorten its texts, or name a file in place of what it holds";
        Problem::bad("invalid_config", error.to_string(), hint)
    })?;
    let Some(last) = verbs.pop() else {
        return Err(Problem::bad("invalid_config", "it is empty", "send the file as it is"));
    };
    let command = |verb| Command::new(principal.by(None), verb).proven(principal.told());
    for verb in verbs {
        // A part is stored before the rest, which names it.
        let id = Uuid::now_v7().to_string();
        app.ask(Input::Command(command(verb)), id).await?;
    }
    commands::send(&app, &headers, command(last)).await
}
