//! A file system has room.

use std::io::ErrorKind::{InvalidInput, NotFound};

use futures_util::future::BoxFuture;
use serde_json::json;

use super::Question;
use crate::sample::Finding;

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        let path = question.check.disk.clone().unwrap_or_default();
        match question.instruments.disk_percent(path.clone()).await {
            Ok(percent) => Finding::percent(&question.check, percent, &format!("{path} used"))
                .with("path", json!(path)),
            Err(error) if matches!(error.kind(), NotFound | InvalidInput) => {
                Finding::not_asked(format!("cannot read {path}: {error}"))
            }
            Err(error) => Finding::failed(format!("cannot read {path}: {error}")),
        }
    })
}
