//! Coming to the broker, and judging whether it can be used.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions,
    jetstream::{
        self, ErrorCode,
        context::{AccountError, AccountErrorKind, ContextBuilder},
    },
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    BrokerOptions, Bus, Error, Keys, Subjects,
    core::Core,
    link::{Backoff, Link},
    nats_context::NatsContext,
    options::{self, Servers},
    topology::SERVER_MIN,
};

/// First and last wait between tries to connect, before the jitter.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_millis(900);

/// Most of the jitter, so that a fleet does not come back in one instant.
const JITTER_MS_MAX: u32 = 100;

/// How often the connection is tried out; a half-open one is found after two of them.
const PING: Duration = Duration::from_secs(10);

/// How long one step of connecting, one request of ours to the broker may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the broker may take to tell about the account when it says nothing at all.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// Publishes that may wait for their acknowledgement at one time.
const ACKS_MAX: usize = 4096;

/// How often the log says that there is still no broker.
const SILENT_TRIES: u32 = 30;

/// Connects, waiting for the broker as long as it takes.
///
/// # Errors
///
/// [`Error::TooOld`], [`Error::JetStreamOff`], [`Error::Credentials`], [`Error::Option`]:
/// what no further try can change.
pub async fn connect(options: &BrokerOptions) -> Result<Bus, Error> {
    let subjects = Subjects::new(options.checked_prefix()?);
    let keys = Keys::new(options.signing_key.as_deref(), &options.all_trusted_keys()?)?;
    let context = options.context.as_deref().map(NatsContext::read).transpose()?;
    let context = context.unwrap_or_default();
    let urls = options.urls()?;
    let servers = options::servers(nonempty(&context.url).unwrap_or(&urls))?;
    let link = Arc::new(Link::new());
    let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_LAST);
    let mut n_tries = 0_u32;
    let client = loop {
        let with = connect_options(options, &context, &servers, &link)?;
        match with.connect(&servers.addresses[..]).await {
            Ok(client) => break client,
            Err(error) => match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    return Err(Error::Credentials { source: error.into() });
                }
                ConnectErrorKind::ServerParse => {
                    return Err(Error::Option { option: "url", reason: error.to_string() });
                }
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Tls
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => {
                    if n_tries.is_multiple_of(SILENT_TRIES) {
                        warn!(%error, "cannot reach the broker, trying again");
                    }
                    n_tries += 1;
                    backoff.wait().await;
                }
            },
        }
    };
    // The event comes by a task of the client: without it, the first connection would look
    // like a second one to those who watch for reconnections.
    link.connected_by(Instant::now() + STEP_TIMEOUT).await;
    judge_version(&client)?;
    let js = jetstream_context(&client, &context);
    judge_account(&client, &js, &link).await?;
    let (sizing, warned, warned_token) = (Arc::default(), Arc::default(), Arc::default());
    Ok(Bus::new(Core { client, js, link, subjects, sizing, keys, warned, warned_token }))
}

fn nonempty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn connect_options(
    options: &BrokerOptions,
    context: &NatsContext,
    servers: &Servers,
    link: &Arc<Link>,
) -> Result<ConnectOptions, Error> {
    let listener = Arc::clone(link);
    let inbox_prefix = match nonempty(&context.inbox_prefix) {
        Some(chosen) => chosen.to_owned(),
        None => options.inbox_prefix()?,
    };
    let mut with = ConnectOptions::new()
        .name(&options.name)
        .max_reconnects(None)
        .reconnect_delay_callback(delay)
        .connection_timeout(STEP_TIMEOUT)
        .request_timeout(Some(STEP_TIMEOUT))
        .ping_interval(PING)
        .custom_inbox_prefix(inbox_prefix)
        .event_callback(move |event| {
            listener.heed(&event);
            std::future::ready(())
        });
    if let Some((user, password)) = &servers.user {
        with = with.user_and_password(user.clone(), password.clone());
    } else if !context.user.is_empty() {
        with = with.user_and_password(context.user.clone(), context.password.clone());
    }
    if let Some(token) = servers.token.as_deref().or_else(|| nonempty(&context.token)) {
        with = with.token(token.to_owned());
    }
    if let Some(path) = file(&context.nkey, options.nkey.as_ref()) {
        let seed = secret("nkey", &path)?;
        with = with.nkey(seed.trim().to_owned());
    }
    if let Some(path) = file(&context.creds, options.creds.as_ref()) {
        let refused = |error| bad("creds", &path, &error);
        with = with.credentials(&secret("creds", &path)?).map_err(refused)?;
    }
    let with = tls(with, options, context)?;
    Ok(if context.tls_first { with.tls_first() } else { with })
}

/// Returns the file that the context names, else the one of the options.
fn file(of_context: &str, given: Option<&PathBuf>) -> Option<PathBuf> {
    nonempty(of_context).map(PathBuf::from).or_else(|| given.cloned())
}

