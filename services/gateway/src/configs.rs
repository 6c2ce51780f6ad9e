//! `POST /api/v1/config`: a new configuration for the whole system.

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use domain::{
    config,
    wire::{Command, Verb},
};

use crate::{access::Caller, app::App, body::Whole, commands, problem::Problem};

/// Mistakes that are told in one answer.
const MISTAKES_MAX: usize = 20;

/// Takes the text of a `selfheal.yaml`, which may be JSON as well. It is checked here, where
/// the mistakes can be told with their places, and again by the supervisor.
pub(crate) async fn configure(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let text = std::str::from_utf8(&body.0).map_err(|error| {
        Problem::bad(
            "invalid_config",
            format!("the body is not UTF-8: {error}"),
            "send the file as it is",
        )
    })?;
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
    let verb = Verb::configure(config);
    commands::send(&app, &headers, Command::new(principal.by(None), verb).proven(principal.told()))
        .await
}
