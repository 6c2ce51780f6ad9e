//! Who is missed, and when it is over; the desk decides what is told, as a leader does.

mod succession;

use domain::{
    config,
    id::Position,
    wire::{Command, Input, Verb},
};

use super::*;

struct World {
    vigil: Vigil,
    desk: Desk,
    living: BTreeMap<String, Member>,
    now: DateTime<Utc>,
    seq: u64,
}

fn member(id: &str, kind: &str, host: &str) -> Member {
    let started_at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
    Member {
        id: id.to_owned(),
        kind: kind.to_owned(),
        zones: vec!["default".to_owned()],
        version: "1.0.0".to_owned(),
        host: host.to_owned(),
        pid: 1,
        started_at,
        pulse: None,
    }
}

impl World {
    /// A system that lacks nobody.
    fn new() -> Self {
        let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let (vigil, desk) = (Vigil::default(), Desk::default());
        let mut world = Self { vigil, desk, living: BTreeMap::new(), now, seq: 0 };
        world.configure("targets: [{name: shop, checks: [{tcp: \"127.0.0.1:1\"}]}]\n");
        for kind in NEEDED {
            world.join(member(kind, kind, "a"));
        }
        world
    }

    fn configure(&mut self, text: &str) {
        let config = Box::new(config::parse(text).unwrap());
        let verb = Verb::Configure { config, text: None, parts: Vec::new() };
        self.decide(&Input::Command(Command::new("test", verb)));
    }

    fn decide(&mut self, input: &Input) {
        self.seq += 1;
        let handled = self.desk.receive(input, Position::new(self.seq, 0), self.now);
        assert!(handled.faults.is_empty(), "{:?}", handled.faults);
    }

    fn join(&mut self, member: Member) {
        self.living.insert(member.id.clone(), member);
        self.observe(false);
    }

    fn lose(&mut self, id: &str) {
        self.living.remove(id);
        self.observe(false);
    }

    fn leave(&mut self, id: &str) {
        self.living.remove(id);
        self.observe(true);
    }

    fn observe(&mut self, farewell: bool) {
        self.vigil.observe(&self.living, |_| farewell, self.now);
    }

    /// Lets time pass; what is told then is decided. Returns it in short.
    fn pass(&mut self, seconds: i64) -> Vec<String> {
        for _ in 0..seconds {
            self.now += TimeDelta::seconds(1);
            self.vigil.look(self.now);
        }
        let events = self.vigil.events(&self.desk, self.now);
        let short = |it: &Event| {
            let sign = if it.status == Status::Firing { '+' } else { '-' };
            format!("{sign}{}", it.fingerprint.clone().unwrap_or_default())
        };
        let told = events.iter().map(short).collect();
        for event in events {
            self.decide(&Input::Event(event));
        }
        told
    }

    /// Another supervisor leads: it has seen the living, and nobody who was lost.
    fn another_leads(&mut self) {
        self.vigil = Vigil::default();
        self.observe(false);
    }
}

#[test]
fn an_agent_that_stops_without_a_word_is_missed_until_it_is_back() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    assert_eq!(world.pass(60), [""; 0]);
    world.lose("gateway-1");
    assert_eq!(world.pass(9), [""; 0], "it may be a short trouble of the network");
    assert_eq!(world.pass(2), ["+agent_down/gateway-1"]);
    assert_eq!(world.pass(60), [""; 0], "told once");
    world.join(member("gateway-1", "gateway", "a"));
    assert_eq!(world.pass(1), ["-agent_down/gateway-1"]);
    assert_eq!(world.desk.open_incidents().count(), 0);
    assert_eq!(world.pass(60), [""; 0]);
}

#[test]
fn an_agent_that_says_goodbye_or_is_back_soon_is_not_missed() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    world.join(member("gateway-2", "gateway", "a"));
    world.leave("gateway-1");
    world.lose("gateway-2");
    world.pass(5);
    world.join(member("gateway-2", "gateway", "a"));
    assert_eq!(world.pass(60), [""; 0]);
}

#[test]
fn another_of_the_same_kind_and_zones_stands_for_one_that_was_lost() {
    let mut world = World::new();
    for id in ["gateway-1", "gateway-2", "gateway-3"] {
        world.join(member(id, "gateway", "a"));
    }
    world.pass(60);
    world.lose("gateway-1");
    world.lose("gateway-2");
    assert_eq!(world.pass(11), ["+agent_down/gateway-1", "+agent_down/gateway-2"]);
    let mut elsewhere = member("gateway-4", "gateway", "a");
    elsewhere.zones = vec!["other".to_owned()];
    world.join(elsewhere);
    assert_eq!(world.pass(1), [""; 0], "of another zone");
    // A pod that is replaced has another name.
    world.join(member("gateway-5", "gateway", "pod-x"));
    assert_eq!(world.pass(1).len(), 1, "one for one; the third one was there before");
    assert_eq!(world.pass(60), [""; 0]);
    world.join(member("gateway-6", "gateway", "a"));
    assert_eq!(world.pass(1).len(), 1);
    assert_eq!(world.desk.open_incidents().count(), 0);
}

