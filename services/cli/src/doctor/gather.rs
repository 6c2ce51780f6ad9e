//! Looking at everything, in bounded time, without changing anything.

use std::{collections::BTreeSet, time::Duration};

use bus::{
    Bus, Error, Subjects,
    inspect::{Inspect, Living, NOT_PERMITTED, UserLook},
    roles::Role,
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    config::Config,
    target::ZONE_DEFAULT,
    view::{Filter, Page, Query, SystemView},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    facts::{Facts, Gateway, Reach, Seen, not_seen},
    finding::NotSeen,
    local, security, server,
};
use crate::{
    args::{Doctor, Global},
    exit::Failure,
    http,
};

/// Time for all answers of the broker together, in times of `--timeout`.
const ALTOGETHER: u32 = 4;

/// Questions until every supervisor has answered one, for each of them: the broker chooses
/// who answers.
const ASKED_EACH: usize = 4;

/// Most questions of that kind.
const ASKED_MAX: usize = 32;

/// Where a gateway of this machine listens unless told otherwise.
const GATEWAY_DEFAULT: &str = "http://127.0.0.1:8080";

/// Looks at everything.
///
/// # Errors
///
/// When what tells of the broker may be read by others.
pub(crate) async fn all(args: &Doctor, global: &Global) -> Result<Facts, Failure> {
    let broker = &global.broker;
    let local = local::look(args, &global.data_dir, broker.timeout).await;
    let role = args.role.unwrap_or(Role::Cli);
    let options = global.broker_options(role.as_str())?;
    let names = Subjects::new(&broker.prefix);
    let mut facts = blind(role, &names);
    facts.local = local;
    if args.security {
        facts.security = Some(security::look(&options, &global.data_dir));
    }
    match server::reach(&options, broker.timeout).await {
        Ok(bus) => look(&mut facts, &bus, role, broker.timeout).await,
        Err(reach) => facts.broker = reach,
    }
    facts.gateways = gateways(args, &facts, broker.timeout).await;
    facts.now = Utc::now();
    Ok(facts)
}

/// Nothing was seen yet.
fn blind(role: Role, names: &Subjects) -> Facts {
    const WHY: &str = "the broker cannot be used";
    let away = Reach::Away { address: String::new(), why: String::new() };
    Facts {
        now: Utc::now(),
        broker: away,
        broker_ahead: not_seen(WHY),
        user: not_seen(WHY),
        role: (role, role.permissions(names, &[ZONE_DEFAULT.to_owned()])),
        account: not_seen(WHY),
        streams: Vec::new(),
        queues: not_seen(WHY),
        living: not_seen(WHY),
        answering: not_seen(WHY),
        views: not_seen(WHY),
        leaders: not_seen(WHY),
        config: not_seen(WHY),
        tokens: not_seen(WHY),
        open: not_seen(WHY),
        gateways: Vec::new(),
        local: super::facts::Local::default(),
        security: None,
    }
}

async fn look(facts: &mut Facts, bus: &Bus, role: Role, within: Duration) {
    let inspect = bus.inspect(within, within * ALTOGETHER);
    facts.broker = Reach::There(inspect.server());
    let user = inspect.user().await;
    facts.broker_ahead = ahead(user.as_ref().ok().and_then(|it| it.at));
    facts.user = seen(user);
    facts.account = seen(inspect.account().await);
    streams(facts, &inspect).await;
    facts.queues = seen(inspect.queues().await);
    facts.living = seen(inspect.living().await);
    let expected = match &facts.living {
        Ok(living) => living.signs.iter().map(|it| it.member.id.clone()).collect(),
        Err(_) => BTreeSet::new(),
    };
    facts.answering = seen(inspect.answering(&expected).await);
    facts.tokens = seen(bus.token_store().list(within).await);
    ask_supervisors(facts, bus, within).await;
    if let Ok(config) = &facts.config {
        let mut zones: Vec<String> = config.targets.iter().map(|it| it.zone.clone()).collect();
        zones.push(ZONE_DEFAULT.to_owned());
        zones.sort();
        zones.dedup();
        facts.role.1 = role.permissions(bus.subjects(), &zones);
    }
}

async fn streams(facts: &mut Facts, inspect: &Inspect) {
    for (which, name, look) in inspect.streams().await {
        if facts.broker_ahead.is_err() {
            facts.broker_ahead = ahead(look.as_ref().ok().and_then(|it| it.at));
        }
        facts.streams.push((which, name, seen(look)));
    }
}

/// Compares the broker's clock with ours, at once.
fn ahead(at: Option<DateTime<Utc>>) -> Seen<TimeDelta> {
    at.map(|at| at - Utc::now())
        .ok_or_else(|| NotSeen("the broker does not report its time".into()))
}

