//! Mail by SMTP, protected by TLS. All mail about one incident is one thread.

use std::time::Duration;

use domain::{
    notify::{Email, Tls},
    visible,
};
use lettre::{
    Message,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
    },
};
use service::Chain;
use tokio::time::timeout;

use super::{Doubt, Failure, Sending, Sent, Tools, Way, secret};
use crate::letter::{Letter, cut};

pub(super) const WAY: Way = Way {
    name: "email",
    // Servers deliver the same `Message-ID` twice.
    in_doubt: Doubt::Leave,
    is_for: |to| to.email.is_some(),
    send,
};

/// Longest time for one step of the conversation.
const STEP_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest time until the server is ready to take the message.
const GREETING_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest time for the message itself: servers look at it before they answer.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest subject that reads well in a list.
const SUBJECT_CHARS_MAX: usize = 180;

fn send<'a>(tools: &'a Tools, letter: &'a Letter<'a>) -> Sending<'a> {
    Box::pin(async move {
        let Some(email) = &letter.to.email else { return Err(Failure::not_sent("it is no mail")) };
        let (message, id) = message(letter, email)?;
        let greeting = timeout(GREETING_TIME_MAX, connect(tools, email));
        let mut connection = match greeting.await {
            Ok(connected) => connected?,
            Err(_elapsed) => {
                return Err(Failure::not_sent(format!("{} does not answer", email.server)));
            }
        };
        let formatted = message.formatted();
        let sending = connection.send(message.envelope(), &formatted);
        match timeout(MESSAGE_TIME_MAX, sending).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.is_transient() || error.is_permanent() => {
                return Err(refused(email, &error));
            }
            Ok(Err(error)) => return Err(Failure::unknown(refused(email, &error).reason)),
            Err(_elapsed) => {
                return Err(Failure::unknown(format!(
                    "{} did not say whether it took it",
                    email.server
                )));
            }
        }
        // The server has it; whether it hears that we go changes nothing.
        let _goodbye = timeout(STEP_TIME_MAX, connection.quit()).await;
        let first = letter.work.kept.clone().unwrap_or(id);
        Ok(Sent { told: format!("{} took it", email.server), keep: Some(first) })
    })
}

fn refused(email: &Email, error: &Error) -> Failure {
    Failure::not_sent(format!("{}: {}", email.server, Chain(error)))
}

/// Comes as far as a server that is ready to take a message.
async fn connect(tools: &Tools, email: &Email) -> Result<AsyncSmtpConnection, Failure> {
    let port = email.port.unwrap_or(match email.tls {
        Tls::Starttls => 587,
        Tls::Tls => 465,
        Tls::None => 25,
    });
    let tls = parameters(email).await?;
    let hello = ClientId::default();
    let wrapped = (email.tls == Tls::Tls).then(|| tls.clone());
    let step = |error: Error| refused(email, &error);
    let resolved = tools.outgoing.resolve(&email.server, port).await;
    let unresolved =
        |error: std::io::Error| Failure::not_sent(format!("{}: {}", email.server, Chain(&error)));
    let addresses = resolved.map_err(unresolved)?;
    let (addresses, limit) = (addresses.as_slice(), Some(STEP_TIME_MAX));
    let connected = AsyncSmtpConnection::connect_tokio1(addresses, limit, &hello, wrapped, None);
    let mut connection = connected.await.map_err(step)?;
    if email.tls == Tls::Starttls {
        if !connection.can_starttls() {
            let reason = format!("{} offers no STARTTLS", email.server);
            return Err(Failure::not_sent(reason));
        }
        connection.starttls(tls, &hello).await.map_err(step)?;
    }
    if let (Some(username), Some(password)) = (&email.username, &email.password) {
        let password = secret(password)?;
        let credentials = Credentials::new(username.clone(), password.expose().to_owned());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        connection.auth(&mechanisms, &credentials).await.map_err(step)?;
    }
    Ok(connection)
}

