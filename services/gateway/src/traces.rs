//! Requests that come with a trace of their sender's: W3C Trace Context.
//!
//! A request gets a span only when its sender records one, so that nobody pays for traces who
//! does not ask for them. An event carries that span with it, and the supervisor links the
//! incident to it.

use std::borrow::Cow;

use axum::http::HeaderMap;
use domain::trace::TraceContext;
use service::trace::{Open, Role};

/// Begins the span of a request below that of its sender, if it tells one.
pub(crate) fn open(headers: &HeaderMap, name: impl FnOnce() -> Cow<'static, str>) -> Open {
    match sent(headers) {
        Some(above) => Open::below(Some(above), name(), Role::Server),
        None => Open::below(None, "", Role::Server),
    }
}

/// Returns the sender's span. More than one is none.
fn sent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut all = headers.get_all("traceparent").iter();
    let first = all.next()?;
    if all.next().is_some() {
        return None;
    }
    first.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_trace_or_with_two_has_none() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        assert_eq!(sent(&headers), None);
        headers.append("traceparent", text.parse().unwrap());
        assert_eq!(sent(&headers), text.parse().ok());
        headers.append("traceparent", text.parse().unwrap());
        assert_eq!(sent(&headers), None);
    }
}
