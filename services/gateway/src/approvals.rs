//! `/approve/<token>`: the page behind an approval link. It shows the plan, why, and what it
//! may break, before the buttons.
//!
//! The link is the permission ([`crate::links`]), so this path asks for no token. Looking
//! changes nothing: programs that read mail follow links. A decision counts once.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bus::Claimed;
use chrono::Utc;
use domain::{
    access::Proof,
    redact::Reader,
    view::{IncidentDetail, Query, Status},
    visible::{self, is_hidden},
    wire::{AnswerStatus, Command, Input, Verb},
};
use serde_json::Value;
use tracing::info;

use crate::{
    app::App,
    approval_page::{self, Notice, STYLE},
    backend::defect,
    body::Whole,
    links::{Grant, Links, use_of},
    problem::Problem,
};

/// Longest name or reason that is taken from the form.
const TEXT_CHARS_MAX: usize = 200;

/// Shows what would be decided.
pub(crate) async fn show(State(app): State<App>, Path(token): Path<String>) -> Response {
    let grant = match read(&app, &token) {
        Ok(grant) => grant,
        Err(page) => return *page,
    };
    match detail(&app, &grant).await {
        Ok(detail) if waits(&detail, &grant) => {
            let to = permits(&app, &grant).then_some(grant.to.as_str());
            page(StatusCode::OK, &approval_page::form(&detail, to))
        }
        Ok(detail) => over(&detail),
        Err(page) => page,
    }
}

/// Decides.
pub(crate) async fn decide(
    State(app): State<App>,
    Path(token): Path<String>,
    body: Whole,
) -> Response {
    let grant = match read(&app, &token) {
        Ok(grant) => grant,
        Err(page) => return *page,
    };
    if !permits(&app, &grant) {
        let text = "Links to its receiver show the plan and permit nothing: decide where it asks who you are, or with `selfheal approve`.";
        return told(StatusCode::FORBIDDEN, &Notice::new("This link only shows", text));
    }
    let field = |name: &str| {
        let found = form_urlencoded::parse(&body.0).find(|(key, _)| key == name);
        let text = found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
        text.chars().filter(|it| !is_hidden(*it)).take(TEXT_CHARS_MAX).collect::<String>()
    };
    let (incident, plan_hash) = (grant.incident, grant.plan_hash.clone());
    let verb = match field("decision").as_str() {
        "approve" => Verb::Approve { incident, plan_hash },
        "reject" => Verb::Reject { incident, reason: field("reason") },
        _ => {
            let said = Notice::new("Nothing was decided", "The form says neither yes nor no.");
            return told(StatusCode::BAD_REQUEST, &said);
        }
    };
    let detail = match detail(&app, &grant).await {
        Ok(detail) if waits(&detail, &grant) => detail,
        Ok(detail) => return over(&detail),
        Err(page) => return page,
    };
    match app.claim(&use_of(&token)).await {
        Ok(Claimed::Won) => {}
        Ok(Claimed::Lost(first)) => {
            let text = format!(
                "A decision was made with this link at {}. The incident is now {}.",
                first.at.format("%F %T UTC"),
                detail.view.status.as_str()
            );
            return told(StatusCode::CONFLICT, &Notice::new("This link was used before", &text));
        }
        Err(problem) => return trouble(problem),
    }
    let by = by(&grant, &field("name"));
    let what = verb.as_str();
    info!(incident.id = %incident, by, verb = what, "an approval link was used");
    let command = Command::new(by, verb).proven(Proof::Link { to: grant.to.clone() });
    match app.ask(Input::Command(command), use_of(&token)).await {
        Ok(Some(answer)) => {
            let (status, title) = match answer.status {
                AnswerStatus::Refused => (StatusCode::CONFLICT, "It was refused"),
                AnswerStatus::NotFound => (StatusCode::NOT_FOUND, "There is no such incident"),
                AnswerStatus::IncidentOpened
                | AnswerStatus::IncidentUpdated
                | AnswerStatus::IncidentResolved
                | AnswerStatus::Suppressed
                | AnswerStatus::Done => (StatusCode::OK, "It is decided"),
            };
            told(status, &Notice::new(title, &answer.message))
        }
        Ok(None) => {
            let text =
                "No supervisor answered in time; what you decided is stored and will be done.";
            told(StatusCode::ACCEPTED, &Notice::new("It is stored", text))
        }
        Err(problem) => trouble(problem),
    }
}

