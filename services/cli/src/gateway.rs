//! Asking a gateway of this host, by HTTP, as whoever has a token.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    args::Gateway,
    exit::{Exit, Failure},
    http::{self, Method},
    up::api_token,
};

/// What is wanted of a gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// How.
    pub(crate) method: Method,
    /// Path, from the root.
    pub(crate) path: &'a str,
    /// With which token; a gateway that asks for none takes whoever is on its host.
    pub(crate) token: Option<&'a str>,
    /// How long the answer may take.
    pub(crate) within: Duration,
}

/// Asks, and returns what is answered.
///
/// # Errors
///
/// [`Exit::Usage`] when a token would be sent in the clear, [`Exit::NotFound`] and
/// [`Exit::Refused`] as the gateway says, [`Exit::Unavailable`] when it does not answer or
/// cannot tell now, and [`Exit::Failed`] when it tried in vain.
pub(crate) async fn ask(at: &Gateway, wish: Wish<'_>) -> Result<Value, Failure> {
    let url = format!("{}{}", at.gateway.trim_end_matches('/'), wish.path);
    if !http::is_loopback(&url) {
        let what = if wish.token.is_some() { "a token is not sent" } else { "nothing is sent" };
        let message = format!("{what} to {} in the clear", at.gateway);
        return Err(Failure::new(Exit::Usage, message).hint(format!(
            "ask on the host of the gateway, or with `curl https://…{}`",
            wish.path
        )));
    }
    let answer = http::call(wish.method, &url, wish.token, wish.within).await;
    let (status, body) = answer.map_err(|error| {
        Failure::new(Exit::Unavailable, "the gateway does not answer").because(error)
    })?;
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == 200 {
        return Ok(told);
    }
    let text = |field: &str| told.get("error")?.get(field)?.as_str().map(str::to_owned);
    let message = text("message").unwrap_or_else(|| format!("the gateway answers {status}"));
    let exit = match status {
        404 => Exit::NotFound,
        502 => Exit::Failed,
        503 => Exit::Unavailable,
        _ => Exit::Refused,
    };
    let failure = Failure::new(exit, message);
    Err(match text("hint") {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Returns the token that was given, that of the `up` of a data directory if it is ours, or that
/// of the owner's file; `None` when there is none.
///
/// # Errors
///
/// When a file cannot be read, or is not the owner's alone.
pub(crate) fn token(at: &Gateway, data_dir: &Path) -> Result<Option<String>, Failure> {
    if let Some(token) = at.token.as_deref().map(str::trim).filter(|it| !it.is_empty()) {
        return Ok(Some(token.to_owned()));
    }
    if let Some(path) = at.token_file.as_deref().filter(|it| !it.as_os_str().is_empty()) {
        return read(path).map(Some);
    }
    if let Some(token) = api_token::found(data_dir)? {
        return Ok(Some(token));
    }
    let default = std::env::home_dir().map(|it| it.join(".config/selfheal/token"));
    default.filter(|it| it.exists()).map(|it| read(&it)).transpose()
}

/// Reads a token's file, if it is the owner's alone.
fn read(path: &Path) -> Result<String, Failure> {
    let text = private::read_secret(path).map_err(|error| {
        let is_refused = error.kind() == std::io::ErrorKind::PermissionDenied;
        let exit = if is_refused { Exit::Refused } else { Exit::Failed };
        let message = format!("cannot read the token from `{}`", path.display());
        Failure::new(exit, message).because(error)
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("`{}` is empty", path.display())));
    }
    Ok(text.to_owned())
}