fn tls(
    mut with: ConnectOptions,
    options: &BrokerOptions,
    context: &NatsContext,
) -> Result<ConnectOptions, Error> {
    if let Some(ca) = file(&context.ca, options.ca.as_ref()) {
        with = with.add_root_certificates(readable("ca", ca)?);
    }
    match (file(&context.cert, options.cert.as_ref()), file(&context.key, options.key.as_ref())) {
        (Some(cert), Some(key)) => {
            with = with.add_client_certificate(readable("cert", cert)?, readable("key", key)?);
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            let reason = "certificate and key must be given both".to_owned();
            return Err(Error::Option { option: "cert", reason });
        }
    }
    Ok(with)
}

fn secret(option: &'static str, path: &Path) -> Result<String, Error> {
    private::read_secret(path).map_err(|error| bad(option, path, &error))
}

fn bad(option: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::Option { option, reason: format!("{}: {error}", path.display()) }
}

/// Looks at a file now: the client would try again for ever, and say nothing of it.
fn readable(option: &'static str, path: PathBuf) -> Result<PathBuf, Error> {
    std::fs::read(&path).map_err(|error| bad(option, &path, &error))?;
    Ok(path)
}

/// Returns how long to wait before try `n` to connect again. The client's own schedule
/// doubles to four seconds, which is too long for those who wait for a fix.
fn delay(n: usize) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    let base = (RECONNECT_FIRST * 2_u32.pow(doublings)).min(RECONNECT_LAST);
    // Any few bits that differ between processes do for a jitter.
    let noise = uuid::Uuid::new_v4().as_fields().0 % JITTER_MS_MAX;
    base + Duration::from_millis(u64::from(noise))
}

fn jetstream_context(client: &Client, context: &NatsContext) -> jetstream::Context {
    let builder = ContextBuilder::new();
    match nonempty(&context.jetstream_domain) {
        Some(domain) => finish(builder.domain(domain), client),
        None => finish(builder, client),
    }
}

fn finish<P: jetstream::context::ToAssign>(
    builder: ContextBuilder<P>,
    client: &Client,
) -> jetstream::Context {
    builder
        .timeout(STEP_TIMEOUT)
        .ack_timeout(STEP_TIMEOUT)
        .max_ack_inflight(ACKS_MAX)
        .backpressure_on_inflight(true)
        .build(client.clone())
}

fn judge_version(client: &Client) -> Result<(), Error> {
    let info = client.server_info();
    if parse_version(&info.version).is_some_and(|found| found < SERVER_MIN) {
        let (major, minor, patch) = SERVER_MIN;
        return Err(Error::TooOld {
            found: info.version,
            needed: format!("{major}.{minor}.{patch}"),
        });
    }
    Ok(())
}

/// Reads `2.12.1-beta.2` as its three numbers. An unknown form is given the benefit of the doubt.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.trim_start_matches('v').splitn(3, '.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

async fn judge_account(client: &Client, js: &jetstream::Context, link: &Link) -> Result<(), Error> {
    let off = |detail: String| Error::JetStreamOff { detail };
    // Behind a leaf node it may be the hub that stores: then only the account can tell.
    let here = client.server_info().jetstream;
    let answer = tokio::select! {
        answer = tokio::time::timeout(ACCOUNT_TIMEOUT, js.query_account()) => answer,
        // A user who may not ask has a narrow list of permissions: somebody thought about it.
        () = link.violated() => return Ok(()),
    };
    match answer {
        Ok(Ok(_account)) => Ok(()),
        Ok(Err(error)) if is_off_for_account(&error) => {
            Err(off("it is not enabled for this account".to_owned()))
        }
        Ok(Err(_)) if !here => Err(off("it is not enabled on this server".to_owned())),
        Ok(Err(error)) => {
            debug!(%error, "the broker does not tell about the account");
            Ok(())
        }
        Err(_elapsed) if !here => Err(off("it is not enabled on this server".to_owned())),
        Err(_elapsed) => Ok(()),
    }
}

fn is_off_for_account(error: &AccountError) -> bool {
    let code = ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT;
    matches!(error.kind(), AccountErrorKind::JetStream(told) if told.error_code() == code)
        || matches!(error.kind(), AccountErrorKind::JetStreamUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse_version("2.9.10"), Some((2, 9, 10)));
        assert_eq!(parse_version("v2.12.0-beta.1"), Some((2, 12, 0)));
        assert_eq!(parse_version("2.15"), Some((2, 15, 0)));
        assert_eq!(parse_version("unknown"), None);
        assert!(parse_version("2.9.10").unwrap() < SERVER_MIN);
        assert!(parse_version("2.15.1").unwrap() >= SERVER_MIN);
    }

    #[test]
    fn no_wait_for_the_broker_is_longer_than_a_second() {
        for n in 0..100 {
            let wait = delay(n);
            assert!(RECONNECT_FIRST <= wait && wait <= Duration::from_secs(1), "{wait:?}");
        }
    }
}
