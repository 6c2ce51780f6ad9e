//! Who may come in by the door of an integration: who sends an API token, or knows the secret
//! that the configuration names for this door.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, Uri, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use domain::{
    access::Role,
    config::{Hmac, Lock, Wrapping},
    event::Origin,
    id::sha256_hex,
};
use ring::hmac;
use service::{Chain, Secret, SecretError, read_secret};
use tracing::warn;

use crate::{
    access::{
        self, Principal,
        table::{Load, Route},
    },
    app::App,
    body::Group,
    doors::Door,
    links::Links,
    problem::Problem,
};

/// How old a signature with a time may be, and how far ahead the sender's clock.
const SIGNATURE_AGE_S_MAX: u64 = 300;

/// When a sender may try again while this gateway does not know its configuration yet.
const RETRY_AFTER_S: u16 = 2;

/// What somebody sends who wants to come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The routing key in the body, of a client of PagerDuty.
    pub(crate) routing_key: Option<&'a str>,
    /// Who it is, if the head of the request proved it: see [`by_head`].
    pub(crate) proven: Option<&'a Arc<Principal>>,
}

impl<'a> Caller<'a> {
    /// Takes a request together.
    pub(crate) fn of(
        uri: &'a Uri,
        headers: &'a HeaderMap,
        body: &'a Group,
        routing_key: Option<&'a str>,
    ) -> Self {
        Self { uri, headers, body: &body.0, routing_key, proven: body.1.as_ref() }
    }
}

/// What the head of a request proves at a route with a secret of its own.
#[derive(Debug)]
pub(crate) enum ByHead {
    /// Who it is, and that he may come in now.
    Principal(Arc<Principal>),
    /// It is an approval link of ours.
    Link,
    /// Nothing; a signature or a key in the body may.
    AskBody,
    /// Nothing, and the body will not either.
    Nobody,
}

/// Looks at what can be seen before the body is read, so that nobody has a long body read who
/// cannot prove himself by it.
pub(crate) async fn by_head(
    app: &App,
    route: &Route,
    uri: &Uri,
    headers: &HeaderMap,
    known: &access::Caller,
) -> Result<ByHead, Problem> {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let door = match route.path {
        "/approve/{token}" => {
            let is_ours = Links::new(&app.notify()).is_some_and(|it| it.is_live(last, Utc::now()));
            return Ok(if is_ours { ByHead::Link } else { ByHead::Nobody });
        }
        "/integrations/slack/actions" => return Ok(ByHead::AskBody),
        "/api/v2/alerts" => "alertmanager",
        "/v2/enqueue" | "/v2/change/enqueue" => "pagerduty",
        // The handler reads such a name otherwise, and looks at its door itself.
        _ if last.contains('%') => return Ok(ByHead::AskBody),
        _ => last,
    };
    let caller = Caller { uri, headers, body: &[], routing_key: None, proven: None };
    let judged = judge(app, door, &caller, known.0.as_ref(), Seen::Head).await?;
    Ok(judged.map_or(ByHead::AskBody, ByHead::Principal))
}

/// Lets a caller in and returns who it is, or says why not: the one seam between integrations and
/// access.
pub(crate) async fn admit(app: &App, door: &str, caller: &Caller<'_>) -> Result<Origin, Problem> {
    if let Some(proven) = caller.proven {
        return Ok(proven.origin());
    }
    match judge(app, door, caller, None, Seen::All).await {
        Ok(Some(principal)) => Ok(principal.origin()),
        // With the whole request nothing is left to be asked for.
        Ok(None) => Err(wrong(door)),
        Err(refusal) => {
            app.access().count_refusal(&refusal);
            Err(refusal)
        }
    }
}

/// Counts a message of a door whose sender is proven by its signature.
pub(crate) fn count(app: &App, door: &str, caller: &Caller<'_>) -> Result<(), Problem> {
    match caller.proven {
        Some(_counted_before) => Ok(()),
        None => app.access().limit(&Principal::of_integration(door), Load::Events),
    }
}

/// What of a request has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Head,
    All,
}

