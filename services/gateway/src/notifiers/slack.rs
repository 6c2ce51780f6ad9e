//! Slack: an incoming webhook, or a bot that keeps one message for each incident up to date
//! and tells the timeline in its thread.
//!
//! <https://docs.slack.dev/reference/methods/chat.postMessage>. Each message carries the name
//! of its notice as metadata, so that another gateway finds it when the one that posted it is
//! gone before it could say so.

use std::time::Duration;

use domain::notify::Slack;
use reqwest::RequestBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::Secret;
use tokio::time::sleep;

use super::{Doubt, Failure, Sending, Sent, Tools, Way, secret};
use crate::{
    letter::Letter,
    outgoing::{self, Trouble},
    slack_message::{blocks, fallback, thread_blocks, timeline},
};

pub(super) const WAY: Way =
    Way { name: "slack", in_doubt: Doubt::Look, is_for: |to| to.slack.is_some(), send };

const API: &str = "https://slack.com/api";

/// Type of our metadata.
const METADATA: &str = "selfheal_notice";

/// Messages that are looked through for one whose sender is gone.
const LOOKED_THROUGH_MAX: usize = 200;

/// Tries of one call that Slack answers with "not now" in its own words.
const TRIES_MAX: u32 = 4;

/// Wait between them.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is kept between notices of one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The id of the channel, which only the answer tells for sure.
    channel: String,
    /// The message.
    ts: String,
    /// The last decision that the thread tells.
    #[serde(default)]
    seq: u64,
}

/// What Slack answers to every call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    ok: bool,
    error: String,
    channel: Value,
    ts: String,
    messages: Vec<Value>,
}

/// Why a call brought nothing.
enum Refusal {
    /// Slack says so, with this word.
    Said(String),
    /// The request failed.
    Request(Trouble),
}

struct Bot<'a> {
    tools: &'a Tools,
    token: Secret,
    api: &'a str,
    channel: &'a str,
}

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(slack) = &letter.to.slack else {
            return Err(Failure::not_sent("it is not for Slack"));
        };
        match (&slack.webhook, &slack.token, &slack.channel) {
            (Some(url), _, _) => {
                if letter.in_doubt {
                    let reason = "the gateway that was about to send it is gone";
                    return Err(Failure::unknown(reason));
                }
                webhook(tools, letter, secret(url)?.expose().trim()).await
            }
            (None, Some(token), Some(channel)) => {
                let token = secret(token)?;
                let api = api(slack);
                Bot { tools, token, api, channel }.tell(letter).await
            }
            (None, _, _) => {
                Err(Failure::not_sent("it names neither webhook nor token and channel"))
            }
        }
    })
}

fn api(slack: &Slack) -> &str {
    slack.api_url.as_deref().unwrap_or(API).trim_end_matches('/')
}

async fn webhook(tools: &Tools, letter: &Letter<'_>, url: &str) -> Result<Sent, Failure> {
    let body = json!({
        "text": fallback(letter),
        "blocks": blocks(letter),
        "unfurl_links": false,
        "unfurl_media": false,
    });
    let host = outgoing::host(url);
    let answer = outgoing::send(&host, false, || tools.http.post(url).json(&body)).await;
    let answer = answer.map_err(Failure::once)?;
    Ok(Sent::new(format!("{host} answered {}", answer.status().as_u16())))
}

