//! What the page behind an approval link looks like.

use std::fmt::Write as _;

use domain::{plan, redact, view::IncidentDetail, visible};

/// Pieces of evidence that are shown; the incident has them all.
const EVIDENCE_MAX: usize = 20;

/// The only style; the content security policy names its hash.
pub(crate) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem}dt{font-weight:600}dd{margin:0 0 .5rem}pre{background:#eee;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}code{background:#eee;padding:.1rem .3rem;overflow-wrap:anywhere}label{display:block;margin:.75rem 0}input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box}button{font:inherit;padding:.6rem 1.4rem;margin-right:1rem;border:1px solid #444;border-radius:.3rem;cursor:pointer}button[value=approve]{background:#0a662e;color:#fff}button[value=reject]{background:#fff;color:#9b1c1c}";

/// A page that only says something.
#[derive(Debug)]
pub(crate) struct Notice<'a> {
    title: &'a str,
    text: &'a str,
}

impl<'a> Notice<'a> {
    /// Says this.
    pub(crate) const fn new(title: &'a str, text: &'a str) -> Self {
        Self { title, text }
    }
}

/// Returns a page that only says something.
pub(crate) fn notice(notice: &Notice<'_>) -> String {
    let Notice { title, text } = notice;
    whole(title, &format!("<h1>{}</h1><p>{}</p>", escape(title), escape(text)))
}

/// Returns the page with the plan, why, what it may break, and for whom the link permits to decide
/// the buttons.
pub(crate) fn form(detail: &IncidentDetail, to: Option<&str>) -> String {
    let view = &detail.view;
    let target = view.target.as_deref().unwrap_or("unknown");
    let title = format!("Approval wanted: {} on {target}", view.kind);
    let mut body = format!("<h1>{}</h1><dl>", escape(&title));
    let severity = serde_json::to_value(view.severity).unwrap_or_default();
    let mut row = |name: &str, value: &str| {
        put(&mut body, format_args!("<dt>{name}</dt><dd>{}</dd>", escape(value)));
    };
    row("Target", target);
    row("Severity", severity.as_str().unwrap_or_default());
    row("Since", &view.opened_at.format("%F %T UTC").to_string());
    row("Cause", view.analysis.as_deref().unwrap_or("not known"));
    if let Some(planned) = &view.plan {
        let risk = serde_json::to_value(planned.plan.risk).unwrap_or_default();
        let undo = if planned.plan.can_be_undone() {
            "it can be taken back"
        } else {
            "it cannot be taken back"
        };
        row("Risk", &format!("{}; {undo}", risk.as_str().unwrap_or_default()));
        if let Some(expires_at) = planned.expires_at {
            row("Decide until", &expires_at.format("%F %T UTC").to_string());
        }
        body.push_str("</dl>");
        put(&mut body, format_args!("<h2>Plan: {}</h2>", escape(&planned.plan.title)));
        put(&mut body, format_args!("<pre>{}</pre>", escape(&plan::render(&planned.plan))));
        put(&mut body, format_args!("<p>Plan <code>{}</code></p>", escape(&planned.hash)));
    } else {
        body.push_str("</dl>");
    }
    body.push_str("<h2>Evidence</h2><ul>");
    for reason in detail.hypotheses.iter().take(1).flat_map(|it| &it.because) {
        put(&mut body, format_args!("<li>{}</li>", escape(reason)));
    }
    for found in detail.evidence.iter().take(EVIDENCE_MAX) {
        put(
            &mut body,
            format_args!("<li>{}: {}</li>", escape(&found.source), escape(&found.summary)),
        );
    }
    body.push_str("</ul>");
    let Some(to) = to else {
        put(
            &mut body,
            format_args!("<p>Incident <code>{}</code>. This link only shows.</p>", view.id),
        );
        return whole(&title, &body);
    };
    body.push_str("<form method=\"post\"><label>Your name, for the log <input name=\"name\" maxlength=\"100\" autocomplete=\"name\"></label>");
    body.push_str("<label>Why not, if not <input name=\"reason\" maxlength=\"200\"></label>");
    body.push_str("<button name=\"decision\" value=\"approve\">Approve</button><button name=\"decision\" value=\"reject\">Reject</button></form>");
    put(
        &mut body,
        format_args!(
            "<p>Incident <code>{}</code>. This link was sent to {} and counts once.</p>",
            view.id,
            escape(to)
        ),
    );
    whole(&title, &body)
}

/// Writing to a string cannot fail.
fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    let _infallible = body.write_fmt(text);
}

fn whole(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        escape(title)
    )
}

/// Makes any text harmless, within an element and within an attribute: it shows no credential, no
/// sign of HTML, and nothing that is hidden.
fn escape(text: &str) -> String {
    let text = redact::text(text);
    let mut safe = String::with_capacity(text.len());
    for character in visible::lines(&text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_text() {
        let page = notice(&Notice::new("<script>alert(1)</script>", "\"' & <b>"));
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&quot;&#39; &amp; &lt;b&gt;"));
        assert_eq!(escape("a\u{202e}b http://u:pw@h/"), "a\\u{202e}b http://[redacted]@h/");
    }
}
