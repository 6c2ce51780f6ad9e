//! `token check`: asks a gateway who the holder of a token is to it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::{
    args::CheckToken,
    exit::{Exit, Failure},
    http,
    terminal::{Terminal, Tone, plain, toned},
};

/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Longest file that is taken for a token.
const FILE_BYTES_MAX: u64 = 32 * 1024;

/// Asks, and prints who it is.
///
/// # Errors
///
/// [`Exit::Usage`] without a token that may be sent, [`Exit::Refused`] when the gateway does
/// not take it, [`Exit::Unavailable`] when it does not answer.
pub(crate) async fn run(
    args: &CheckToken,
    timeout: Duration,
    terminal: Terminal,
) -> Result<(), Failure> {
    let token = token(args)?;
    let url = format!("{}/api/v1/whoami", args.gateway.trim_end_matches('/'));
    if !http::is_loopback(&url) {
        let message = format!("a token is not sent to {} in the clear", args.gateway);
        return Err(Failure::new(Exit::Usage, message)
            .hint("ask on the host of the gateway, or with `curl https://…/api/v1/whoami`"));
    }
    let (status, body) = http::get_with(&url, &token, timeout).await.map_err(|error| {
        Failure::new(Exit::Unavailable, "the gateway does not answer").because(error)
    })?;
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    if status != 200 {
        let text = |field: &str| told.get("error")?.get(field)?.as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| format!("the gateway answers {status}"));
        let failure = Failure::new(Exit::Refused, message);
        return Err(match text("hint") {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    if terminal.is_json() {
        return terminal.print_json(&told, true);
    }
    let text = |field: &str| plain(told.get(field).and_then(Value::as_str).unwrap_or("?"));
    let end = told.get("expires_at").and_then(Value::as_str);
    let end = end.map_or_else(String::new, |at| format!(", until {at}"));
    let name = toned(Tone::Good, text("name"));
    terminal.print(&format!("{name}: {}{}", text("role"), plain(&end)))
}

fn token(args: &CheckToken) -> Result<String, Failure> {
    if let Some(token) = args.token.as_deref().map(str::trim).filter(|it| !it.is_empty()) {
        return Ok(token.to_owned());
    }
    let default = || Some(std::env::home_dir()?.join(".config/selfheal/token"));
    let path = args.token_file.clone().or_else(default).filter(|it| it.exists());
    match path {
        Some(path) => read(&path),
        None => Err(Failure::new(Exit::Usage, "there is no token to send").hint(
            "set SELFHEAL_API_TOKEN, or write it into ~/.config/selfheal/token with mode 0600",
        )),
    }
}

/// Reads a token's file, if it is the owner's alone.
fn read(path: &PathBuf) -> Result<String, Failure> {
    let failed = |error| {
        let message = format!("cannot read the token from `{}`", path.display());
        Failure::new(Exit::Failed, message).because(error)
    };
    let about = fs::metadata(path).map_err(failed)?;
    if about.mode() & OTHERS != 0 {
        let message = format!("others than its owner may read or write `{}`", path.display());
        return Err(Failure::new(Exit::Refused, message).hint(format!(
            "chmod 600 {}, and make a new token if others were there",
            shell(path)
        )));
    }
    if FILE_BYTES_MAX < about.len() {
        let message = format!("`{}` is too long for a token", path.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("`{}` is empty", path.display())));
    }
    Ok(text.to_owned())
}

fn shell(path: &Path) -> String {
    format!("'{}'", path.display())
}
