//! `token check`: asks a gateway who the holder of a token is to it.

use serde_json::Value;

use crate::{
    args::{Gateway, Global},
    exit::{Exit, Failure},
    gateway::{self, Wish},
    http::Method,
    terminal::{Terminal, Tone, plain, toned},
};

/// Asks, and prints who it is.
///
/// # Errors
///
/// [`Exit::Usage`] without a token that may be sent, and as [`gateway::ask`].
pub(crate) async fn run(
    args: &Gateway,
    global: &Global,
    terminal: Terminal,
) -> Result<(), Failure> {
    let Some(token) = gateway::token(args, &global.data_dir)? else {
        return Err(Failure::new(Exit::Usage, "there is no token to send").hint(
            "set SELFHEAL_API_TOKEN, or write it into ~/.config/selfheal/token with mode 0600; \
             that of `selfheal up` is found in its --data-dir, by its owner",
        ));
    };
    let (method, path) = (Method::Get, "/api/v1/whoami");
    let wish = Wish { method, path, token: Some(&token), within: global.broker.timeout };
    let told = gateway::ask(args, wish).await?;
    if terminal.is_json() {
        return terminal.print_json(&told, true);
    }
    let text = |field: &str| plain(told.get(field).and_then(Value::as_str).unwrap_or("?"));
    let end = told.get("expires_at").and_then(Value::as_str);
    let end = end.map_or_else(String::new, |at| format!(", until {at}"));
    let name = toned(Tone::Good, text("name"));
    terminal.print(&format!("{name}: {}{}", text("role"), plain(&end)))
}
