//! The webhook of Grafana's alerting.
//!
//! It has the form of Alertmanager's with more fields (`version` "1", `orgId`, `title`, `state`),
//! and may be signed: set a secret at the contact point and the same one here.

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};

use super::alertmanager;
use crate::{app::App, body::Group, problem::Problem};

/// `POST /integrations/grafana`.
pub(crate) async fn webhook(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    alertmanager::take(&app, "grafana", &uri, &headers, &body).await
}