impl Bot<'_> {
    /// Posts the message or brings it up to date, and then tells the thread what is new.
    async fn tell(&self, letter: &Letter<'_>) -> Result<Sent, Failure> {
        let kept = letter.work.kept.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut kept = match kept {
            Some(kept) => self.update(letter, kept).await?,
            None => self.post(letter).await?,
        };
        if let Err(mut failure) = self.tell_thread(letter, &mut kept).await {
            failure.keep = serde_json::to_string(&kept).ok();
            return Err(failure);
        }
        let told = format!("message {} in {}", kept.ts, kept.channel);
        Ok(Sent { told, keep: serde_json::to_string(&kept).ok() })
    }

    async fn post(&self, letter: &Letter<'_>) -> Result<Kept, Failure> {
        let mut is_unsure = letter.in_doubt;
        let mut n_tries = 0;
        loop {
            if is_unsure && let Some(found) = self.find(letter, "message", None).await? {
                return Ok(found);
            }
            n_tries += 1;
            let mut body = self.message(letter, "message");
            body.insert("channel".to_owned(), json!(self.channel));
            match self.call("chat.postMessage", &body.into(), false).await {
                Ok(answer) => {
                    let channel = answer.channel.as_str().unwrap_or(self.channel).to_owned();
                    return Ok(Kept { channel, ts: answer.ts, seq: 0 });
                }
                Err(Refusal::Request(trouble)) if trouble.may_have_arrived => {
                    is_unsure = true;
                    if TRIES_MAX <= n_tries {
                        return Err(Failure::unknown(trouble.reason));
                    }
                    sleep(TRY_AGAIN_AFTER).await;
                }
                Err(refusal) => return Err(refusal.failure()),
            }
        }
    }

    /// Brings the message up to date; twice is as good as once.
    async fn update(&self, letter: &Letter<'_>, kept: Kept) -> Result<Kept, Failure> {
        let mut body = self.message(letter, "message");
        body.insert("channel".to_owned(), json!(kept.channel));
        body.insert("ts".to_owned(), json!(kept.ts));
        match self.call("chat.update", &body.into(), true).await {
            Ok(_) => Ok(kept),
            // Somebody has removed it, or it is too old to be changed.
            Err(Refusal::Said(word))
                if ["message_not_found", "cant_update_message", "edit_window_closed"]
                    .contains(&word.as_str()) =>
            {
                self.post(letter).await
            }
            Err(refusal) => Err(refusal.failure()),
        }
    }

    async fn tell_thread(&self, letter: &Letter<'_>, kept: &mut Kept) -> Result<(), Failure> {
        let Some((text, last)) = timeline(letter, kept.seq) else { return Ok(()) };
        let mut is_unsure = letter.in_doubt;
        let mut n_tries = 0;
        loop {
            let thread = Some((kept.channel.as_str(), kept.ts.as_str()));
            if is_unsure && self.find(letter, "thread", thread).await?.is_some() {
                break;
            }
            n_tries += 1;
            let body = json!({
                "channel": kept.channel,
                "thread_ts": kept.ts,
                "text": text,
                "blocks": thread_blocks(&text),
                "parse": "none",
                "unfurl_links": false,
                "unfurl_media": false,
                "metadata": metadata(letter, "thread"),
            });
            match self.call("chat.postMessage", &body, false).await {
                Ok(_) => break,
                Err(Refusal::Request(trouble)) if trouble.may_have_arrived => {
                    is_unsure = true;
                    if TRIES_MAX <= n_tries {
                        return Err(Failure::unknown(trouble.reason));
                    }
                    sleep(TRY_AGAIN_AFTER).await;
                }
                Err(refusal) => return Err(refusal.failure()),
            }
        }
        kept.seq = last;
        Ok(())
    }

    fn message(&self, letter: &Letter<'_>, part: &str) -> serde_json::Map<String, Value> {
        [
            ("text".to_owned(), json!(fallback(letter))),
            ("blocks".to_owned(), blocks(letter)),
            ("metadata".to_owned(), metadata(letter, part)),
            ("parse".to_owned(), json!("none")),
            ("unfurl_links".to_owned(), json!(false)),
            ("unfurl_media".to_owned(), json!(false)),
        ]
        .into_iter()
        .collect()
    }

    /// Looks for a message of this notice that a gateway has posted before it was gone.
    /// Without a `thread` the message of the incident is meant.
    async fn find(
        &self,
        letter: &Letter<'_>,
        part: &str,
        thread: Option<(&str, &str)>,
    ) -> Result<Option<Kept>, Failure> {
        let (method, channel) = match thread {
            Some((channel, _)) => ("conversations.replies", channel),
            None => ("conversations.history", self.channel),
        };
        let limit = LOOKED_THROUGH_MAX.to_string();
        let mut query =
            vec![("channel", channel), ("limit", &limit), ("include_all_metadata", "true")];
        if let Some((_, ts)) = thread {
            query.push(("ts", ts));
        }
        let url = reqwest::Url::parse_with_params(&format!("{}/{method}", self.api), &query);
        let url = url.map_err(|error| Failure::unknown(error.to_string()))?;
        let answer = self.ask(true, || self.tools.http.get(url.clone())).await;
        let answer = answer.map_err(|refusal| {
            let reason = format!("whether it was posted cannot be found out: {}", refusal.reason());
            Failure::unknown(reason)
        })?;
        let wanted = metadata(letter, part);
        let is_ours = |it: &&Value| {
            let told = it.get("metadata");
            told.is_some_and(|it| {
                it.get("event_type") == wanted.get("event_type")
                    && it.get("event_payload") == wanted.get("event_payload")
            })
        };
        let found = answer.messages.iter().find(is_ours);
        let ts = found.and_then(|it| it.get("ts")).and_then(Value::as_str);
        Ok(ts.map(|ts| Kept { channel: channel.to_owned(), ts: ts.to_owned(), seq: 0 }))
    }

    async fn call(&self, method: &str, body: &Value, is_harmless: bool) -> Result<Answer, Refusal> {
        let url = format!("{}/{method}", self.api);
        self.ask(is_harmless, || self.tools.http.post(&url).json(body)).await
    }

    /// Asks until Slack says yes or no.
    async fn ask(
        &self,
        is_harmless: bool,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, Refusal> {
        let host = outgoing::host(self.api);
        let mut n_tries = 0;
        loop {
            n_tries += 1;
            let sent =
                outgoing::send(&host, is_harmless, || request().bearer_auth(self.token.expose()));
            let answer = sent.await.map_err(Refusal::Request)?;
            let wait = outgoing::retry_after(&answer).unwrap_or(TRY_AGAIN_AFTER);
            let answer = answer.json::<Answer>().await.map_err(|error| {
                let reason = format!("{host}: {}", error.without_url());
                Refusal::Request(Trouble { reason, may_have_arrived: true })
            })?;
            if answer.ok {
                return Ok(answer);
            }
            let later = ["ratelimited", "rate_limited", "service_unavailable"];
            if TRIES_MAX <= n_tries || !later.contains(&answer.error.as_str()) {
                return Err(Refusal::Said(answer.error));
            }
            sleep(wait).await;
        }
    }
}

impl Refusal {
    fn reason(&self) -> String {
        match self {
            Self::Said(word) => format!("Slack says `{word}`"),
            Self::Request(trouble) => trouble.reason.clone(),
        }
    }

    fn failure(self) -> Failure {
        match self {
            // What may have arrived was looked for before.
            Self::Request(trouble) => Failure::once(trouble),
            Self::Said(_) => Failure::not_sent(self.reason()),
        }
    }
}

fn metadata(letter: &Letter<'_>, part: &str) -> Value {
    let payload = json!({
        "incident": letter.incident(),
        "notice": letter.work.notice,
        "part": part,
    });
    json!({"event_type": METADATA, "event_payload": payload})
}
