//! Which of our own processes are missed: `agent_down` and `zone_unserved`.
//!
//! A process that stops with a word is not missed; one whose signs of life end without is,
//! when it stays away for [`GRACE`]. It is found again when it is back, or when another of
//! the same kind and zones has come in its place, on whatever host: a pod that is replaced has
//! another one. Who is not replaced is not missed for longer than [`MISSED_MAX`]. What was told
//! is in the desk's open incidents, so that the next leader can take it back.

mod succession;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    desk::Desk,
    event::{Event, EventType, Severity, Status},
    target::ZONE_DEFAULT,
    wire::Member,
};
use serde_json::{Value, json};

/// How long a process may be away without a word before it is missed: time enough to be
/// started again by whoever watches it, or for a network to come back.
pub const GRACE: TimeDelta = TimeDelta::seconds(10);
/// How long a zone may be without a kind of agent that its targets need. Longer than
/// [`GRACE`], since all agents of a new installation may start after the supervisor.
pub const ZONE_GRACE: TimeDelta = TimeDelta::seconds(30);
/// Who came so long before another one was found to be lost may stand for it: signs of
/// life count for some seconds after the last.
const SUCCESSION: TimeDelta = TimeDelta::seconds(6);
/// Who has not looked for so long, of those who look each second, was stopped or cut off.
const BLIND: TimeDelta = TimeDelta::seconds(5);
/// Whoever looks again finds so soon who was lost meanwhile: the living have some seconds to give
/// a sign.
const CATCH_UP: TimeDelta = TimeDelta::seconds(10);
/// How long a process is missed that nothing replaces: by then its installation has become
/// smaller, or people know. A zone that nobody serves is told apart from it.
pub const MISSED_MAX: TimeDelta = TimeDelta::hours(1);
/// What was told and is not in the desk by now is told again.
const AGAIN: TimeDelta = TimeDelta::seconds(10);
/// When no incident of ours was open, it is looked again after so long: what was told while the
/// broker was out of reach may be stored later. There may be many incidents to look through.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(20);
/// Lost processes that are remembered; when there are more, the oldest are forgotten.
const LOST_MAX: usize = 1000;

/// Types of the events.
const AGENT_DOWN: &str = "agent_down";
const ZONE_UNSERVED: &str = "zone_unserved";
/// Who sends them.
const SOURCE: &str = "selfheal/supervisor";
/// Kinds of agents without which a target cannot be healed.
const NEEDED: [&str; 3] = ["monitor", "analyzer", "fixer"];

/// The kind of agent without which nobody is told.
const TELLS: &str = "gateway";

/// Watches over our own processes. Every supervisor has one; the leader tells.
#[derive(Clone, Debug, Default)]
pub struct Vigil {
    living: BTreeMap<String, Member>,
    /// Since when each is in the list.
    seen: BTreeMap<String, DateTime<Utc>>,
    lost: BTreeMap<String, Lost>,
    /// Zone and kind that nobody serves, since when.
    unserved: BTreeMap<(String, String), DateTime<Utc>>,
    /// Members that have come in the place of a lost one, and which.
    replacements: BTreeMap<String, Lost>,
    /// Fingerprints that were told, and when.
    told: BTreeMap<String, DateTime<Utc>>,
    /// When no incident of ours was open, as long as nothing says that it is otherwise.
    none_open_at: Option<DateTime<Utc>>,
    /// When the list was followed last.
    looked_at: Option<DateTime<Utc>>,
    /// From when to when it was not, the last time.
    blind: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

#[derive(Clone, Debug)]
struct Lost {
    member: Member,
    since: DateTime<Utc>,
    /// Of the same kind and zones: those who lived on do not replace it.
    beside: BTreeSet<String>,
    /// Since when it was there.
    came: DateTime<Utc>,
    /// Who came later may be its successor.
    succeeded_since: DateTime<Utc>,
}

impl Vigil {
    /// Notes that the list of the living is followed, to be told each second while it is. Whoever
    /// was stopped or cut off finds others lost without knowing since when.
    pub fn look(&mut self, now: DateTime<Utc>) {
        if let Some(before) = self.looked_at.filter(|it| *it + BLIND < now) {
            self.blind = Some((self.lost_since(before), now));
        }
        self.looked_at = Some(now);
    }

    /// Returns since when a process may be lost that is found to be so now.
    fn lost_since(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let blind = self.blind.filter(|(_, until)| now <= *until + CATCH_UP);
        blind.map_or(now, |(from, _)| from)
    }

