//! How credentials look, and what those who name things call them.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

use super::REDACTED;

/// Parts of names of secrets, in lower case and without what parts words.
const NAME_PARTS: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "routingkey",
    "authorization",
    "credential",
    "cookie",
    "signature",
    "auth",
];

/// Names that are a secret wherever they stand.
const TELLING_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "clientsecret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accesstoken",
    "authtoken",
    "authorization",
];

fn flat(name: &str) -> String {
    let letters = name.chars().filter(|it| it.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Returns whether a header, a variable or a field of a body of this name holds a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    let last = lower.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let flat = flat(name);
    ["key", "pass", "pwd", "pw"].contains(&last) && lower != "pwd"
        || NAME_PARTS.iter().any(|it| flat.contains(it))
}

/// Returns whether a field of this name is a secret whatever it belongs to.
pub(super) fn is_telling_name(name: &str) -> bool {
    TELLING_NAMES.contains(&flat(name).as_str())
}

/// Returns whether the argument after this one is a secret.
pub(super) fn is_secret_flag(word: &str) -> bool {
    word.starts_with('-') && !word.contains('=') && is_secret_name(word)
}

/// Returns the name and the value of an argument such as `--password=x` or `DB_PASSWORD=x`. What
/// has blanks may be a script, which is shown but for the values in it.
pub(super) fn secret_argument(word: &str) -> Option<(&str, &str)> {
    let found = word.split_once('=').filter(|_| is_one_word(word));
    found.filter(|(name, value)| !value.is_empty() && is_secret_name(name))
}

/// Returns whether the argument after this one is a user and a password.
pub(super) fn is_user_flag(word: &str) -> bool {
    ["-u", "--user", "--proxy-user"].contains(&word)
}

/// Returns whether a text cannot be a script.
pub(super) fn is_one_word(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || ";|&`".contains(c))
}

/// Returns the parts of a text that look like credentials. A name of a variable is none.
pub(super) fn credentials(given: &str) -> Vec<String> {
    let mut found = Vec::new();
    let named = PATTERNS.iter().flat_map(|(pattern, _)| pattern.captures_iter(given));
    let schemes = SCHEME.iter().flat_map(|it| it.captures_iter(given)).filter(|it| !is_prose(it));
    let schemes: Vec<_> = schemes.filter_map(|it| Some(it.get(3)?.as_str().to_owned())).collect();
    for captures in named {
        let part = |idx| captures.get(idx).map(|it| it.as_str()).unwrap_or_default();
        let (whole, before) = (part(0), part(1));
        let value = whole.strip_prefix(before).unwrap_or(whole).trim_matches(['"', '\'']);
        let value = match value.strip_suffix('@') {
            Some(user) => user.split_once(':').map_or(user, |(_, password)| password),
            // Behind the name of a scheme.
            None if before.to_lowercase().contains("authorization") => {
                value.rsplit(' ').next().unwrap_or(value)
            }
            None => value,
        };
        let is_literal = !value.is_empty() && !value.starts_with(['$', '{', '[']);
        if is_literal && !found.iter().any(|it| it == value) {
            found.push(value.to_owned());
        }
    }
    let new: Vec<_> = schemes.into_iter().filter(|it| !found.contains(it)).collect();
    found.extend(new);
    found
}

/// Returns whether what follows the name of a scheme is a word, as in `basic authentication`.
fn is_prose(found: &Captures<'_>) -> bool {
    let value = found.get(3).map(|it| it.as_str()).unwrap_or_default();
    value.chars().all(|it| it.is_ascii_lowercase() || "-.".contains(it))
}

/// Returns whether a value looks like a credential, whatever it is called.
#[must_use]
pub fn looks_secret(value: &str) -> bool {
    matches!(text(value), Cow::Owned(_))
}

