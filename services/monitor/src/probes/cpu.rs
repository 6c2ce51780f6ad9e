//! The host's processors have time.

use futures_util::future::BoxFuture;

use super::Question;
use crate::sample::Finding;

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        match question.instruments.cpu.percent().await {
            Ok(percent) => Finding::percent(&question.check, percent, "processors busy"),
            Err(error) => Finding::failed(format!("cannot measure the processors: {error}")),
        }
    })
}
