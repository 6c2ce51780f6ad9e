//! Looking at what stands on the broker, without changing any of it.
//!
//! For `selfheal status` and `selfheal doctor`: what cannot be asked for is told as an error
//! of that one answer, so that half a broker is still half known. Nothing here tries again,
//! and everything ends in time.

mod living;
mod streams;

use std::time::Duration;

use async_nats::jetstream::{self, context::RequestErrorKind, response::Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{Error, core::Core, serve};

pub use living::{Living, Sign};
pub use streams::{Difference, QueueLook, StreamLook, Which};

/// Looks at a broker; see [`crate::Bus::inspect`].
#[derive(Clone, Debug)]
pub struct Inspect {
    core: Core,
    /// How long one answer may take.
    within: Duration,
    /// When all of them must have come.
    deadline: Instant,
}

/// What the server tells everybody who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLook {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The cluster it belongs to.
    pub cluster: Option<String>,
    /// Largest message that it takes.
    pub payload_bytes_max: usize,
}

/// Who we are to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLook {
    /// The user's name, if it has one.
    pub user: Option<String>,
    /// What it may publish to; `None` for everything.
    pub publish: Option<Allowed>,
    /// What it may subscribe to; `None` for everything.
    pub subscribe: Option<Allowed>,
    /// The server's clock when it answered.
    pub at: Option<DateTime<Utc>>,
}

/// Lists of subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Allowed {
    /// These, or all if there is no list.
    pub allow: Option<Vec<String>>,
    /// But not these.
    pub deny: Option<Vec<String>>,
}

/// What the account may store, and what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLook {
    /// Bytes in memory.
    pub memory: Room,
    /// Bytes on disk.
    pub storage: Room,
}

/// Room that is used, and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that streams may grow to by their limits.
    pub reserved: u64,
    /// Bytes that there are; `None` without a limit of the account.
    pub max: Option<u64>,
}

#[derive(Deserialize)]
struct UserAnswer {
    server: Option<ServerPart>,
    data: UserPart,
}

#[derive(Deserialize)]
struct ServerPart {
    time: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct UserPart {
    user: Option<String>,
    permissions: Option<PermissionsPart>,
}

#[derive(Deserialize)]
struct PermissionsPart {
    publish: Option<Allowed>,
    subscribe: Option<Allowed>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct AccountPart {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    limits: LimitsPart,
}

#[derive(Deserialize)]
#[serde(default)]
struct LimitsPart {
    max_memory: i64,
    max_storage: i64,
}

impl Default for LimitsPart {
    fn default() -> Self {
        Self { max_memory: -1, max_storage: -1 }
    }
}

impl Inspect {
    pub(crate) fn new(core: &Core, within: Duration, altogether: Duration) -> Self {
        Self { core: core.clone(), within, deadline: Instant::now() + altogether }
    }

    /// Returns what the server says of itself.
    #[must_use]
    pub fn server(&self) -> ServerLook {
        let info = self.core.client.server_info();
        ServerLook {
            name: info.server_name,
            version: info.version,
            cluster: info.cluster,
            payload_bytes_max: info.max_payload,
        }
    }

    /// Asks who we are, and what we may do.
    ///
    /// # Errors
    ///
    /// When the server does not tell, or does not permit to ask.
    pub async fn user(&self) -> Result<UserLook, Error> {
        let subject = "$SYS.REQ.USER.INFO".to_owned();
        let ask = serve::request(&self.core, subject.clone(), Bytes::new(), self.within);
        let answer: Bytes = self.bounded(&subject, ask).await?;
        let answer: UserAnswer = read("who we are", &answer)?;
        let (publish, subscribe) = match answer.data.permissions {
            Some(lists) => (lists.publish, lists.subscribe),
            None => (None, None),
        };
        let at = answer.server.and_then(|server| server.time);
        Ok(UserLook { user: answer.data.user, publish, subscribe, at })
    }

    /// Asks how much the account stores, and how much it may.
    ///
    /// # Errors
    ///
    /// When `JetStream` is off, does not tell, or does not permit to ask.
    pub async fn account(&self) -> Result<AccountLook, Error> {
        let part: AccountPart = self.ask("INFO", &Value::Null).await?;
        let limit = |max: i64| u64::try_from(max).ok();
        Ok(AccountLook {
            memory: Room {
                used: part.memory,
                reserved: part.reserved_memory,
                max: limit(part.limits.max_memory),
            },
            storage: Room {
                used: part.storage,
                reserved: part.reserved_storage,
                max: limit(part.limits.max_storage),
            },
        })
    }

    /// Asks `JetStream`.
    async fn ask<T: DeserializeOwned>(&self, what: &str, payload: &Value) -> Result<T, Error> {
        let subject = format!("$JS.API.{what}");
        let ask = async {
            let answer: Result<Response<T>, _> = if payload.is_null() {
                self.core.js.request(what.to_owned(), &()).await
            } else {
                self.core.js.request(what.to_owned(), payload).await
            };
            match answer {
                Ok(Response::Ok(answer)) => Ok(answer),
                Ok(Response::Err { error }) => Err(refused(&subject, &error)),
                Err(error) => Err(match error.kind() {
                    RequestErrorKind::NoResponders => {
                        Error::JetStreamOff { detail: "nobody answers for it".to_owned() }
                    }
                    RequestErrorKind::TimedOut => {
                        Error::NoAnswer { subject: subject.clone(), timeout: self.within }
                    }
                    RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                        Error::client("ask the broker", error)
                    }
                }),
            }
        };
        self.bounded(&subject, ask).await
    }

    /// Waits for an answer for as long as it may take, and no longer when the broker says
    /// that we may not ask.
    async fn bounded<T>(
        &self,
        subject: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let by = self.deadline.min(Instant::now() + self.within);
        tokio::select! {
            biased;
            answer = timeout_at(by, answer) => answer.unwrap_or_else(|_elapsed| {
                Err(Error::NoAnswer { subject: subject.to_owned(), timeout: self.within })
            }),
            () = self.core.link.violated() => Err(Error::Refused {
                subject: subject.to_owned(),
                code: NOT_PERMITTED,
                message: self.core.link.last_violation().unwrap_or_default(),
            }),
        }
    }
}

/// The number of an [`Error::Refused`] for what the user of the broker may not ask.
pub const NOT_PERMITTED: u16 = 403;

fn refused(subject: &str, told: &jetstream::Error) -> Error {
    Error::Refused {
        subject: subject.to_owned(),
        code: u16::try_from(told.code()).unwrap_or(500),
        message: told.to_string(),
    }
}

fn read<T: DeserializeOwned>(what: &'static str, answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| Error::Unreadable { what, source: error.into() })
}