/// What credentials look like, and what is put in their place.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let all = [
        // A key, as PEM; its line ends may be written out.
        (
            r"-----BEGIN [A-Z0-9 ]*KEY[A-Z ]*-----(?s:.*?)(?:-----END [A-Z0-9 ]*-----|\z)",
            "[redacted]",
        ),
        // A user and a password before the host of a URL.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#"'<>]+@"#, "${1}[redacted]@"),
        // A parameter of a URL or of a form.
        (
            r#"(?i)((?:^|[?&;])[a-z0-9_.\-\[\]%]*(?:key|sig|signature|token|secret|passwd|password|pwd|auth|credential|session)[a-z0-9_.\-\]%]*=)[^&\s#"'<>]+"#,
            "${1}[redacted]",
        ),
        // URLs that are secrets by themselves.
        (
            r#"(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|[a-z0-9-]+\.webhook\.office\.com/)[^\s"'<>]+"#,
            "${1}[redacted]",
        ),
        // Tokens whose makers gave them a beginning to be found by.
        (
            r"\b(?:gh[oprsu]_[A-Za-z0-9]{6,}|github_pat_[A-Za-z0-9_]{6,}|gl[a-z]{2,4}-[A-Za-z0-9_-]{12,}|x(?:ox[a-z]|app)-[A-Za-z0-9-]{6,}|A(?:KIA|SIA)[A-Z0-9]{8,}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{4,}|sk-[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{10,}|npm_[A-Za-z0-9]{16,}|hv[bs]\.[A-Za-z0-9_-]{12,}|do[opr]_v1_[a-f0-9]{16,}|SG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|sht_[a-f0-9]{16,}|S[ACNOPUX][A-Z2-7]{56}|eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)",
            "[redacted]",
        ),
        // What a header says of who sends it.
        (
            r#"(?i)(\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?)(?:(?:bearer|basic|digest|token|negotiate|apikey)\s+)?(?:\[redacted\]|[^\s"',;}\]\[]+)"#,
            "${1}[redacted]",
        ),
        // A name of a secret and its value. A `token:` of ours is followed by a name.
        (
            r#"(?i)(\b[a-z0-9_.-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key)["']?\s*[:=]\s*)(?:"[^"]*"|'[^']*'|[^\s"',;&}\]\[]+)"#,
            "${1}[redacted]",
        ),
        (
            r#"(?i)(\b[a-z0-9_.-]*(?:token|cookie)(?:["']\s*:\s*|\s*=\s*|:\s+))(?:"[^"]*"|'[^']*'|[^\s"',;&}\]\[]+)"#,
            "${1}[redacted]",
        ),
        // Flags of programs.
        (
            r"(?i)(\s--?[a-z0-9-]*(?:password|passwd|secret|token|api-?key)\s+)[^\s-]\S*",
            "${1}[redacted]",
        ),
        (r"(\s(?:-u|--user|--proxy-user)[ =]?[^\s:]+:)\S+", "${1}[redacted]"),
    ];
    let compiled = |(pattern, with)| Some((Regex::new(pattern).ok()?, with));
    let patterns: Vec<_> = all.into_iter().filter_map(compiled).collect();
    debug_assert_eq!(patterns.len(), all.len(), "all of them are regular expressions");
    patterns
});

/// What every pattern needs a part of, looked for first: most texts hold no credential.
static HINTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)@|key|sig|secret|token|pass|pwd|auth|cred|session|cookie|bearer|basic|-u|--user|--proxy-user|slack\.com|discord|office\.com|gh[oprsu]_|github_pat|gl[a-z]{2,4}-|xox|xapp|AKIA|ASIA|[srp]k[_-]|AIza|ya29|npm_|hv[bs]\.|do[opr]_v1|SG\.|sht_|\bS[ACNOPUX][A-Z2-7]{20}|eyJ",
    )
    .ok()
});

/// `Bearer …` and `Basic …` where no header's name stands before them.
static SCHEME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\b(bearer|basic)(\s+)([A-Za-z0-9+/_.~-]{6,}=*)").ok());