    /// Takes the list of the living. `farewell` tells of a member that is not in it any
    /// more whether it has said goodbye.
    pub fn observe(
        &mut self,
        living: &BTreeMap<String, Member>,
        farewell: impl Fn(&str) -> bool,
        now: DateTime<Utc>,
    ) {
        self.look(now);
        // Its successor may have been here before its time was over.
        let succeeded_since = self.lost_since(now) - SUCCESSION;
        let is_new = |id: &&String| !self.living.contains_key(*id);
        let newcomers: Vec<String> = living.keys().filter(is_new).cloned().collect();
        for id in living.keys() {
            self.seen.entry(id.clone()).or_insert(now);
        }
        for (id, member) in std::mem::take(&mut self.living) {
            if living.contains_key(&id) || farewell(&id) {
                continue;
            }
            let was_there = |it: &&Member| self.came(it, now) < succeeded_since;
            let alike = living.values().filter(|it| is_alike(it, &member)).filter(was_there);
            let beside = alike.map(|it| it.id.clone()).collect();
            let came = self.came(&member, now);
            self.lost.insert(id, Lost { member, since: now, beside, came, succeeded_since });
        }
        self.seen.retain(|id, _| living.contains_key(id));
        for id in &newcomers {
            self.welcome(id);
        }
        while LOST_MAX < self.lost.len() {
            let oldest = self.lost.iter().min_by_key(|(_, lost)| lost.since);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else { break };
            self.lost.remove(&id);
        }
        self.living.clone_from(living);
        self.none_open_at = None;
        // At once, and not when there is something to tell: whoever leads later would find
        // another newcomer in the place of one that was lost before it came.
        self.replace_lost();
    }

    /// Returns since when a member is there.
    fn came(&self, member: &Member, now: DateTime<Utc>) -> DateTime<Utc> {
        self.seen.get(&member.id).copied().unwrap_or(now).max(member.started_at)
    }

    /// Returns what is to be told now, for the inbox. The desk must be that of the leader.
    pub fn events(&mut self, desk: &Desk, now: DateTime<Utc>) -> Vec<Event> {
        self.look_at_zones(desk, now);
        self.lost.retain(|_, it| now - it.since < MISSED_MAX);
        let none_open = self.none_open_at.is_some_and(|at| at <= now && now < at + LOOK_AGAIN);
        if none_open && self.lost.is_empty() && self.unserved.is_empty() {
            return Vec::new();
        }
        let mut open = BTreeMap::new();
        for incident in desk.open_incidents() {
            let opener = &incident.event;
            let is_ours = &*opener.source == SOURCE
                && [AGENT_DOWN, ZONE_UNSERVED].contains(&opener.kind.as_str());
            let event = is_ours.then(|| opener.event());
            if let Some((key, event)) = event.and_then(|it| Some((it.fingerprint.clone()?, it))) {
                open.insert(key, (incident.id, event));
            }
        }
        self.none_open_at = open.is_empty().then_some(now);
        let keys: BTreeSet<String> = open.keys().cloned().collect();
        let told: Vec<Lost> = open.values().filter_map(|(_, it)| Lost::told(it)).collect();
        told.iter().for_each(|it| self.learn(it, &keys));
        let mut events = Vec::new();
        let mut wanted = BTreeSet::new();
        self.replace_lost();
        for lost in self.lost.values() {
            let key = agent_key(&lost.member.id);
            if GRACE <= now - lost.since && !open.contains_key(&key) {
                events.push(lost.event(&key));
            }
            wanted.insert(key);
        }
        for ((zone, kind), since) in &self.unserved {
            let key = zone_key(zone, kind);
            if ZONE_GRACE <= now - *since && !open.contains_key(&key) {
                events.push(unserved(zone, kind, *since, &key));
            }
            wanted.insert(key);
        }
        for (key, (id, event)) in open {
            if wanted.contains(&key) || !self.is_over(desk, &event, now) {
                continue;
            }
            let mut over = event;
            over.id = format!("over/{id}");
            over.status = Status::Resolved;
            events.push(over);
        }
        self.fresh(events, now)
    }

    /// Leaves out what was told just now.
    fn fresh(&mut self, mut events: Vec<Event>, now: DateTime<Utc>) -> Vec<Event> {
        self.told.retain(|_, at| *at <= now && now < *at + AGAIN);
        events.retain(|it| !self.told.contains_key(&it.id));
        self.told.extend(events.iter().map(|it| (it.id.clone(), now)));
        events
    }

    /// Returns whether what an open incident tells is not so any more.
    fn is_over(&mut self, desk: &Desk, event: &Event, now: DateTime<Utc>) -> bool {
        let label = |name: &str| event.labels.get(name).cloned().unwrap_or_default();
        if event.kind.as_str() == ZONE_UNSERVED {
            let (zone, kind) = (label("zone"), label("kind"));
            let is_needed = needed(desk).contains(&(zone.as_str(), kind.as_str()));
            return is_served(&self.living, &zone, &kind) || !is_needed;
        }
        let id = label("member");
        let is_old = event.starts_at.is_some_and(|since| MISSED_MAX <= now - since);
        if is_old || self.living.contains_key(&id) {
            return true;
        }
        let Some(lost) = Lost::told(event) else { return false };
        // A former version knew only those beside it on the same host.
        let anywhere = part(event, "anywhere") == Value::Bool(true);
        self.take_replacement(&lost, anywhere)
    }

