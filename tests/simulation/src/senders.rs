//! Others who send events: over HTTP until they are told that it was accepted, and to the
//! broker itself; repeated, doubled, resolved, unreadable, and in floods.

use std::rc::Rc;

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    agents::gateway::Answered,
    broker::Op,
    clock::{MINUTE, MS, Micros, SECOND, utc},
    net,
    options::Part,
    rng::Rng,
    sim::{OUTSIDE, Sim},
    world::{Asked, Kind, World},
};

/// Tries of one event before its sender gives up.
const TRIES_MAX: u32 = 30;
/// Events that a sender without ids publishes at once.
const BURST: u64 = 40;

/// Starts them.
pub(crate) fn begin(world: &Rc<World>) {
    if world.options.has(Part::Senders) {
        world.sim.spawn(OUTSIDE, go_on(Rc::clone(world)));
    }
}

async fn go_on(world: Rc<World>) {
    let mut rng = Rng::new(world.options.seed, "senders");
    let mean = rng.range(1, 4) * MINUTE;
    let mut n = 0_u64;
    loop {
        Sim::sleep(&world, rng.waiting(mean)).await;
        if !world.net.is_rough.get() {
            return;
        }
        let is_flood = rng.percent(4) && world.options.has(Part::Floods);
        let count = if is_flood { rng.range(50, 400) } else { 1 };
        let kind = *rng.pick(&["service_down", "service_down", "disk_full", "cache_stale", "odd"]);
        let target = match rng.range(0, 10) {
            0..7 => rng.pick(&world.targets.spots).target.name.clone(),
            _ => "elsewhere".to_owned(),
        };
        // A pod of it, whose name nobody has configured.
        let pod = rng.percent(15).then(|| format!("pod-{target}"));
        let is_resolved = rng.percent(15);
        let is_raw = rng.percent(25);
        for _ in 0..count {
            n += 1;
            let status = if is_resolved { "resolved" } else { "firing" };
            let body = match &pod {
                Some(pod) => of_pod(event(n, kind, &target, status), pod),
                None => event(n, kind, &target, status),
            };
            if is_raw {
                publish(&world, &mut rng, n, kind, &body);
            } else {
                let copies = if rng.percent(10) { 2 } else { 1 };
                for _ in 0..copies {
                    world.sim.spawn(OUTSIDE, post(Rc::clone(&world), n, body.clone()));
                }
            }
            if !is_flood && !is_resolved && rng.percent(35) {
                // Its sender says later that it is over.
                n += 1;
                let over = event(n, kind, &target, "resolved");
                let over =
                    pod.as_ref().map_or_else(|| over.clone(), |pod| of_pod(over.clone(), pod));
                let wait = rng.range(5, 400) * SECOND;
                world.sim.after(wait, move |world| {
                    world.sim.spawn(OUTSIDE, post(Rc::clone(world), n, over));
                });
            }
            if is_flood {
                let wait = rng.range(0, 4) * MS;
                Sim::sleep(&world, wait).await;
            }
        }
    }
}

/// Sends many events about as many things, each of so many bytes.
pub(crate) fn flood(world: &Rc<World>, n: u64, bytes: usize) {
    let first = world.sim.n_steps() * 1000;
    for n in first..first + n {
        let mut body = event(n, "disk_full", &format!("host-{}", n - first), "firing");
        body["payload"]["text"] = json!("x".repeat(bytes));
        let wait = (n - first) * 5 * MS;
        world.sim.after(wait, move |world| {
            world.sim.spawn(OUTSIDE, post(Rc::clone(world), n, body));
        });
    }
}

/// How long the word of a sender is good that says again and again that something goes on.
pub(crate) const WORD: TimeDelta = TimeDelta::seconds(60);

/// Says again and again for a while that something goes on.
pub(crate) async fn insist(world: Rc<World>, kind: &'static str, target: String, lasts: u64) {
    let begun = world.sim.now();
    let mut n = world.sim.n_steps() * 1000;
    while world.sim.now() < begun + lasts && world.net.is_rough.get() {
        n += 1;
        let mut body = event(n, kind, &target, "firing");
        body["starts_at"] = json!(utc(begun));
        body["ends_at"] = json!(utc(world.sim.now()) + WORD);
        world.sim.spawn(OUTSIDE, post(Rc::clone(&world), n, body));
        Sim::sleep(&world, 20 * SECOND).await;
    }
}

/// Sends many events about as many things to the broker itself.
pub(crate) fn flood_raw(world: &Rc<World>, n: u64) {
    let first = world.sim.n_steps() * 1000;
    for n in first..first + n {
        let body = event(n, "disk_full", &format!("host-{}", n - first), "firing");
        world.sim.after((n - first) * 5 * MS, move |world| {
            append(world, n, "disk_full", body.to_string());
        });
    }
}

/// Publishes events without ids to the broker itself, as soon as their sender is connected.
pub(crate) fn burst(world: &Rc<World>, wait: Micros) {
    for n in 0..BURST {
        world.sim.after(wait + n * 20 * MS, |world| {
            let body = json!({ "type": "odd", "source": "outside", "target": "elsewhere" });
            let op = Op::Append {
                id: None,
                subject: "selfheal.event.odd".to_owned(),
                headers: Vec::new(),
                payload: Bytes::from(body.to_string()),
            };
            drop(net::send(world, OUTSIDE, op));
        });
    }
}

fn event(n: u64, kind: &str, target: &str, status: &str) -> Value {
    json!({
        "id": format!("e{n}"),
        "type": kind,
        "source": "outside",
        "status": status,
        "target": target,
        "payload": { "service": target, "key": format!("k{n}") },
    })
}

/// Makes an event one of a pod, with the service that it belongs to as a label.
fn of_pod(mut event: Value, pod: &str) -> Value {
    let service = event["target"].take();
    event["target"] = json!(pod);
    event["labels"] = json!({ "service": service });
    event
}

/// Sends an event over HTTP, again under the same id until it is accepted.
async fn post(world: Rc<World>, n: u64, body: Value) {
    let body = Bytes::from(body.to_string());
    for _ in 0..TRIES_MAX {
        let (sender, answered) = oneshot::channel();
        world.ask(Kind::Gateway, OUTSIDE, Asked::Http(body.clone(), sender));
        let told = tokio::select! {
            biased;
            told = answered => told.ok(),
            () = Sim::sleep(&world, 20 * SECOND) => None,
        };
        match told {
            Some(Answered::Done | Answered::Accepted) => {
                world.laws.borrow_mut().accepted(&world, &format!("k{n}"));
                return;
            }
            Some(Answered::Refused) => return,
            Some(Answered::Unavailable) | None => {}
        }
        Sim::sleep(&world, 2 * SECOND).await;
    }
}

/// Publishes to the broker itself: single messages, sometimes unreadable.
fn publish(world: &Rc<World>, rng: &mut Rng, n: u64, kind: &str, body: &Value) {
    append(world, n, kind, if rng.percent(20) { "{".to_owned() } else { body.to_string() });
}

fn append(world: &Rc<World>, n: u64, kind: &str, payload: String) {
    let id = format!("raw-{n}");
    let op = Op::Append {
        id: Some(id.clone()),
        subject: format!("selfheal.event.{kind}"),
        headers: vec![("Nats-Msg-Id".to_owned(), id)],
        payload: Bytes::from(payload),
    };
    drop(net::send(world, OUTSIDE, op));
}
