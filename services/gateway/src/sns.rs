//! Notifications of Amazon SNS: unwrapped when their signature is right.
//!
//! Source: "Verifying the signatures of Amazon SNS messages" of the SNS developer guide. The
//! certificate is taken from AWS by TLS, and from nowhere else: the URL is in the message, and
//! whoever could choose it could sign.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::event::{self, Origin};
use reqwest::Url;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use service::{
    Chain,
    outgoing::{Client, Outgoing},
};
use tokio::sync::Semaphore;
use tracing::{info, warn};
use webpki::EndEntityCert;

use crate::{
    admission::{self, Caller},
    app::App,
    doors::Door,
    integrations::generic::read,
    problem::Problem,
};

/// Longest time for a certificate or a confirmation.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// A certificate is asked for again after so long.
const CERTIFICATE_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Certificates that are kept: one for each region, and its successor.
const CERTIFICATES_MAX: usize = 32;
/// Longest certificate.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Questions to AWS at one time: whoever knows a topic's name can make us ask.
const FETCHES_MAX: usize = 4;
/// How old a message may be: who has seen one could send it again later.
const AGE_MAX: TimeDelta = TimeDelta::hours(1);
/// By how much the clock of AWS may be ahead of ours.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);
/// When SNS may try again what could not be fetched.
const RETRY_AFTER_S: u16 = 5;

/// What a request held.
#[derive(Debug)]
pub(crate) enum Unwrapped {
    /// A message, read as JSON if it is some.
    Message(Origin, Value),
    /// The subscription was confirmed, or has ended: there is no message.
    Confirmed,
}

/// Certificates of AWS that were fetched.
#[derive(Debug)]
pub(crate) struct Certificates {
    outgoing: Outgoing,
    http: OnceLock<Client>,
    fetches: Semaphore,
    known: Mutex<BTreeMap<String, (Instant, Bytes)>>,
}

/// Unwraps a message that may come in: it is signed and of a topic that the configuration names,
/// or its sender is admitted as any other.
pub(crate) async fn unwrap(
    app: &App,
    door: &Door,
    caller: &Caller<'_>,
) -> Result<Unwrapped, Problem> {
    let name = door.integration.name.as_str();
    let body = event::json(caller.body);
    let Some(wrapped) = body.as_ref().ok().filter(|it| text(it, "TopicArn").is_some()) else {
        // Raw message delivery, or a test by hand: nothing is signed. It may be a text, as in the
        // envelope.
        let origin = admission::admit(app, name, caller).await?;
        return Ok(Unwrapped::Message(origin, read(caller.headers, caller.body)?));
    };
    let topic = text(wrapped, "TopicArn").unwrap_or_default();
    // Anybody can have AWS sign a message for a topic of their own.
    let is_listed = door.integration.topics.iter().any(|it| it == topic);
    if !is_listed {
        admission::admit(app, name, caller).await?;
    }
    let url = text(wrapped, "SigningCertURL").unwrap_or_default();
    let url = of_aws(url).filter(|it| it.path().ends_with(".pem")).ok_or_else(|| {
        forged("`SigningCertURL` does not lead to a certificate at sns.<region>.amazonaws.com")
    })?;
    if !is_recent(wrapped, Utc::now()) {
        return Err(too_old());
    }
    let certificate = app.certificates().certificate(&url).await?;
    verify(wrapped, &certificate).map_err(forged)?;
    if is_listed {
        admission::count(app, name, caller)?;
    }
    match text(wrapped, "Type") {
        Some("Notification") => {
            let message = text(wrapped, "Message").unwrap_or_default();
            let value = event::json(message.as_bytes());
            let value = value.unwrap_or_else(|_text| Value::String(message.to_owned()));
            Ok(Unwrapped::Message(admission::of_integration(name), value))
        }
        Some("SubscriptionConfirmation") => {
            let url = text(wrapped, "SubscribeURL").and_then(of_aws);
            let url = url.ok_or_else(|| forged("`SubscribeURL` does not lead to AWS"))?;
            app.certificates().confirm(&url).await?;
            info!(integration = name, topic, "a subscription to a topic of SNS is confirmed");
            Ok(Unwrapped::Confirmed)
        }
        Some(other) => {
            info!(integration = name, topic, kind = other, "SNS tells of a subscription");
            Ok(Unwrapped::Confirmed)
        }
        None => Err(forged("`Type` is missing")),
    }
}

fn text<'a>(message: &'a Value, field: &str) -> Option<&'a str> {
    message.get(field)?.as_str()
}

fn forged(why: &'static str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "signature_wrong",
        format!("this is no message that Amazon SNS has signed: {why}"),
        "subscribe this path to a topic, and do not change its messages on the way",
    )
}

fn too_old() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "signature_too_old",
        format!("`Timestamp` is missing, or more than {} h ago", AGE_MAX.num_hours()),
        "compare the clocks; messages of SNS count for an hour",
    )
}

