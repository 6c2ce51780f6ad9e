//! The host has memory.

use futures_util::future::BoxFuture;

use super::Question;
use crate::{host, sample::Finding};

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        match host::memory_percent() {
            Ok(percent) => Finding::percent(&question.check, percent, "memory used"),
            Err(error) => Finding::failed(format!("cannot measure the memory: {error}")),
        }
    })
}