async fn ask_supervisors(facts: &mut Facts, bus: &Bus, within: Duration) {
    let is_supervisor =
        |living: &Living| living.signs.iter().filter(|it| it.member.kind == "supervisor").count();
    let n_supervisors = facts.living.as_ref().map_or(1, is_supervisor).max(1);
    let n_asked = (n_supervisors * ASKED_EACH).min(ASKED_MAX);
    let by = Instant::now() + within;
    let mut views: Vec<SystemView> = Vec::new();
    let mut failure = None;
    for _ in 0..n_asked {
        match timeout_at(by, query::<SystemView>(bus, &Query::Status, within)).await {
            Ok(Ok(view)) if views.iter().all(|it| it.answered_by != view.answered_by) => {
                views.push(view);
            }
            Ok(Ok(_)) => {}
            Ok(Err(why)) => failure = Some(why),
            Err(_elapsed) => failure = Some(NotSeen("no supervisor answers in time".to_owned())),
        }
        if failure.is_some() || n_supervisors <= views.len() {
            break;
        }
    }
    facts.leaders = leaders(bus, n_asked, within).await;
    facts.views = match failure {
        Some(why) if views.is_empty() => Err(why),
        Some(_) | None => Ok(views),
    };
    if facts.views.is_ok() {
        facts.config = query::<Config>(bus, &Query::Config, within).await;
        // One that is larger than a message is where the agents read it.
        if facts.config.is_err()
            && let Some(config) = crate::connection::configuration(bus, within).await
        {
            facts.config = Ok(config);
        }
        let filter = Filter { open: true, limit: Some(Filter::LIMIT_MAX), ..Filter::default() };
        facts.open = query::<Page>(bus, &Query::Incidents(filter), within).await;
    } else {
        facts.config = not_seen("no supervisor answers");
        facts.open = not_seen("no supervisor answers");
    }
}

/// Asks who leads, more than once: the broker chooses who answers.
async fn leaders(bus: &Bus, n_asked: usize, within: Duration) -> Seen<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for _ in 0..n_asked {
        let subject = bus.subjects().query("leader");
        match timeout(within, bus.request(subject, Bytes::new(), within)).await {
            Ok(Ok(answer)) => found.insert(String::from_utf8_lossy(&answer).into_owned()),
            // One that is stopped still listens: its silence is no answer, and nobody leads.
            Ok(Err(Error::NoResponder { .. } | Error::NoAnswer { .. })) | Err(_) => break,
            Ok(Err(error)) => return seen(Err(error)),
        };
    }
    Ok(found)
}

async fn query<T: DeserializeOwned>(bus: &Bus, query: &Query, within: Duration) -> Seen<T> {
    let failed = |error: &dyn std::fmt::Display| NotSeen(error.to_string());
    let question = serde_json::to_vec(query).map_err(|error| failed(&error))?;
    let subject = bus.subjects().query(query.subject());
    let answer = bus.request(subject, Bytes::from(question), within).await;
    let answer = answer.map_err(|error| match matches!(error, Error::NoResponder { .. }) {
        true => NotSeen("no supervisor answers".to_owned()),
        false => failed(&error),
    })?;
    serde_json::from_slice(&answer)
        .map_err(|error| NotSeen(format!("a supervisor's answer cannot be read: {error}")))
}

fn seen<T>(looked: Result<T, Error>) -> Seen<T> {
    looked.map_err(|error| {
        if let Error::Refused { code: NOT_PERMITTED, subject, .. } = &error {
            return NotSeen(format!("this user of the broker may not ask {subject}"));
        }
        NotSeen(error.to_string())
    })
}

/// Asks the gateways that were named; without any, the one that this machine should have.
async fn gateways(args: &Doctor, facts: &Facts, within: Duration) -> Vec<Gateway> {
    let mut urls: Vec<(String, bool)> =
        args.gateway.iter().map(|url| (url.clone(), true)).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_here = facts.living.as_ref().is_ok_and(|living| {
        let of_us =
            |it: &bus::inspect::Sign| it.member.kind == "gateway" && it.member.host == host.trim();
        living.signs.iter().any(of_us)
    });
    if urls.is_empty() && is_here {
        urls.push((GATEWAY_DEFAULT.to_owned(), false));
    }
    let mut asked = Vec::new();
    for (url, is_named) in urls {
        let url = format!("{}/readyz", url.trim_end_matches('/').trim_end_matches("/readyz"));
        let answer = http::get(&url, within).await.map_err(|error| error.to_string());
        asked.push(Gateway { url, is_named, answer });
    }
    asked
}

/// Returns what a user may do, for the check of permissions.
pub(crate) fn lists(user: &UserLook) -> [(&'static str, Option<&bus::inspect::Allowed>); 2] {
    [("publish", user.publish.as_ref()), ("subscribe", user.subscribe.as_ref())]
}