/// Returns whether a message was sent lately; its time is signed.
fn is_recent(message: &Value, now: DateTime<Utc>) -> bool {
    let sent = text(message, "Timestamp").and_then(event::time_of);
    let age = sent.map(|sent| now.signed_duration_since(sent));
    age.is_some_and(|age| age <= AGE_MAX && -AHEAD_MAX <= age)
}

/// Reads a URL that leads to SNS: `sns.<region>.amazonaws.com`. A bucket of S3 may be called
/// `sns`, so only names of regions are taken, such as `us-gov-west-1`.
fn of_aws(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let rest = host.strip_prefix("sns.")?;
    let region =
        rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
    let is_plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (is_plain && is_region(region)).then_some(url)
}

/// Returns whether a text is `^[a-z]{2}(-[a-z]+)+-[0-9]$`.
fn is_region(text: &str) -> bool {
    let is_word = |it: &&str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_lowercase());
    let parts: Vec<&str> = text.split('-').collect();
    let [area, words @ .., number] = parts.as_slice() else { return false };
    let is_number = number.len() == 1 && number.bytes().all(|it| it.is_ascii_digit());
    area.len() == 2 && is_word(area) && !words.is_empty() && words.iter().all(is_word) && is_number
}

/// Checks the signature of a message with the certificate of its signer.
fn verify(message: &Value, pem: &[u8]) -> Result<(), &'static str> {
    let algorithm: &RsaParameters = match text(message, "SignatureVersion") {
        Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &RSA_PKCS1_2048_8192_SHA256,
        Some(_) | None => return Err("`SignatureVersion` is neither 1 nor 2"),
    };
    let signature = text(message, "Signature").and_then(|it| STANDARD.decode(it).ok());
    let signature = signature.ok_or("`Signature` is not Base64")?;
    let der = der_of(pem).ok_or("the certificate is not in PEM")?;
    let der = CertificateDer::from(der);
    let certificate =
        EndEntityCert::try_from(&der).map_err(|_error| "the certificate cannot be read")?;
    let info = certificate.subject_public_key_info();
    let key = rsa_key(&info).ok_or("the certificate has no RSA key")?;
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed_text(message).as_bytes(), &signature)
        .map_err(|_wrong| "the signature does not fit")
}

/// Returns what SNS signs: some fields by name, each with its value, a line each.
fn signed_text(message: &Value) -> String {
    const NOTIFICATION: [&str; 6] =
        ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];
    const CONFIRMATION: [&str; 7] =
        ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
    let is_notification = text(message, "Type") == Some("Notification");
    let fields: &[&str] = if is_notification { &NOTIFICATION } else { &CONFIRMATION };
    let line = |field: &&str| text(message, field).map(|value| format!("{field}\n{value}\n"));
    fields.iter().filter_map(line).collect()
}

fn der_of(pem: &[u8]) -> Option<Vec<u8>> {
    let pem = std::str::from_utf8(pem).ok()?;
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (inner, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let inner: String = inner.split_ascii_whitespace().collect();
    STANDARD.decode(inner).ok()
}

/// Takes the RSA key out of a `SubjectPublicKeyInfo` (RFC 5280, section 4.1; RFC 3279, section
/// 2.3.1): behind the algorithm stands a bit string that begins with a 0.
fn rsa_key(info: &[u8]) -> Option<&[u8]> {
    /// `SEQUENCE { OBJECT IDENTIFIER rsaEncryption, NULL }`.
    const RSA: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let at = info.windows(RSA.len()).take(8).position(|it| it == RSA)?;
    let rest = info.get(at + RSA.len()..)?;
    let (&[0x03, length], rest) = rest.split_first_chunk::<2>()? else { return None };
    let rest = match length {
        0..=0x7f => rest,
        // A long form: so many bytes hold the length.
        0x81..=0x84 => rest.get(usize::from(length - 0x80)..)?,
        _ => return None,
    };
    rest.strip_prefix(&[0])
}

impl Certificates {
    /// Begins with none.
    pub(crate) fn new(outgoing: Outgoing) -> Self {
        let (http, known) = (OnceLock::new(), Mutex::default());
        Self { outgoing, http, fetches: Semaphore::new(FETCHES_MAX), known }
    }

    fn http(&self) -> Result<&Client, Problem> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let builder = reqwest::Client::builder()
            .timeout(FETCH_TIME_MAX)
            .https_only(true)
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")));
        // A redirect could lead away from AWS: none is followed.
        let built = self.outgoing.client(builder).map_err(|error| away(&error))?;
        Ok(self.http.get_or_init(|| built))
    }

    async fn certificate(&self, url: &Url) -> Result<Bytes, Problem> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.get(url.as_str()).filter(|it| it.0.elapsed() < CERTIFICATE_AGE_MAX);
            if let Some((_, certificate)) = fresh {
                return Ok(certificate.clone());
            }
        }
        let certificate = self.fetch(url).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if CERTIFICATES_MAX <= known.len() {
            known.clear();
        }
        known.insert(url.to_string(), (Instant::now(), certificate.clone()));
        Ok(certificate)
    }

    async fn confirm(&self, url: &Url) -> Result<(), Problem> {
        self.fetch(url).await.map(drop)
    }

    async fn fetch(&self, url: &Url) -> Result<Bytes, Problem> {
        let Ok(_one_of_few) = self.fetches.try_acquire() else {
            let message = "AWS is asked for other certificates at the moment";
            return Err(Problem::later("aws_away", message, "send it again", RETRY_AFTER_S));
        };
        let answer = self.http()?.get(url.clone()).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(|error| away(&error))?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| away(&error))? {
            body.extend_from_slice(&part);
            if CERTIFICATE_BYTES_MAX < body.len() {
                return Err(forged("what its URL leads to is too long"));
            }
        }
        Ok(body.into())
    }
}

