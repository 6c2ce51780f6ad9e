//! `POST /api/v1/receivers/{name}/test`: whether somebody can be told, before it matters.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::Utc;
use domain::{
    id::{IncidentId, Position},
    notify::{Occasion, Receiver},
    wire::{NotifyWork, WorkRef},
};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::{
    app::App,
    letter::Letter,
    notifiers::{self, Failure, Sent, Tools},
    problem::Problem,
};

/// Tells a receiver that this is a test. Where that would leave an alert, it is resolved.
pub(crate) async fn test(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let notify = app.notify();
    let Some(to) = notify.receiver(&name) else {
        let known: Vec<_> = notify.receivers.iter().map(|it| it.name.as_str()).collect();
        let message =
            format!("there is no receiver `{}`", name.chars().take(64).collect::<String>());
        let hint = format!("configured are: {}", known.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_receiver", message, hint));
    };
    let tools = Tools::new(app.outgoing()).map_err(|error| {
        warn!(%error, "requests cannot be made");
        Problem::later("no_client", "requests cannot be made", "see the gateway's log", 60)
    })?;
    let way = notifiers::name_of(to);
    match tell(&tools, to).await {
        Ok(sent) => {
            info!(receiver = name, way, told = sent.told, "a receiver was sent a test");
            Ok(Json(json!({"receiver": name, "way": way, "told": sent.told})))
        }
        Err(failure) => {
            let message = format!("`{name}` could not be notified: {}", failure.reason);
            let hint = "correct the receiver, its secret or the network between, and test again";
            Err(Problem::new(StatusCode::BAD_GATEWAY, "not_told", message, hint))
        }
    }
}

async fn tell(tools: &Tools, to: &Receiver) -> Result<Sent, Failure> {
    let now = Utc::now();
    let incident = IncidentId::derive(now, Position::default(), &to.name);
    let mut work = NotifyWork {
        work: WorkRef { incident, attempt: 0, revision: 0 },
        notice: format!("test-{}", to.name),
        title: "test of a receiver".to_owned(),
        text: "This is a test notification of Self-Heal. Nothing is wrong.".to_owned(),
        incident: json!({
            "id": incident, "type": "selfheal.test", "status": "open", "severity": "info",
            "target": to.name, "source": "selfheal", "opened_at": now,
        }),
        to: Vec::new(),
        receiver: None,
        occasion: Occasion::Escalated,
        kept: None,
        steps: Vec::new(),
        measured: Vec::new(),
    };
    let notify = domain::notify::Notify::default();
    let sent = notifiers::deliver(tools, &Letter::new(&work, to, &notify)).await?;
    if to.pagerduty.is_some() || to.alertmanager.is_some() {
        work.occasion = Occasion::Resolved;
        work.kept.clone_from(&sent.keep);
        notifiers::deliver(tools, &Letter::new(&work, to, &notify)).await?;
    }
    Ok(sent)
}
