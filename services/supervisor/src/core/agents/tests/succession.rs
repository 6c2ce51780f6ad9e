//! Who stands for whom, when some of it was seen by another leader only.

use super::*;

/// A leader stood still while one came in the place of another, was lost as well, and was told by
/// whoever led meanwhile. Its successor comes before or after the former leader leads again.
#[test]
fn one_that_came_and_was_lost_while_nobody_looked_stood_for_the_one_before() {
    for is_early in [true, false] {
        let mut world = World::new();
        world.join(member("gateway-1", "gateway", "a"));
        world.join(member("gateway-2", "gateway", "b"));
        assert_eq!(world.pass(60), [""; 0]);
        let stopped = world.vigil.clone();
        world.lose("gateway-1");
        world.pass(5);
        let started_at = world.now;
        world.join(Member { started_at, ..member("gateway-3", "gateway", "c") });
        assert_eq!(world.pass(60), [""; 0]);
        world.lose("gateway-3");
        assert_eq!(world.pass(11), ["+agent_down/gateway-3"]);
        let started_at = world.now + TimeDelta::seconds(1);
        let successor = Member { started_at, ..member("gateway-4", "gateway", "d") };
        if is_early {
            world.living.insert(successor.id.clone(), successor.clone());
        }
        world.vigil = stopped;
        world.observe(false);
        if !is_early {
            assert_eq!(world.pass(60), [""; 0], "one is missed, and told");
            world.join(successor);
        }
        assert_eq!(world.pass(1), ["-agent_down/gateway-3"], "early: {is_early}");
        assert_eq!(world.pass(60), [""; 0]);
        world.lose("gateway-2");
        assert_eq!(world.pass(11), ["+agent_down/gateway-2"], "each stands for one");
    }
}

/// Who came beside another that was lost later has not stood for it.
#[test]
fn one_that_came_beside_another_while_nobody_looked_did_not_stand_for_it() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    assert_eq!(world.pass(60), [""; 0]);
    let stopped = world.vigil.clone();
    world.join(Member { started_at: world.now, ..member("gateway-2", "gateway", "b") });
    assert_eq!(world.pass(60), [""; 0]);
    world.lose("gateway-1");
    assert_eq!(world.pass(11), ["+agent_down/gateway-1"]);
    world.lose("gateway-2");
    assert_eq!(world.pass(11), ["+agent_down/gateway-2"]);
    world.vigil = stopped;
    world.observe(false);
    world.join(Member { started_at: world.now, ..member("gateway-3", "gateway", "c") });
    assert_eq!(world.pass(60).len(), 1);
    world.join(Member { started_at: world.now, ..member("gateway-4", "gateway", "d") });
    assert_eq!(world.pass(60).len(), 1);
    assert_eq!(world.desk.open_incidents().count(), 0);
}

/// What a leader tells while it is cut off is stored when it is connected again, after it has seen
/// the successor, and after it has looked whether an incident of ours is open.
#[test]
fn what_is_stored_late_about_one_that_was_replaced_is_taken_back() {
    let mut world = World::new();
    world.join(member("gateway-1", "gateway", "a"));
    world.pass(60);
    world.lose("gateway-1");
    world.now += TimeDelta::seconds(11);
    let told = world.vigil.events(&world.desk, world.now);
    assert_eq!(told.len(), 1);
    world.join(member("gateway-2", "gateway", "b"));
    assert_eq!(world.pass(5), [""; 0]);
    world.decide(&Input::Event(told.into_iter().next().unwrap()));
    assert_eq!(world.desk.open_incidents().count(), 1);
    assert_eq!(world.pass(30), ["-agent_down/gateway-1"]);
    assert_eq!(world.desk.open_incidents().count(), 0);
}