/// Returns who comes by a door, counted once; none when that depends on the body.
async fn judge(
    app: &App,
    door: &str,
    caller: &Caller<'_>,
    known: Option<&Arc<Principal>>,
    seen: Seen,
) -> Result<Option<Arc<Principal>>, Problem> {
    let counted = |principal: Arc<Principal>| {
        app.access().limit(&principal, Load::Events).map(|()| Some(principal))
    };
    let by_token = async || match known {
        Some(known) if known.role.covers(Role::Publisher) => Ok(Arc::clone(known)),
        Some(_) | None => app.access().by_token(Role::Publisher, caller.uri, caller.headers).await,
    };
    let found = app.doors().door(door);
    let is_sns = |it: &Door| {
        it.mapper.as_ref().is_some_and(|it| it.mapping().envelope == Some(Wrapping::Sns))
    };
    let may_be_signed =
        seen == Seen::Head && found.as_ref().is_ok_and(|it| it.as_deref().is_some_and(is_sns));
    let lock = match found {
        Ok(found) => found.and_then(|it| it.integration.secret.clone()),
        // An answer of 4xx is final for most senders, and their secret may well be right.
        Err(_not_known_yet) => {
            return by_token().await.or_else(|_refused| starting()).and_then(counted);
        }
    };
    let Some(lock) = lock else {
        return match by_token().await {
            Ok(principal) => counted(principal),
            Err(_refused) if may_be_signed => Ok(None),
            Err(refused) => Err(refused),
        };
    };
    // Not even tried without the body: a signature over none would open the door to any.
    let opened = (seen == Seen::All || !needs_body(&lock)).then(|| opens(&lock, caller));
    let refusal = match opened {
        Some(Ok(true)) => return counted(Arc::new(Principal::of_integration(door))),
        Some(Ok(false)) => Some(wrong(door)),
        Some(Err(error)) => Some(unreadable(door, &error)),
        None => None,
    };
    // To be on this host is no proof where a secret is asked for; a token is.
    if app.asks_for_token()
        && let Ok(principal) = by_token().await
    {
        return counted(principal);
    }
    match refusal {
        Some(refusal) if !may_be_signed => Err(refusal),
        Some(_) | None => Ok(None),
    }
}

fn starting<T>() -> Result<T, Problem> {
    let message = "the configuration is not known here yet";
    Err(Problem::later("starting", message, "send it again", RETRY_AFTER_S))
}

fn wrong(door: &str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "secret_wrong",
        format!("this is not what integration `{door}` asks for"),
        "send what `integrations` in the configuration names as its `secret`, or an API token",
    )
}

fn unreadable(door: &str, error: &SecretError) -> Problem {
    warn!(integration = door, error = %Chain(error), "the secret of an integration cannot be read");
    let message = "the secret that this integration asks for cannot be read here";
    let hint = "see the gateway's log; retry when it is corrected";
    Problem::later("secret_unreadable", message, hint, RETRY_AFTER_S)
}

/// Returns whether only the body shows that a caller knows the secret.
fn needs_body(lock: &Lock) -> bool {
    let by_head = lock.bearer.is_some()
        || lock.basic.is_some()
        || lock.header.is_some()
        || lock.query.is_some();
    !by_head && (lock.hmac.is_some() || !lock.routing_keys.is_empty())
}

/// Returns the origin of what comes in with the secret of an integration.
pub(crate) fn of_integration(name: &str) -> Origin {
    Principal::of_integration(name).origin()
}

