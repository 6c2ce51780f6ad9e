//! From the words of the command line to values, with what was expected when a word is none.

use std::time::Duration;

use bus::roles::Role;
use domain::{
    access::{self, is_token_name},
    event::Severity,
    view::Status,
};

/// Reads a JSON value.
pub(super) fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}; quote it for the shell, such as '{{\"a\": 1}}'"))
}

/// Reads a word as serde knows it, and names the choices when there is no such word.
fn word<T: serde::de::DeserializeOwned>(text: &str, choices: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_unknown| format!("expected one of: {choices}"))
}

/// Reads how bad something is.
pub(super) fn severity(text: &str) -> Result<Severity, String> {
    word(text, "info, warning, error, critical")
}

/// Reads where an incident stands.
pub(super) fn status(text: &str) -> Result<Status, String> {
    word(text, &Status::ALL.map(Status::as_str).join(", "))
}

/// Reads a part of the system that has a user of its own at the broker.
pub(super) fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| format!("expected one of: {}", Role::ALL.map(Role::as_str).join(", ")))
}

/// Reads what a caller of the gateway may do.
pub(super) fn access_role(text: &str) -> Result<access::Role, String> {
    word(text, &access::Role::ALL.map(access::Role::as_str).join(", "))
}

/// Reads the name of a token.
pub(super) fn token_name(text: &str) -> Result<String, String> {
    let expected = || "expected 1 to 64 of the characters A-Z a-z 0-9 - _".to_owned();
    is_token_name(text).then(|| text.to_owned()).ok_or_else(expected)
}

/// Reads a time such as `500ms`, `5s`, `2m`, `3h`, `1d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let expected = || "expected a number and a unit, such as 500ms, 5s, 2m, 3h or 1d".to_owned();
    let number: u64 = digits.parse().map_err(|_none| expected())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(expected)
}

/// Reads how often the broker syncs to disk, as its configuration wants it.
pub(super) fn sync_interval(text: &str) -> Result<String, String> {
    if text == "always" {
        return Ok(text.to_owned());
    }
    let interval = time(text)?;
    if interval.is_zero() {
        return Err("say `always` to sync every message".to_owned());
    }
    Ok(format!("{}ms", interval.as_millis()))
}

/// Reads one part of a subject.
pub(super) fn token(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || !text.bytes().all(legal) {
        return Err("expected one or more of the characters A-Z a-z 0-9 - _".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let table = [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("3h", 10_800_000)];
        for (text, ms) in table {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 s", "99999999999999999999s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
