//! What a person orders: `approve`, `reject`, `acknowledge`, `close`, `retry`, `pause`, `resume`, `apply`, `publish`.

use std::path::Path;

use chrono::Utc;
use domain::{
    event::{self, Context, Origin},
    view::{IncidentDetail, Query},
    wire::{ConfigText, Input, Verb},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    args::{By, Global, Named, Publish, Reasoned},
    config_file,
    connection::System,
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, plain, toned},
};

/// `approve`: of a plan named by its hash, or of the one that waits now, which is shown.
pub(crate) async fn approve(
    system: &System,
    incident: &str,
    plan: Option<String>,
    by: &By,
) -> Result<(), Failure> {
    let incident = system.find(incident).await?;
    let plan_hash = match plan {
        Some(hash) => hash,
        None => {
            let detail: Option<IncidentDetail> =
                system.query(&Query::Incident { id: incident }).await?;
            let detail = detail.ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("there is no incident {incident}"))
            })?;
            let Some(plan) = detail.view.plan else {
                let status = detail.view.status.as_str();
                let message = format!("incident {incident} is {status} and has no plan to approve");
                return Err(Failure::new(Exit::Refused, message));
            };
            if !system.terminal.is_json() {
                let what = toned(Tone::Strong, &plan.summary);
                system.terminal.remark(&format!("approving: {what} (plan {})", plain(&plan.hash)));
            }
            plan.hash
        }
    };
    system.command(&by.by, Verb::Approve { incident, plan_hash }).await
}

/// `reject`.
pub(crate) async fn reject(system: &System, args: Reasoned) -> Result<(), Failure> {
    let incident = system.find(&args.incident).await?;
    system.command(&args.by.by, Verb::Reject { incident, reason: args.reason }).await
}

/// `close`.
pub(crate) async fn close(system: &System, args: Reasoned) -> Result<(), Failure> {
    let incident = system.find(&args.incident).await?;
    system.command(&args.by.by, Verb::Close { incident, reason: args.reason }).await
}

/// `acknowledge`.
pub(crate) async fn acknowledge(system: &System, args: Named) -> Result<(), Failure> {
    let incident = system.find(&args.incident).await?;
    system.command(&args.by.by, Verb::Acknowledge { incident }).await
}

/// `retry`.
pub(crate) async fn retry(system: &System, args: Named) -> Result<(), Failure> {
    let incident = system.find(&args.incident).await?;
    system.command(&args.by.by, Verb::Retry { incident }).await
}

/// `apply`: checked here, where the mistakes can be shown, and again by the supervisor.
pub(crate) async fn apply(
    global: &Global,
    terminal: Terminal,
    file: &Path,
    by: &By,
) -> Result<(), Failure> {
    let (config, text) = config_file::read(file)?;
    for warning in config.warnings() {
        terminal.remark(&format!("{} {}", toned(Tone::Notice, "warning:"), plain(&warning)));
    }
    let system = System::connect(global, terminal).await?;
    // What it takes away is named, also when nobody can be asked what is in force.
    if let Some(in_force) = system.configuration().await {
        for difference in in_force.to_confirm(&config, Utc::now()) {
            terminal.remark(&format!("{} {}", toned(Tone::Notice, "change:"), plain(&difference)));
        }
    }
    let verbs = Verb::configure_all(&config, Some(ConfigText::given(&text))).map_err(|error| {
        Failure::new(Exit::Config, "the configuration is too large").because(error)
    })?;
    system.commands(&by.by, verbs).await
}

/// `publish`.
pub(crate) async fn publish(system: &System, args: Publish) -> Result<(), Failure> {
    let id = args.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let context = Context { id: id.clone(), kind: None, at: Utc::now() };
    let event = event::plain(plain_form(&args), &context)
        .map_err(|error| Failure::new(Exit::Usage, error.message.clone()).hint(error.hint))?
        .sent_by(Origin::new("cli").operator(true));
    let key = format!("cli-event-{}-{id}", event.source);
    match system.ask(Input::Event(event), key).await? {
        Some(answer) => system.show(&answer),
        None if system.terminal.is_json() => {
            system.terminal.print_json(&json!({"status": "accepted", "event_id": id}), true)
        }
        None => system.terminal.print(&format!(
            "{} the broker has the event; no supervisor answered in time\nevent {}",
            toned(Tone::Notice, "accepted:"),
            plain(&id)
        )),
    }
}

/// Returns the event as it would be sent to `POST /publish_event`.
fn plain_form(args: &Publish) -> Value {
    let mut fields = Map::new();
    fields.insert("type".to_owned(), json!(args.kind));
    fields.insert("source".to_owned(), json!(args.source));
    fields.insert("severity".to_owned(), json!(args.severity));
    if let Some(target) = &args.target {
        fields.insert("target".to_owned(), json!(target));
    }
    if args.resolved {
        fields.insert("status".to_owned(), json!("resolved"));
    }
    if let Some(payload) = &args.payload {
        fields.insert("payload".to_owned(), payload.clone());
    }
    fields.into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use domain::event::{Severity, Status};

    use super::*;
    use crate::args::{Cli, Command};

    fn event(line: &[&str]) -> event::Event {
        let words = ["selfheal", "publish"].iter().chain(line);
        let Command::Publish(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a publish command")
        };
        let context = Context { id: "1".to_owned(), kind: None, at: Utc::now() };
        event::plain(plain_form(&args), &context).unwrap()
    }

    #[test]
    fn flags_become_the_fields_of_the_event() {
        let event = event(&[
            "disk.full",
            "--source",
            "me",
            "--target",
            "db",
            "--severity",
            "critical",
            "--payload",
            r#"{"free": 0}"#,
            "--resolved",
        ]);
        assert_eq!((event.kind.as_str(), event.source.as_str()), ("disk.full", "me"));
        assert_eq!(event.target.as_deref(), Some("db"));
        assert_eq!((event.severity, event.status), (Severity::Critical, Status::Resolved));
        assert_eq!(event.payload, json!({"free": 0}));
    }

    #[test]
    fn without_flags_an_event_is_an_error_that_is_there() {
        let event = event(&["service_down"]);
        assert_eq!((event.severity, event.status), (Severity::Error, Status::Firing));
        assert_eq!(event.target, None);
    }
}