/// Returns whether the caller knows the secret.
fn opens(lock: &Lock, caller: &Caller<'_>) -> Result<bool, SecretError> {
    if let Some(bearer) = &lock.bearer {
        let secret = read_secret(bearer)?;
        return Ok(credentials(caller, "bearer").is_some_and(|it| same(&secret, it)));
    }
    if let Some(basic) = &lock.basic {
        let secret = read_secret(&basic.password)?;
        let sent = credentials(caller, "basic").and_then(|it| STANDARD.decode(it).ok());
        let wanted = Secret::new(format!("{}:{}", basic.user, secret.expose()));
        let sent = sent.and_then(|it| String::from_utf8(it).ok());
        return Ok(sent.is_some_and(|it| same(&wanted, &it)));
    }
    if let Some(named) = &lock.header {
        let secret = read_secret(&named.value)?;
        return Ok(header_of(caller, &named.name).is_some_and(|it| same(&secret, it)));
    }
    if let Some(named) = &lock.query {
        let secret = read_secret(&named.value)?;
        return Ok(parameter(caller.uri, &named.name).is_some_and(|it| same(&secret, &it)));
    }
    if let Some(signed) = &lock.hmac {
        let secret = read_secret(&signed.secret)?;
        let now = u64::try_from(Utc::now().timestamp()).unwrap_or_default();
        return Ok(is_signed(signed, &secret, caller, now));
    }
    let Some(key) = caller.routing_key else { return Ok(false) };
    let known: Vec<Secret> = lock.routing_keys.iter().map(read_secret).collect::<Result<_, _>>()?;
    Ok(known.iter().any(|it| same(it, key)))
}

/// Hashes are compared, never secrets: how long a comparison takes then tells nothing.
fn same(secret: &Secret, sent: &str) -> bool {
    sha256_hex(secret.expose().as_bytes()) == sha256_hex(sent.as_bytes())
}

fn header_of<'a>(caller: &Caller<'a>, name: &str) -> Option<&'a str> {
    caller.headers.get(name)?.to_str().ok()
}

fn credentials<'a>(caller: &Caller<'a>, scheme: &str) -> Option<&'a str> {
    let (found, rest) = header_of(caller, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// Returns a parameter of a URL, decoded.
pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?;
    let mut found = form(query).into_iter().filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value)
}

/// Reads pairs as forms and queries write them.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    let Ok(mut url) = reqwest::Url::parse("http://form/") else { return Vec::new() };
    url.set_query(Some(text));
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

