//! `POST /integrations/slack/actions`: somebody pressed a button of a message of ours.
//!
//! Slack signs each request (<https://docs.slack.dev/authentication/verifying-requests-from-slack>),
//! so this path asks for no token. A signature counts once in the whole fleet.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bus::{Asked, Claimed};
use chrono::Utc;
use domain::{
    access::Proof,
    id::{IncidentId, sha256_hex},
    notify::Notify,
    visible,
    wire::{Answer, Claim, Command, Input, Verb},
};
use serde::Deserialize;
use serde_json::json;
use service::{Chain, read_secret};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    app::App,
    body::Whole,
    problem::Problem,
    signing::{Signer, unhex},
    slack_message::{APPROVE, REJECT},
};

/// Older requests may be replays.
const AGE_MAX_S: i64 = 5 * 60;

/// Slack waits 3 s for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long it may take to tell the one who pressed what became of it.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// Longest name of a user that is kept.
const NAME_CHARS_MAX: usize = 200;

/// Whose URL is called back.
const SLACK_HOST: &str = "hooks.slack.com";

/// What we read of the payload.
#[derive(Debug, Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    response_url: String,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

/// Takes what Slack sends when a button was pressed.
pub(crate) async fn pressed(
    State(app): State<App>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let notify = app.notify();
    let signature = verify(&notify, &headers, &body.0)?;
    once(&app, &signature).await?;
    let fields = form_urlencoded::parse(&body.0);
    let Some((_, text)) = fields.into_iter().find(|(name, _)| name == "payload") else {
        // `ssl_check`, and whatever else wants to know whether somebody is here.
        return Ok(StatusCode::OK.into_response());
    };
    let payload: Payload = serde_json::from_str(&text).map_err(|error| {
        Problem::bad(
            "invalid_payload",
            format!("the payload cannot be read: {error}"),
            "is this Slack?",
        )
    })?;
    if payload.kind == "block_actions" {
        let said = decide(&app, &notify, &payload, &signature).await;
        if let Some(said) = said {
            tell(&app, &notify, &payload.response_url, &said).await;
        }
    }
    Ok(StatusCode::OK.into_response())
}

fn refused(code: &'static str, message: &str, hint: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, message, hint)
}

/// Returns the signature of a request that Slack has signed lately.
fn verify(notify: &Notify, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let app = notify.slack.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "slack_not_configured",
            "no Slack app is configured",
            "set notify.slack in selfheal.yaml",
        )
    })?;
    let secret = read_secret(&app.signing_secret).map_err(|error| {
        warn!(error = %Chain(&error), "buttons of Slack cannot be answered");
        Problem::later(
            "secret_missing",
            "the signing secret is not there",
            "see the gateway's log",
            60,
        )
    })?;
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    let hint = "Slack signs each request with the signing secret of the app";
    let missing = || refused("signature_missing", "the request is not signed", hint);
    let timestamp = text("x-slack-request-timestamp").ok_or_else(missing)?;
    let signature = text("x-slack-signature").ok_or_else(missing)?;
    let wrong = || refused("signature_wrong", "the signature is not that of this request", hint);
    let signature = signature.strip_prefix("v0=").and_then(unhex).ok_or_else(wrong)?;
    let message = [b"v0:", timestamp.as_bytes(), b":", body].concat();
    if !Signer::new(&secret).verifies(&message, &signature) {
        return Err(wrong());
    }
    let age = timestamp.parse::<i64>().ok().map(|at| Utc::now().timestamp().abs_diff(at));
    if age.is_none_or(|age| AGE_MAX_S.unsigned_abs() < age) {
        let hint = "press the button again; compare the clocks if that does not help";
        return Err(refused("signature_too_old", "the request is older than 5 min", hint));
    }
    Ok(signature)
}

/// Takes a signature once, in the whole fleet.
async fn once(app: &App, signature: &[u8]) -> Result<(), Problem> {
    let key = format!("slack-{}", sha256_hex(signature));
    match app.claim(&key).await {
        Ok(Claimed::Won) => Ok(()),
        Ok(Claimed::Lost(_)) => {
            let hint = "each request of Slack has a signature of its own";
            Err(refused("replayed", "a request with this signature came before", hint))
        }
        Err(problem) => Err(problem),
    }
}