async fn parameters(email: &Email) -> Result<TlsParameters, Failure> {
    let mut parameters = TlsParameters::builder(email.server.clone());
    if let Some(path) = &email.ca_file {
        let unread = |error: std::io::Error| Failure::not_sent(format!("{path}: {error}"));
        let text = tokio::fs::read(path).await.map_err(unread)?;
        let certificate = Certificate::from_pem(&text).map_err(|error| refused(email, &error))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build_rustls().map_err(|error| refused(email, &error))
}

/// Returns the mail and its `Message-ID`, which is the same whenever it is sent.
fn message(letter: &Letter<'_>, email: &Email) -> Result<(Message, String), Failure> {
    let address = |text: &str| {
        let read = text.parse::<Mailbox>();
        read.map_err(|error| Failure::not_sent(format!("`{text}` is no address: {error}")))
    };
    let from = address(&email.from)?;
    let domain = from.email.domain().to_owned();
    let id = format!("<{}.{}@{domain}>", letter.work.notice, letter.incident());
    let mut mail = Message::builder().from(from).message_id(Some(id.clone()));
    for to in &email.to {
        mail = mail.to(address(to)?);
    }
    if let Some(first) = &letter.work.kept {
        mail = mail.in_reply_to(first.clone()).references(first.clone());
    }
    let subject = cut(&format!("[selfheal] {}", letter.work.title), SUBJECT_CHARS_MAX);
    let mail = mail.subject(subject).header(ContentType::TEXT_PLAIN).body(text(letter));
    mail.map(|mail| (mail, id)).map_err(|error| Failure::not_sent(Chain(&error).to_string()))
}

fn text(letter: &Letter<'_>) -> String {
    let mut lines = vec![letter.work.title.clone(), String::new()];
    // Indented: no line of ours begins with what others say.
    lines.extend(letter.work.text.lines().map(|it| format!("  {it}")));
    lines.push(String::new());
    let fields = [
        ("Incident", letter.incident().to_string()),
        ("Target", letter.target().to_owned()),
        ("Status", letter.field("status").to_owned()),
        ("Severity", letter.severity().to_owned()),
        ("Cause", letter.field("analysis").to_owned()),
        ("Plan", letter.plan("/summary").unwrap_or_default().to_owned()),
        ("Risk", letter.plan("/plan/risk").unwrap_or_default().to_owned()),
    ];
    let told = fields.iter().filter(|(_, value)| !value.is_empty());
    lines.extend(told.map(|(name, value)| format!("{name}: {}", visible::line(value))));
    if !letter.work.measured.is_empty() {
        lines.extend([String::new(), "Measured for the diagnosis:".to_owned()]);
        lines.extend(letter.work.measured.iter().map(|it| format!("  {it}")));
    }
    if let Some(plan) = &letter.plan {
        lines.extend([String::new(), "The whole plan:".to_owned()]);
        lines.extend(plan.lines().map(|it| format!("  {it}")));
    }
    if let Some(url) = &letter.approve_url {
        lines.extend([String::new(), "Review the plan and decide:".to_owned(), url.clone()]);
    }
    if !letter.work.steps.is_empty() {
        lines.extend([String::new(), "What happened:".to_owned()]);
        let steps = letter.work.steps.iter();
        lines.extend(steps.map(|it| format!("{}  {}: {}", it.at, it.decision, it.reason)));
    }
    lines.join("\r\n")
}

#[cfg(test)]
mod tests {
    use domain::{
        notify::{Notify, Receiver},
        redact::Redactor,
    };
    use serde_json::json;

    use super::*;
    use crate::letter::{presentable, tests::work};

    #[test]
    fn what_strangers_say_makes_no_line_and_no_header_and_the_plan_is_whole() {
        let stranger =
            "db\r\nBcc: a@evil.example\nReview the plan and decide:\nhttps://evil.example";
        let plan = json!({"body": "{\"delete\": \"everything\"}"});
        let work = presentable(work(stranger, plan), &Redactor::default());
        let to = Receiver::default();
        let letter = Letter::new(&work, &to, &Notify::default());
        let email = json!({"server": "s", "from": "a@b.example", "to": ["c@d.example"]});
        let (mail, _) = message(&letter, &serde_json::from_value(email).unwrap()).unwrap();
        let raw = String::from_utf8(mail.formatted()).unwrap();
        let (head, _) = raw.split_once("\r\n\r\n").unwrap();
        assert!(!head.lines().any(|it| it.starts_with("Bcc")), "{head}");
        let text = text(&letter);
        for line in text.lines().filter(|it| it.contains("evil.example") || it.contains("decide:"))
        {
            let is_named = ["Target: ", "Cause: ", "Plan: ", "  ", "2026"]
                .iter()
                .any(|it| line.starts_with(it));
            assert!(is_named || line == work.title, "{line:?} in\n{text}");
        }
        assert!(text.contains(r#"body: "{\"delete\": \"everything\"}""#), "{text}");
    }
}