fn is_signed(signed: &Hmac, secret: &Secret, caller: &Caller<'_>, now: u64) -> bool {
    let Some(signature) = header_of(caller, &signed.header).map(str::trim) else { return false };
    let prefix = signed.prefix.as_deref().unwrap_or_default();
    let Some(tag) = from_hex(signature.strip_prefix(prefix).unwrap_or(signature)) else {
        return false;
    };
    let mut text = Vec::new();
    if let Some(name) = &signed.timestamp_header {
        let Some(sent) = header_of(caller, name).map(str::trim) else { return false };
        let Ok(at) = sent.parse::<u64>() else { return false };
        if SIGNATURE_AGE_S_MAX < now.abs_diff(at) {
            return false;
        }
        text.extend_from_slice(sent.as_bytes());
        text.push(b':');
    }
    text.extend_from_slice(caller.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hmac::verify(&key, &text, &tag).is_ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |idx: usize| u8::from_str_radix(text.get(idx..idx + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Headers that hold secrets, so that mappings do not see them.
pub(crate) fn is_secret_header(lock: Option<&Lock>, name: &str) -> bool {
    let named = lock.and_then(|it| it.header.as_ref());
    matches!(name, "authorization" | "cookie" | "proxy-authorization")
        || named.is_some_and(|it| it.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use domain::secret::SecretRef;

    use super::*;

    const BODY: &[u8] = b"{\"status\":\"firing\"}";

    fn secret() -> (tempfile_of::File, SecretRef) {
        tempfile_of::secret("the-secret")
    }

    /// A file with a secret, gone when dropped.
    mod tempfile_of {
        use super::SecretRef;

        pub(super) struct File(std::path::PathBuf);

        impl Drop for File {
            fn drop(&mut self) {
                drop(std::fs::remove_file(&self.0));
            }
        }

        pub(super) fn secret(text: &str) -> (File, SecretRef) {
            service::limit_secrets(service::SecretLimits::new([std::env::temp_dir()], ["SECRET_"]));
            let name = format!("selfheal-secret-{}", uuid::Uuid::new_v4().simple());
            let path = std::env::temp_dir().join(name);
            private::write(&path, text.as_bytes()).unwrap();
            let reference = SecretRef::file(path.to_str().unwrap());
            (File(path), reference)
        }
    }

    fn tried(lock: &Lock, uri: &str, headers: &[(&str, &str)], key: Option<&str>) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let uri = uri.parse().unwrap();
        let caller =
            Caller { uri: &uri, headers: &headers, body: BODY, routing_key: key, proven: None };
        opens(lock, &caller).unwrap()
    }

    fn signature(text: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"the-secret");
        hmac::sign(&key, text).as_ref().iter().map(|it| format!("{it:02x}")).collect()
    }

    #[test]
    fn only_who_knows_the_secret_comes_in() {
        let (_file, it) = secret();
        let bearer = Lock { bearer: Some(it.clone()), ..Lock::default() };
        assert!(tried(&bearer, "/x", &[("authorization", "Bearer the-secret")], None));
        assert!(!tried(&bearer, "/x", &[("authorization", "Bearer the-secre")], None));
        assert!(!tried(&bearer, "/x?token=the-secret", &[], None));
        let basic = domain::config::Basic { user: "am".to_owned(), password: it.clone() };
        let basic = Lock { basic: Some(basic), ..Lock::default() };
        let sent = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(tried(&basic, "/x", &[("authorization", &sent("am:the-secret"))], None));
        assert!(!tried(&basic, "/x", &[("authorization", &sent("other:the-secret"))], None));
        let named = |name: &str| {
            let (name, value) = (name.to_owned(), it.clone());
            Some(domain::config::Named { name, value })
        };
        let header = Lock { header: named("X-Token"), ..Lock::default() };
        assert!(tried(&header, "/x", &[("x-token", "the-secret")], None));
        assert!(!tried(&header, "/x", &[("x-token", "")], None));
        let query = Lock { query: named("token"), ..Lock::default() };
        assert!(tried(&query, "/x?a=1&token=the%2Dsecret", &[], None));
        assert!(!tried(&query, "/x?token=", &[], None));
        let keys = Lock { routing_keys: vec![it], ..Lock::default() };
        assert!(tried(&keys, "/x", &[], Some("the-secret")));
        assert!(!tried(&keys, "/x", &[], Some("another")) && !tried(&keys, "/x", &[], None));
    }

    #[test]
    fn a_signature_is_over_the_body_and_its_time() {
        let (_file, secret) = secret();
        let plain = Hmac {
            secret,
            header: "X-Signature".to_owned(),
            prefix: Some("sha256=".to_owned()),
            timestamp_header: None,
        };
        let timed = Hmac { timestamp_header: Some("X-Time".to_owned()), ..plain.clone() };
        let lock = |it: &Hmac| Lock { hmac: Some(it.clone()), ..Lock::default() };
        let good = signature(BODY);
        for sent in [format!("sha256={good}"), good.clone(), good.to_uppercase()] {
            assert!(tried(&lock(&plain), "/x", &[("x-signature", &sent)], None), "{sent}");
        }
        for sent in [signature(b"other"), good[..62].to_owned(), "zz".to_owned(), String::new()] {
            assert!(!tried(&lock(&plain), "/x", &[("x-signature", &sent)], None), "{sent}");
        }
        assert!(!tried(&lock(&plain), "/x", &[], None));
        let now = Utc::now().timestamp();
        for (at, is_good) in
            [(now, true), (now - 250, true), (now - 400, false), (now + 400, false)]
        {
            let at = at.to_string();
            let sent = signature(&[at.as_bytes(), b":", BODY].concat());
            let headers = [("x-signature", sent.as_str()), ("x-time", at.as_str())];
            assert_eq!(tried(&lock(&timed), "/x", &headers, None), is_good, "{at}");
        }
        let headers = [("x-signature", good.as_str()), ("x-time", "1")];
        assert!(!tried(&lock(&timed), "/x", &headers, None), "a replay of long ago");
    }

    #[test]
    fn a_secret_that_cannot_be_read_opens_nothing() {
        let lock = Lock { bearer: Some(SecretRef::file("/no/such/file")), ..Lock::default() };
        let (uri, headers) = (Uri::from_static("/x"), HeaderMap::new());
        let caller =
            Caller { uri: &uri, headers: &headers, body: b"", routing_key: None, proven: None };
        assert!(opens(&lock, &caller).is_err());
    }
}
