//! The configuration file of a supervisor's host: followed always, submitted while it leads, as
//! `config_file::follow` and `reign::config`.

use std::time::Duration;

use domain::{
    desk::{FoundText, Standing},
    wire::{Command, ConfigText, Envelope, Input, Verb},
};

use super::Office;
use crate::{
    bug::Bug,
    clock::SECOND,
    files::{self, Text},
};

/// How often the file is looked at while it changes.
const LOOK: Duration = Duration::from_secs(1);
const CATCHING_UP: Duration = Duration::from_millis(100);
/// How long a text must be the same before it is taken, in looks: more when a person will be
/// asked to confirm it.
const LOOKS: u32 = 1;
const LOOKS_HELD: u32 = 10;
/// How long to wait for the decision about a text before it is submitted again.
const DECIDED_WITHIN: Duration = Duration::from_micros(15 * SECOND);

/// Follows the file, and submits what is news while this supervisor leads.
pub(super) async fn follow(office: Office) {
    let (agent, world) = (&office.agent, office.agent.world.clone());
    // What was decided before tells whether the text is news.
    while !office.seat.borrow().is_caught_up {
        agent.sleep(CATCHING_UP).await;
    }
    let mut candidate = (world.files.hosts[agent.node].borrow().text, 0);
    take(&office, candidate.0);
    if office.seat.borrow().is_leading {
        agent.spawn(submit(office.clone()));
    }
    loop {
        if !office.seat.borrow().is_caught_up {
            agent.sleep(CATCHING_UP).await;
            continue;
        }
        let changed = world.node(agent.node).file_changed.notified();
        let text = world.files.hosts[agent.node].borrow().text;
        let is_taken = taken(&office).is_some_and(|it| it.sha256 == files::sha256(text));
        candidate = if candidate.0 == text { (text, candidate.1 + 1) } else { (text, 0) };
        let is_hasty = world.bug(Bug::HalfFileTaken);
        if !is_taken && (is_hasty || needed(&office, text) <= candidate.1) {
            take(&office, text);
            if office.seat.borrow().is_leading {
                agent.spawn(submit(office.clone()));
            }
        }
        if is_taken {
            changed.await;
        }
        agent.sleep(LOOK).await;
    }
}

fn needed(office: &Office, text: Text) -> u32 {
    let (seat, world) = (office.seat.borrow(), &office.agent.world);
    let (desk, config) = (seat.core.desk(), files::content(world, text));
    let is_held = desk.given().is_configured()
        && (matches!(text, Text::Cut(_))
            || !desk.config().to_confirm(&config, office.agent.utc()).is_empty());
    if is_held { LOOKS_HELD } else { LOOKS }
}

fn taken(office: &Office) -> Option<FoundText> {
    let file = office.agent.world.files.hosts[office.agent.node].borrow();
    file.taken.as_ref().map(|it| it.0.clone())
}

fn take(office: &Office, text: Text) {
    let (agent, sha256) = (&office.agent, files::sha256(text));
    let mut file = agent.world.files.hosts[agent.node].borrow_mut();
    if file.taken.as_ref().is_some_and(|it| it.0.sha256 == sha256) {
        return;
    }
    let since = office.seat.borrow().core.n_stored();
    let found = FoundText { sha256, since, changed: file.taken.is_some() };
    file.taken = Some((found, agent.now()));
}

/// Says why a text may be cut: it ends in the middle of a line.
fn doubts(text: Text) -> Vec<String> {
    match text {
        Text::Whole(_) => Vec::new(),
        Text::Cut(_) => vec!["the last line has no line end".to_owned()],
    }
}

/// Submits the text that was taken, until it was decided about.
pub(super) async fn submit(office: Office) {
    let (agent, world) = (&office.agent, office.agent.world.clone());
    let Some(found) = taken(&office) else { return };
    let text = {
        let text = world.files.hosts[agent.node].borrow().text;
        let all = (0..world.scene.configs.len()).flat_map(|it| [Text::Whole(it), Text::Cut(it)]);
        all.chain([text]).find(|it| files::sha256(*it) == found.sha256).unwrap_or(text)
    };
    let config = files::content(&world, text);
    for n in 0_u64.. {
        let standing = {
            let seat = office.seat.borrow();
            let is_ours = taken(&office).is_some_and(|it| it.sha256 == found.sha256);
            if !seat.is_leading || !is_ours {
                return;
            }
            let is_other = *seat.core.desk().config() != config;
            match seat.core.desk().given().standing(&found) {
                Standing::Superseded | Standing::Old
                    if world.bug(Bug::OldFileAtFailover) && is_other && n == 0 =>
                {
                    Standing::New
                }
                standing => standing,
            }
        };
        if standing != Standing::New {
            return;
        }
        if world.bug(Bug::EditRememberedTooEarly) {
            let mut file = world.files.hosts[agent.node].borrow_mut();
            if file.submitted.replace(found.sha256.clone()).as_ref() == Some(&found.sha256) {
                return;
            }
        }
        // What removes or loosens something must be confirmed, unless somebody is careless.
        let followed = !world.bug(Bug::HalfFileTaken) && !world.bug(Bug::OldFileAtFailover);
        let given = ConfigText { sha256: found.sha256.clone(), followed, doubts: doubts(text) };
        let verbs = if world.bug(Bug::ConfigInOnePiece) {
            let (config, parts) = (Box::new(config.clone()), Vec::new());
            vec![Verb::Configure { config, text: Some(given), parts }]
        } else {
            Verb::configure_all(&config, Some(given)).expect("a scene's configuration fits")
        };
        let name = format!("configure/{}/{}/{}", agent.member, found.sha256, agent.now());
        for (idx, verb) in verbs.into_iter().enumerate() {
            let command = Command::new(format!("file of {}", agent.member), verb);
            let envelope = Envelope::new(format!("{name}/{idx}"), Input::Command(command));
            if office.lanes.submit(agent, &envelope).await.is_err() {
                break;
            }
        }
        agent.sleep(DECIDED_WITHIN).await;
    }
}
