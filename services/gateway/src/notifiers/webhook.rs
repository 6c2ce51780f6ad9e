//! A POST to any URL, with JSON or what a template makes of the notice.

use chrono::Utc;
use domain::notify::Webhook;
use minijinja::{Environment, UndefinedBehavior};
use reqwest::header;
use serde_json::{Value, json};
use service::Chain;
use tracing::warn;

use super::{Doubt, Failure, Sending, Sent, Tools, Way, secret};
use crate::{
    letter::Letter,
    outgoing,
    signing::{Signer, hex},
};

pub(super) const WAY: Way = Way {
    name: "webhook",
    // It can tell a repetition by the `idempotency-key`, but need not look at it.
    in_doubt: Doubt::Leave,
    is_for: |to| to.webhook.is_some(),
    send,
};

/// Steps of a template's work; one that goes round in circles ends here.
const TEMPLATE_FUEL: u64 = 100_000;

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(webhook) = &letter.to.webhook else {
            return Err(Failure::not_sent("it is no webhook"));
        };
        post(tools, letter, webhook).await
    })
}

async fn post(tools: &Tools, letter: &Letter<'_>, webhook: &Webhook) -> Result<Sent, Failure> {
    let url = match (&webhook.url, &webhook.url_from) {
        (Some(url), _) => url.clone(),
        (None, Some(from)) => secret(from)?.expose().trim().to_owned(),
        (None, None) => return Err(Failure::not_sent("it has no URL")),
    };
    let signer = webhook.secret.as_ref().map(secret).transpose()?.map(|it| Signer::new(&it));
    let fields = fields(letter);
    let mut content_type = "application/json";
    let body = match webhook.template.as_deref().map(|template| render(template, &fields)) {
        None => fields.to_string(),
        Some(Ok(body)) => {
            content_type = webhook.content_type.as_deref().unwrap_or(content_type);
            body
        }
        Some(Err(error)) => {
            // A notice in another form is better than none.
            warn!(receiver = letter.to.name, error = %Chain(&error), "the template of a webhook cannot be used, the notice goes as JSON");
            fields.to_string()
        }
    };
    let host = outgoing::host(&url);
    let answer = outgoing::send(&host, false, || {
        let mut request = tools
            .http
            .post(&url)
            // The same for each attempt, so that a receiver can tell a repetition.
            .header("idempotency-key", letter.key())
            .header(header::CONTENT_TYPE, content_type);
        if let Some(signer) = &signer {
            let timestamp = Utc::now().timestamp().to_string();
            let signature = signer.sign(&[timestamp.as_bytes(), b".", body.as_bytes()]);
            request = request
                .header("x-selfheal-timestamp", timestamp)
                .header("x-selfheal-signature", format!("v1={}", hex(&signature)));
        }
        request.body(body.clone())
    });
    let answer = answer.await.map_err(Failure::once)?;
    Ok(Sent::new(format!("{host} answered {}", answer.status().as_u16())))
}

/// The body: what chat programs show (`text`) and what programs read.
fn fields(letter: &Letter<'_>) -> Value {
    let work = letter.work;
    json!({
        "text": format!("{}\n{}", work.title, work.text),
        "title": work.title,
        "incident_id": letter.incident(),
        "notice": work.notice,
        "occasion": work.occasion,
        "receiver": letter.to.name,
        "reason": work.text,
        "approve_url": letter.approve_url,
        "plan": letter.plan,
        "measured": work.measured,
        "incident": work.incident,
    })
}

fn render(template: &str, fields: &Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::empty();
    environment.add_function("range", minijinja::functions::range);
    environment.add_filter("tojson", minijinja::filters::tojson);
    environment.add_filter("upper", minijinja::filters::upper);
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("trim", minijinja::filters::trim);
    environment.add_filter("default", minijinja::filters::default);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(TEMPLATE_FUEL));
    environment.render_str(template, minijinja::value::Serde(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_sees_the_notice_and_cannot_run_for_ever() {
        let fields = json!({"title": "a \"b\"", "incident": {"severity": "error"}});
        let made = render("{{ title | tojson }} {{ incident.severity | upper }}", &fields);
        assert_eq!(made.unwrap(), r#""a \"b\"" ERROR"#);
        assert!(render("{{ titel }}", &fields).is_err(), "a typing mistake is one");
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, &fields).is_err());
    }
}
