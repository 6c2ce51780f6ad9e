//! `notify test`: whether somebody can be told, before it matters.

use std::time::Duration;

use serde_json::Value;

use crate::{
    args::{Global, TestNotify},
    exit::Failure,
    gateway::{self, Wish},
    http::Method,
    terminal::{Terminal, Tone, plain, toned},
};

/// How long it may take at least: a gateway tries several times, and mail servers take theirs.
const WITHIN: Duration = Duration::from_secs(120);

/// Tells a receiver that this is a test, and prints how it went.
///
/// # Errors
///
/// As [`gateway::ask`]: among them that there is no such receiver, and that it could not be told.
pub(crate) async fn run(
    args: &TestNotify,
    global: &Global,
    terminal: Terminal,
) -> Result<(), Failure> {
    let token = gateway::token(&args.at, &global.data_dir)?;
    let wish = Wish {
        method: Method::Post,
        path: &format!("/api/v1/receivers/{}/test", args.name),
        token: token.as_deref(),
        within: global.broker.timeout.max(WITHIN),
    };
    let told = gateway::ask(&args.at, wish).await?;
    if terminal.is_json() {
        return terminal.print_json(&told, true);
    }
    let text = |field: &str| plain(told.get(field).and_then(Value::as_str).unwrap_or("?"));
    let name = toned(Tone::Good, text("receiver"));
    terminal.print(&format!("{name} was notified by {}: {}", text("way"), text("told")))
}