/// Returns a text without what looks like a credential.
#[must_use]
pub fn text(given: &str) -> Cow<'_, str> {
    if HINTS.as_ref().is_some_and(|it| !it.is_match(given)) {
        return Cow::Borrowed(given);
    }
    let mut shown = Cow::Borrowed(given);
    for (pattern, with) in PATTERNS.iter() {
        if let Cow::Owned(shorter) = pattern.replace_all(&shown, *with)
            && shorter != *shown
        {
            shown = Cow::Owned(shorter);
        }
    }
    let Some(scheme) = &*SCHEME else { return shown };
    let without = scheme.replace_all(&shown, |found: &Captures<'_>| {
        let part = |idx| found.get(idx).map(|it| it.as_str()).unwrap_or_default();
        let (whole, word, blank) = (part(0), part(1), part(2));
        if is_prose(found) { whole.to_owned() } else { format!("{word}{blank}{REDACTED}") }
    });
    match without {
        Cow::Owned(shorter) if shorter != *shown => Cow::Owned(shorter),
        Cow::Owned(_) | Cow::Borrowed(_) => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_looks() {
        for (given, shown) in [
            ("get postgres://ann:p%40ss@db/x", "get postgres://[redacted]@db/x"),
            ("http://h/?api_key=abc&n=1", "http://h/?api_key=[redacted]&n=1"),
            ("http://h/?X-Amz-Signature=abc#f", "http://h/?X-Amz-Signature=[redacted]#f"),
            ("https://hooks.slack.com/services/T0/B0/x y", "https://hooks.slack.com/[redacted] y"),
            ("a ghp_0123456789 b", "a [redacted] b"),
            ("xoxb-1234-abcd", "[redacted]"),
            ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
            ("sk_live_abcdef", "[redacted]"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.abc", "[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----!", "[redacted]!"),
            ("Authorization: Bearer abc", "Authorization: [redacted]"),
            ("{\"authorization\":\"Basic dXNlcjpw\"}", "{\"authorization\":\"[redacted]\"}"),
            ("DB_PASSWORD=hunter2 x", "DB_PASSWORD=[redacted] x"),
            ("client_secret: 'a b'", "client_secret: [redacted]"),
            ("{\"token\":\"abc\"}", "{\"token\":[redacted]}"),
            ("curl --token abc -v", "curl --token [redacted] -v"),
            ("curl -u ann:pw http://h", "curl -u ann:[redacted] http://h"),
            ("Bearer AbC123xyz", "Bearer [redacted]"),
        ] {
            assert_eq!(text(given), shown, "{given}");
            assert_eq!(text(shown), shown, "twice is as good as once: {shown}");
            assert!(looks_secret(given) && !credentials(given).is_empty(), "{given}");
        }
    }

    #[test]
    fn what_only_speaks_of_secrets_stays() {
        for given in
            ["basic authentication is off", "token:ann", "--token is missing", "a@b.example"]
        {
            assert_eq!(text(given), given);
        }
    }

    #[test]
    fn the_parts_that_are_credentials_are_told_apart() {
        for (given, parts) in [
            ("http://u:pw@h/?token=abc&n=1", vec!["pw", "abc"]),
            ("echo PASSWORD=$PASSWORD; TOKEN='a b' run", vec!["a b"]),
            ("{\"password\": \"x\", \"n\": 1}", vec!["x"]),
        ] {
            assert_eq!(credentials(given), parts, "{given}");
        }
        assert_eq!(secret_argument("X_TOKEN=a; rm -rf /"), None, "a script is no value");
    }

    #[test]
    fn names_of_secrets_are_known() {
        for name in ["Authorization", "X-Api-Key", "DB_PASSWORD", "x-key", "GITHUB_TOKEN", "Cookie"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "MODE", "Content-Type", "PWD", "KEYBOARD", "x-reason"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
