//! Which of our own processes are missed: `supervisor::core::agents` decides; the rest is as
//! `watching` and `reign::ourselves`.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Duration};

use domain::{
    event::{Event, Status},
    wire::{Envelope, Input, Member},
};

use super::Office;
use crate::{bug::Bug, world::World};

const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Keeps the vigil up to date, leading or not.
pub(super) async fn watch(office: Office) {
    let (agent, world) = (&office.agent, &office.agent.world);
    let mut members = world.node(agent.node).members.subscribe();
    loop {
        let living = living(world, members.borrow_and_update().keys());
        // While the broker is away, nobody says who lives.
        if world.broker.borrow().is_up {
            office.vigil.borrow_mut().observe(&living, |_| false, agent.utc());
        }
        loop {
            tokio::select! {
                biased;
                changed = members.changed() => match changed {
                    Ok(()) => break,
                    Err(_closed) => return,
                },
                () = agent.sleep(LOOK_AROUND) => {
                    if world.broker.borrow().is_up && !world.is_cut(agent.node) {
                        office.vigil.borrow_mut().look(agent.utc());
                    }
                }
            }
        }
    }
}

fn living<'a>(world: &World, ids: impl Iterator<Item = &'a String>) -> BTreeMap<String, Member> {
    let cards = world.cards.borrow();
    ids.filter_map(|id| Some((id.clone(), cards.get(id)?.clone()))).collect()
}

/// Tells who is missed and who is back, as long as this supervisor leads.
pub(super) async fn look(office: Office, is_over: Rc<Cell<bool>>) {
    let agent = &office.agent;
    loop {
        agent.sleep(LOOK_AROUND).await;
        if is_over.get() {
            return;
        }
        let mut events = {
            let seat = office.seat.borrow();
            office.vigil.borrow_mut().events(seat.core.desk(), agent.utc())
        };
        if agent.world.bug(Bug::SameHostOnly) {
            events.retain(|it| it.status == Status::Firing || is_back_on_its_host(&office, it));
        }
        for event in events {
            agent.say(|| format!("{} {:?} {:?}", event.kind, event.status, event.target));
            let envelope = Envelope::new(event.id.clone(), Input::Event(event));
            let (agent, lanes) = (agent.clone(), office.lanes.clone());
            office.agent.spawn(async move {
                // What is not told now is told again.
                lanes.submit(&agent, &envelope).await.ok();
            });
        }
    }
}

fn is_back_on_its_host(office: &Office, event: &Event) -> bool {
    let world = &office.agent.world;
    let label = |name: &str| event.labels.get(name).map(String::as_str);
    let members = world.node(office.agent.node).members.borrow().clone();
    label("member").is_none()
        || living(world, members.keys())
            .values()
            .any(|it| Some(&*it.kind) == label("kind") && Some(&*it.host) == label("host"))
}