/// Does what the button says; returns what the one who pressed it hears.
async fn decide(app: &App, notify: &Notify, payload: &Payload, signature: &[u8]) -> Option<String> {
    let ours = |it: &&Action| it.action_id == APPROVE || it.action_id == REJECT;
    let action = payload.actions.iter().find(ours)?;
    let user = &payload.user;
    let name = if user.username.is_empty() { &user.name } else { &user.username };
    let approvers = notify.slack.as_ref().map(|it| it.approvers.as_slice()).unwrap_or_default();
    if !approvers.contains(&user.id) {
        warn!(user = user.id, name, "a button was pressed by a user who is not an approver");
        return Some(format!(
            "You may not decide about plans. Your id is {}; it must be among notify.slack.approvers.",
            user.id
        ));
    }
    let Some((incident, plan_hash)) = value(&action.value) else {
        return Some("This button is none of ours.".to_owned());
    };
    let by = by(&user.id, name);
    let verb = if action.action_id == APPROVE {
        Verb::Approve { incident, plan_hash }
    } else {
        Verb::Reject { incident, reason: "rejected in Slack".to_owned() }
    };
    info!(incident.id = %incident, by, verb = verb.as_str(), "a button was pressed in Slack");
    let proof = Proof::Slack { user: user.id.clone() };
    let input = Input::Command(Command::new(by, verb).proven(proof));
    let id = sha256_hex(signature);
    let asked = app.bus().ask::<Answer>(&app.writer(), input, id, ANSWER_WITHIN).await;
    Some(match asked {
        Ok(Asked::Answer(answer)) => answer.message,
        Ok(Asked::Accepted) => "It is stored and will be done.".to_owned(),
        Err(error) => {
            warn!(incident.id = %incident, error = %Chain(&error), "what was decided in Slack could not be stored");
            "It could not be stored. Press the button again.".to_owned()
        }
    })
}

/// Returns who pressed, for the log: first the id, which Slack has signed, and in brackets the
/// name, which users of Slack choose themselves.
fn by(id: &str, name: &str) -> String {
    let id = visible::name(id, NAME_CHARS_MAX);
    match visible::name(name, NAME_CHARS_MAX) {
        name if name.is_empty() => format!("slack:{id}"),
        name => format!("slack:{id} ({name})"),
    }
}

fn value(text: &str) -> Option<(IncidentId, String)> {
    let (incident, hash) = text.split_once(' ')?;
    Some((incident.parse().ok()?, hash.to_owned()))
}

/// Tells the one who pressed, and nobody else. Only Slack's own host is called.
async fn tell(app: &App, notify: &Notify, url: &str, said: &str) {
    let Ok(parsed) = reqwest::Url::parse(url) else { return };
    let is_slack = parsed.scheme() == "https" && parsed.host_str() == Some(SLACK_HOST);
    let is_configured = notify.receivers.iter().any(|it| {
        let api = it.slack.as_ref().and_then(|it| it.api_url.as_deref());
        let api = api.and_then(|it| reqwest::Url::parse(it).ok());
        api.is_some_and(|api| api.origin() == parsed.origin())
    });
    if !is_slack && !is_configured {
        return;
    }
    let body = json!({"response_type": "ephemeral", "replace_original": false, "text": said});
    // Buttons are pressed seldom: a client for each is no waste.
    let builder = reqwest::Client::builder().timeout(TELL_WITHIN);
    let sent = match app.outgoing().client(builder) {
        Ok(client) => client.post(parsed).json(&body).send().await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        let error = error.without_url();
        warn!(error = %Chain(&error), "somebody could not be told the outcome of a button");
    }
}

/// Makes a claim of this gateway.
pub(crate) fn claim(by: &str, what: &str) -> Claim {
    let id = Uuid::new_v4().to_string();
    Claim::new(id, by.to_owned(), Utc::now(), what.to_owned())
}