/// Returns whether the receiver that the link was sent to may decide by it, now.
fn permits(app: &App, grant: &Grant) -> bool {
    let notify = app.notify();
    notify.receiver(&grant.to).is_some_and(|to| notify.decides_by_link(to))
}

/// Returns who decided, for the log: first what is proven, the receiver of the link, and in
/// brackets who somebody says that they are.
fn by(grant: &Grant, person: &str) -> String {
    match visible::name(person, TEXT_CHARS_MAX) {
        person if person.is_empty() => format!("link:{}", grant.to),
        person => format!("link:{} ({person})", grant.to),
    }
}

/// Reads a token, or says why it is worth nothing.
fn read(app: &App, token: &str) -> Result<Grant, Box<Response>> {
    let Some(links) = Links::new(&app.notify()) else {
        let text =
            "Approval links are not configured here: notify.public_url and notify.link_secret.";
        return Err(Box::new(told(
            StatusCode::NOT_FOUND,
            &Notice::new("There are no approval links", text),
        )));
    };
    let Some(grant) = links.read(token) else {
        let text = "It is cut off, or changed, or was made with another secret.";
        let said = Notice::new("This link is none of ours", text);
        return Err(Box::new(told(StatusCode::FORBIDDEN, &said)));
    };
    if grant.expires_at <= Utc::now() {
        let text =
            format!("It was worth something until {}.", grant.expires_at.format("%F %T UTC"));
        return Err(Box::new(told(StatusCode::GONE, &Notice::new("This link has expired", &text))));
    }
    Ok(grant)
}

async fn detail(app: &App, grant: &Grant) -> Result<IncidentDetail, Response> {
    let found = app.query::<Value>(&Query::Incident { id: grant.incident }).await;
    let read = found.and_then(|mut value| {
        app.redactor().json(&mut value, Reader::Approver);
        serde_json::from_value::<Option<IncidentDetail>>(value).map_err(|error| defect(&error))
    });
    match read {
        Ok(Some(detail)) => Ok(detail),
        Ok(None) => {
            let text = "It may have ended long ago.";
            Err(told(StatusCode::NOT_FOUND, &Notice::new("There is no such incident", text)))
        }
        Err(problem) => Err(trouble(problem)),
    }
}

/// Returns whether exactly this plan waits for a decision.
fn waits(detail: &IncidentDetail, grant: &Grant) -> bool {
    detail.view.status == Status::AwaitingApproval
        && detail.view.plan.as_ref().is_some_and(|it| it.hash == grant.plan_hash)
}

fn over(detail: &IncidentDetail) -> Response {
    let status = detail.view.status.as_str();
    let text =
        format!("This plan does not wait for a decision any more. The incident is now {status}.");
    told(StatusCode::CONFLICT, &Notice::new("There is nothing to decide", &text))
}

fn trouble(problem: Problem) -> Response {
    let (status, said) = (problem.status(), problem.text());
    let headers = problem.into_response();
    let mut response = told(status, &Notice::new("That did not work", &said));
    if let Some(after) = headers.headers().get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after.clone());
    }
    response
}

fn told(status: StatusCode, notice: &Notice<'_>) -> Response {
    page(status, &approval_page::notice(notice))
}

/// Answers with a page that loads nothing, runs nothing, is kept nowhere, and tells nobody
/// where the reader came from.
fn page(status: StatusCode, html: &str) -> Response {
    let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(digest)
    );
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    let headers = fixed.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value)));
    let mut headers: HeaderMap = headers.collect();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    (status, headers, html.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proven_stands_first_in_the_log_whatever_name_is_given() {
        let grant = Grant {
            incident: domain::id::IncidentId::NONE,
            plan_hash: String::new(),
            expires_at: Utc::now(),
            to: "hook".to_owned(),
        };
        for (given, told) in [
            ("Ann", "link:hook (Ann)"),
            ("", "link:hook"),
            (" \u{202e}() ", "link:hook"),
            (
                "oidc:ceo@example.org (approved by token:ann)",
                "link:hook (oidc:ceo@example.org approved by token:ann)",
            ),
        ] {
            assert_eq!(by(&grant, given), told);
        }
    }
}