#[test]
fn one_that_nothing_replaces_is_not_missed_for_ever() {
    let mut world = World::new();
    for id in ["gateway-1", "gateway-2"] {
        world.join(member(id, "gateway", id));
    }
    world.pass(60);
    world.lose("gateway-1");
    assert_eq!(world.pass(11), ["+agent_down/gateway-1"]);
    assert_eq!(world.pass(3500), [""; 0]);
    assert_eq!(world.pass(100), ["-agent_down/gateway-1"]);
    assert_eq!(world.desk.open_incidents().count(), 0);
    assert_eq!(world.pass(100), [""; 0], "and is not missed again");
    world.lose("gateway-2");
    world.pass(11);
    world.another_leads();
    assert_eq!(world.pass(3600), ["-agent_down/gateway-2"], "whoever leads");
}

#[test]
fn one_that_was_started_again_before_its_signs_of_life_ended_is_not_missed() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    world.pass(60);
    world.join(member("gateway-2", "gateway", "a"));
    world.pass(3);
    world.lose("gateway-1");
    assert_eq!(world.pass(60), [""; 0]);
}

/// Whoever was stopped while an agent was started anew finds the former one lost long after its
/// successor came. When the successor was stopped as well, it is lost and back at the same time.
#[test]
fn one_that_was_lost_while_nobody_looked_may_have_been_replaced_before() {
    for (is_stopped, is_silent) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = World::new();
        world.join(member("gateway-0", "gateway", "a"));
        world.join(member("gateway-1", "gateway", "a"));
        world.pass(60);
        world.join(member("gateway-2", "gateway", "a"));
        world.pass(1);
        if is_stopped {
            world.now += TimeDelta::seconds(180);
            world.vigil.look(world.now);
        } else {
            world.pass(180);
        }
        world.pass(4);
        let successor = world.living.get("gateway-2").cloned().unwrap();
        if is_silent {
            world.living.remove("gateway-2");
        }
        world.lose("gateway-1");
        world.join(successor);
        let missed = if is_stopped { vec![] } else { vec!["+agent_down/gateway-1"] };
        assert_eq!(world.pass(60), missed, "stopped: {is_stopped}, silent: {is_silent}");
        world.lose("gateway-0");
        assert_eq!(world.pass(60), ["+agent_down/gateway-0"], "each stands for one");
    }
}

/// A new leader cannot know for which of two a newcomer has come.
#[test]
fn who_stood_for_one_that_is_back_stands_for_another() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    world.join(member("gateway-2", "gateway", "b"));
    world.pass(60);
    world.lose("gateway-2");
    assert_eq!(world.pass(11), ["+agent_down/gateway-2"]);
    world.lose("gateway-1");
    assert_eq!(world.pass(11), ["+agent_down/gateway-1"]);
    world.another_leads();
    world.join(member("gateway-3", "gateway", "c"));
    assert_eq!(world.pass(1), ["-agent_down/gateway-1"]);
    world.join(member("gateway-1", "gateway", "a"));
    assert_eq!(world.pass(1), ["-agent_down/gateway-2"]);
}

#[test]
fn the_next_leader_takes_back_what_the_former_one_has_told() {
    let mut world = World::new();
    world.join(member("supervisor-1", "supervisor", "a"));
    world.pass(60);
    world.lose("supervisor-1");
    assert_eq!(world.pass(11), ["+agent_down/supervisor-1"]);
    world.another_leads();
    assert_eq!(world.pass(1), [""; 0]);
    world.join(member("supervisor-2", "supervisor", "a"));
    assert_eq!(world.pass(1), ["-agent_down/supervisor-1"]);
}

#[test]
fn a_zone_with_targets_that_nobody_serves_is_told_and_so_is_its_end() {
    let mut world = World::new();
    assert_eq!(world.pass(1), [""; 0]);
    world.leave("fixer");
    assert_eq!(world.pass(1), [""; 0]);
    assert_eq!(world.pass(29), [""; 0]);
    assert_eq!(world.pass(2), ["+zone_unserved/default/fixer"]);
    world.another_leads();
    assert_eq!(world.pass(60), [""; 0], "the incident is open");
    world.join(member("fixer-2", "fixer", "b"));
    assert_eq!(world.pass(1), ["-zone_unserved/default/fixer"]);
    assert_eq!(world.desk.open_incidents().count(), 0);
}