    fn look_at_zones(&mut self, desk: &Desk, now: DateTime<Utc>) {
        let mut unserved = BTreeMap::new();
        for (zone, kind) in needed(desk) {
            if is_served(&self.living, zone, kind) {
                continue;
            }
            let key = (zone.to_owned(), kind.to_owned());
            let since = self.unserved.get(&key).copied().unwrap_or(now);
            unserved.insert(key, since);
        }
        if unserved.len() < self.unserved.len() {
            self.none_open_at = None;
        }
        self.unserved = unserved;
    }
}

impl Lost {
    /// Returns what an event of ours tells.
    fn told(event: &Event) -> Option<Self> {
        let member = serde_json::from_value::<Member>(part(event, "member")).ok()?;
        let beside = serde_json::from_value(part(event, "beside")).unwrap_or_default();
        let (since, came) = (event.starts_at?, member.started_at);
        Some(Self { member, since, beside, came, succeeded_since: since - SUCCESSION })
    }

    fn event(&self, key: &str) -> Event {
        let Member { id, kind, host, zones, .. } = &self.member;
        let mut event = our_event(AGENT_DOWN, key, self.since);
        event.severity = Severity::Error;
        event.target = Some(format!("{kind}@{host}"));
        let labels = [("member", id), ("kind", kind), ("host", host), ("zones", &zones.join(","))];
        for (name, value) in labels {
            event.labels.insert(name.to_owned(), value.clone());
        }
        let what = format!(
            "the {kind} {id} on {host} has given no sign of life since {} and did not say that it stops",
            self.since
        );
        event.annotations.insert("summary".to_owned(), what);
        let hint = format!("check its log on {host}, and restart it");
        event.annotations.insert("hint".to_owned(), hint);
        event.payload = json!({"member": self.member, "beside": self.beside, "anywhere": true});
        event
    }
}

fn unserved(zone: &str, kind: &str, since: DateTime<Utc>, key: &str) -> Event {
    let mut event = our_event(ZONE_UNSERVED, key, since);
    event.severity = Severity::Critical;
    event.target = Some(format!("zone:{zone}"));
    event.labels.insert("zone".to_owned(), zone.to_owned());
    event.labels.insert("kind".to_owned(), kind.to_owned());
    let why = if kind == TELLS { "so notices wait" } else { "in which targets are configured" };
    let what = format!("no {kind} serves zone {zone}, {why}");
    event.annotations.insert("summary".to_owned(), what);
    let hint = format!("start a selfheal-{kind} with --zones {zone}");
    event.annotations.insert("hint".to_owned(), hint);
    event
}

/// Returns an event of ours; its id is the same when it is told again.
fn our_event(what: &'static str, key: &str, since: DateTime<Utc>) -> Event {
    let id = format!("{key}/{}", since.timestamp_millis());
    let mut event = Event::new(id, EventType::known(what), SOURCE);
    event.fingerprint = Some(key.to_owned());
    event.starts_at = Some(since);
    event
}

fn part(event: &Event, name: &str) -> Value {
    event.payload.get(name).cloned().unwrap_or(Value::Null)
}

fn agent_key(id: &str) -> String {
    format!("{AGENT_DOWN}/{id}")
}

fn zone_key(zone: &str, kind: &str) -> String {
    format!("{ZONE_UNSERVED}/{zone}/{kind}")
}

/// Returns the zones and the kinds of agents that they need: those that heal where there are
/// targets, and where people are to be told one that tells them. What concerns no target is told
/// by a gateway of the default zone.
fn needed(desk: &Desk) -> BTreeSet<(&str, &'static str)> {
    let config = desk.config();
    let zones: BTreeSet<_> = config.targets.iter().map(|it| it.zone.as_str()).collect();
    let heal = zones.iter().flat_map(|zone| NEEDED.map(|kind| (*zone, kind)));
    let tells = !config.notify.receivers.is_empty() || !config.policy.notify.is_empty();
    let told = zones.iter().copied().chain([ZONE_DEFAULT]).filter(|_| tells);
    heal.chain(told.map(|zone| (zone, TELLS))).collect()
}

fn is_served(living: &BTreeMap<String, Member>, zone: &str, kind: &str) -> bool {
    living.values().any(|it| it.kind == kind && it.zones.iter().any(|served| served == zone))
}

/// Of the same kind and zones: one can do the other's work.
fn is_alike(a: &Member, b: &Member) -> bool {
    a.kind == b.kind && a.zones == b.zones
}