/// 503, so that SNS tries again.
fn away(error: &reqwest::Error) -> Problem {
    warn!(error = %Chain(error), "AWS does not answer, so a message of SNS cannot be checked");
    Problem::later("aws_away", "AWS does not answer", "send it again", RETRY_AFTER_S)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made with `openssl req -x509 -newkey rsa:2048`; the key was thrown away.
    const CERTIFICATE: &[u8] = include_bytes!("../tests/sns/certificate.pem");

    fn message(name: &str) -> Value {
        let path = format!("{}/tests/sns/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn only_what_was_signed_with_the_key_of_the_certificate_is_taken() {
        for name in ["notification-1", "notification-2", "confirmation"] {
            let good = message(name);
            assert_eq!(verify(&good, CERTIFICATE), Ok(()), "{name}");
            for field in ["Message", "MessageId", "Timestamp", "TopicArn", "Type", "Subject"] {
                let mut changed = good.clone();
                changed[field] = json!("Notification2");
                let is_signed = name != "confirmation" || field != "Subject";
                assert_eq!(verify(&changed, CERTIFICATE).is_err(), is_signed, "{name} {field}");
            }
            let mut other = good.clone();
            other["SignatureVersion"] = json!("3");
            assert!(verify(&other, CERTIFICATE).is_err());
            other = good.clone();
            other["Signature"] = json!("AAAA");
            assert!(verify(&other, CERTIFICATE).is_err());
            assert!(
                verify(&good, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
                    .is_err()
            );
            assert!(verify(&good, b"").is_err());
        }
    }

    #[test]
    fn a_message_that_was_sent_long_ago_is_no_news() {
        let now: DateTime<Utc> = "2026-01-02T04:00:00Z".parse().unwrap();
        for (sent, is_taken) in [
            (json!("2026-01-02T03:59:59.000Z"), true),
            (json!("2026-01-02T03:00:00.000Z"), true),
            (json!("2026-01-02T02:59:59.000Z"), false),
            (json!("2026-01-02T04:05:00.000Z"), true),
            (json!("2026-01-02T04:05:01.000Z"), false),
            (json!("+262142-12-31T23:59:59Z"), false),
            (json!("yesterday"), false),
            (json!(1_767_322_800), false),
            (json!(null), false),
        ] {
            assert_eq!(is_recent(&json!({"Timestamp": sent}), now), is_taken, "{sent}");
        }
        assert!(!is_recent(&json!({}), now));
    }

    #[test]
    fn certificates_come_from_aws_alone() {
        for good in [
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/x.pem",
            "https://sns.us-gov-west-1.amazonaws.com/x.pem",
        ] {
            assert!(of_aws(good).is_some(), "{good}");
        }
        for bad in [
            "http://sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem",
            "https://evil.example/sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com@evil.example/x.pem",
            "https://user:pw@sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/x.pem",
            "https://sns.evil.s3.amazonaws.com/x.pem",
            "https://sns.s3.amazonaws.com/x.pem",
            "https://sns.s3-eu-west-1.amazonaws.com/x.pem",
            "https://sns.s3-website-eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west.amazonaws.com/x.pem",
            "https://sns.eu-1.amazonaws.com/x.pem",
            "https://sns.eu--1.amazonaws.com/x.pem",
            "https://sns.eu-west-12.amazonaws.com/x.pem",
            "https://sns.eur-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west1-1.amazonaws.com/x.pem",
            "https://sns..amazonaws.com/x.pem",
            "https://s3.amazonaws.com/sns.pem",
            "https://sns.amazonaws.com/x.pem",
            "file:///etc/passwd",
            "",
        ] {
            assert!(of_aws(bad).is_none(), "{bad}");
        }
    }
}