/// A gateway tells people; where nobody is to be told none is missed.
#[test]
fn a_zone_whose_notices_no_gateway_sends_is_told_and_so_is_its_end() {
    let target = "targets: [{name: shop, zone: berlin, checks: [{tcp: \"127.0.0.1:1\"}]}]";
    let receivers = "notify: {receivers: [{name: ops, log: true}]}";
    let cases = [
        // What is configured, the zones that gateways serve, and what is missed.
        (target.to_owned(), vec![], vec![]),
        (format!("{target}\n{receivers}"), vec!["default", "berlin"], vec![]),
        (format!("{target}\n{receivers}"), vec!["berlin"], vec!["default"]),
        (format!("{target}\n{receivers}"), vec!["default"], vec!["berlin"]),
        (format!("{target}\n{receivers}"), vec![], vec!["berlin", "default"]),
        (receivers.to_owned(), vec![], vec!["default"]),
    ];
    for (text, served, missed) in cases {
        let mut world = World::new();
        world.configure(&text);
        for kind in NEEDED {
            let zones = vec!["berlin".to_owned(), "default".to_owned()];
            world.join(Member { zones, ..member(&format!("{kind}-b"), kind, "b") });
        }
        for zone in &served {
            let zones = vec![(*zone).to_owned()];
            world.join(Member { zones, ..member(&format!("gateway-{zone}"), "gateway", "b") });
        }
        world.pass(1);
        let wanted: Vec<_> =
            missed.iter().map(|zone| format!("+zone_unserved/{zone}/gateway")).collect();
        assert_eq!(world.pass(31), wanted, "{text} {served:?}");
        // It ends with a gateway, or when nobody is to be told any more.
        world.configure(target);
        assert_eq!(world.pass(31).len(), missed.len());
        assert_eq!(world.desk.open_incidents().count(), 0);
    }
}

#[test]
fn what_is_not_in_the_desk_by_then_is_told_again() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    world.lose("gateway-1");
    world.now += TimeDelta::seconds(11);
    let told = world.vigil.events(&world.desk, world.now);
    assert_eq!(told.len(), 1);
    assert!(world.vigil.events(&world.desk, world.now).is_empty());
    let again = world.vigil.events(&world.desk, world.now + AGAIN);
    assert_eq!(again, told, "under the same id: one event");
}

/// A standby has seen two supervisors be lost and come again. When it leads, and the one that
/// came in the place of another is lost and comes again as well, nobody is missed.
#[test]
fn each_newcomer_stands_for_the_one_that_was_lost_before_it_came() {
    let mut world = World::new();
    for id in ["supervisor-1", "supervisor-2"] {
        world.join(member(id, "supervisor", "a"));
    }
    world.now += TimeDelta::seconds(60);
    for id in ["supervisor-8", "supervisor-9"] {
        world.join(member(id, "supervisor", "a"));
    }
    world.now += TimeDelta::seconds(2);
    world.lose("supervisor-1");
    world.lose("supervisor-2");
    world.now += TimeDelta::seconds(12);
    // Its id comes first, but it came last.
    world.join(member("supervisor-3", "supervisor", "a"));
    assert_eq!(world.pass(1), [""; 0], "the standby leads now");
    world.lose("supervisor-9");
    for _ in 0..30 {
        assert_eq!(world.pass(1), [""; 0]);
    }
}

#[test]
fn whose_place_was_taken_stands_for_another_when_it_is_back() {
    let mut world = World::new();
    world.join(member("fixer-1", "fixer", "b"));
    assert_eq!(world.pass(60), [""; 0]);
    // Each stands for the one before: the third for the second, which was only cut off.
    for (lost, next) in [("fixer-1", "fixer-2"), ("fixer-2", "fixer-3")] {
        world.lose(lost);
        world.join(member(next, "fixer", next));
        assert_eq!(world.pass(60), [""; 0]);
    }
    world.lose("fixer-3");
    world.join(member("fixer-2", "fixer", "fixer-2"));
    assert_eq!(world.pass(20), [""; 0], "as many are there as before");
}

#[test]
fn who_is_back_in_its_own_place_stands_for_nobody_else() {
    let mut world = World::new();
    for (id, host) in [("fixer-1", "b"), ("fixer-2", "c")] {
        world.join(member(id, "fixer", host));
    }
    assert_eq!(world.pass(60), [""; 0]);
    world.lose("fixer-1");
    world.lose("fixer-2");
    world.join(member("fixer-1", "fixer", "b"));
    assert_eq!(world.pass(20), ["+agent_down/fixer-2"]);
}
