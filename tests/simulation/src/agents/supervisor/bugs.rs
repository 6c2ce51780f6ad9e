//! What a supervisor's shell can do wrongly with a core that is right.

use std::collections::BTreeMap;

use ::supervisor::core::{Core, Lines};
use bus::{InboxMessage, Subjects, topology::LEDGER_BYTES_MAX};
use bytes::Bytes;
use domain::{
    fact::Fact,
    id::{IncidentId, Position},
    wire::{Envelope, FixOrder, FixOutcome, Input, LedgerEntry, TimerFired, Verb, WorkKind},
};
use serde_json::{Value, json};

use super::Office;
use crate::{agents::Agent, bug::Bug, senders::WORD};

/// The last order of each incident.
pub(super) type Former = BTreeMap<IncidentId, FixOrder>;

type Work = (WorkKind, String, Bytes);

/// Begins to lead at a position that the ledger does not know of.
pub(super) fn forget_position(office: &Office) {
    let world = &office.agent.world;
    let mut seat = office.seat.borrow_mut();
    let position = if world.bug(Bug::PositionForgotten) {
        Position::default()
    } else if world.bug(Bug::StandbyStartsAtEnd) && 0 < seat.core.n_stored() {
        let last = u64::try_from(world.broker.borrow().inbox().len()).unwrap_or(0);
        Position::new(last, u32::MAX)
    } else {
        return;
    };
    let mut desk = seat.core.desk().clone();
    desk.cover(position);
    let ledger_seq = seat.core.ledger_seq();
    seat.core = Core::resume(Subjects::new("selfheal"), desk, ledger_seq);
}

/// Returns whether a batch ends a silence and would be larger than the ledger takes, if it held
/// all that is due instead of what there is room for.
pub(super) fn quiet_ends_at_once(agent: &Agent, batch: &Bytes) -> bool {
    let world = &agent.world;
    let is_asked = world.bug(Bug::QuietEndsAtOnce);
    let ends = |it: &Bytes| {
        let entry = serde_json::from_slice::<LedgerEntry>(it).expect("a batch can be read");
        entry.decisions.iter().any(|it| matches!(it.fact, Fact::SuppressionEnded { .. }))
    };
    is_asked && ends(batch) && LEDGER_BYTES_MAX < world.laws.borrow().bytes_due(world.sim.now())
}

/// Puts all that is kept quiet into one line of a snapshot.
pub(super) fn in_one_line(lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    const MUTED: &str = "muted";
    let mut whole: Vec<Value> = Vec::new();
    let mut all = Vec::new();
    for line in lines {
        let read: Value = serde_json::from_slice(&line).expect("a line can be read");
        match (read.get(MUTED), read.get("end")) {
            (Some(Value::Array(some)), _) => whole.extend(some.iter().cloned()),
            (_, Some(_)) => {
                if !whole.is_empty() {
                    all.push(json!({ MUTED: std::mem::take(&mut whole) }).to_string().into_bytes());
                }
                all.push(json!({ "end": all.len() }).to_string().into_bytes());
            }
            _ => all.push(line),
        }
    }
    all
}

/// Publishes what is pending under other ids.
pub(super) fn as_new_attempts(agent: &Agent, wishes: Vec<Work>) -> Vec<Work> {
    if !agent.world.bug(Bug::WishUnderNewId) {
        return wishes;
    }
    let renew = |(kind, id, payload): Work| match order(kind, &payload) {
        Some(mut order) => {
            order.work.attempt += 1;
            (kind, format!("{id}/again"), write(&order))
        }
        None => (kind, id, payload),
    };
    wishes.into_iter().map(renew).collect()
}

pub(super) fn remember(former: &mut Former, wishes: &[Work]) {
    for (kind, _, payload) in wishes {
        if let Some(order) = order(*kind, payload) {
            former.insert(order.work.incident, order);
        }
    }
}

/// Orders what has just failed once more.
pub(super) fn again(former: &Former, lines: &Lines) -> Vec<Work> {
    let failed = lines.iter().filter(|it| {
        serde_json::from_slice::<domain::view::LogLine>(&it.json)
            .is_ok_and(|line| line.decision == "attempt_failed")
    });
    let orders = failed.filter_map(|it| former.get(&it.incident)).map(|order| {
        let mut order = order.clone();
        order.work.attempt += 1;
        order.not_after += chrono::TimeDelta::seconds(120);
        (WorkKind::Fix, format!("{}/retry", order.work.wish_id(WorkKind::Fix)), write(&order))
    });
    orders.collect()
}

fn order(kind: WorkKind, payload: &Bytes) -> Option<FixOrder> {
    (kind == WorkKind::Fix).then(|| serde_json::from_slice(payload).ok()).flatten()
}

fn write(order: &FixOrder) -> Bytes {
    Bytes::from(serde_json::to_vec(order).expect("orders have a form in JSON"))
}

/// Takes what was refused for a fix that failed.
pub(super) fn fail_refusals(agent: &Agent, message: InboxMessage) -> InboxMessage {
    if !agent.world.bug(Bug::RefusalIsFailure) || !message.subject.ends_with("frame.fix") {
        return message;
    }
    let Ok(mut envelopes) = serde_json::from_slice::<Vec<Envelope>>(&message.payload) else {
        return message;
    };
    for envelope in &mut envelopes {
        if let Input::Fix(report) = &mut envelope.input
            && let FixOutcome::Refused { reason, .. } = &report.outcome
        {
            report.outcome = FixOutcome::Failed { reason: reason.clone() };
        }
    }
    let payload = Bytes::from(serde_json::to_vec(&envelopes).expect("inputs have a form in JSON"));
    InboxMessage { payload, ..message }
}

/// Takes the first word of a sender for all that it says later.
pub(super) fn forget_repeats(agent: &Agent, message: InboxMessage) -> InboxMessage {
    if !agent.world.bug(Bug::RepeatsForgotten) || !message.subject.ends_with("frame.event") {
        return message;
    }
    let Ok(mut envelopes) = serde_json::from_slice::<Vec<Envelope>>(&message.payload) else {
        return message;
    };
    for envelope in &mut envelopes {
        if let Input::Event(event) = &mut envelope.input
            && event.ends_at.is_some()
        {
            event.ends_at = event.starts_at.map(|it| it + WORD);
        }
    }
    let payload = Bytes::from(serde_json::to_vec(&envelopes).expect("inputs have a form in JSON"));
    InboxMessage { payload, ..message }
}

/// Forgets commands about what is over.
pub(super) fn forget_refused(agent: &Agent, core: &Core, message: InboxMessage) -> InboxMessage {
    let is_asked = agent.world.bug(Bug::RefusedCommandsForgotten);
    if !is_asked || !message.subject.ends_with("frame.command") {
        return message;
    }
    let Ok([mut envelope]) = serde_json::from_slice::<[Envelope; 1]>(&message.payload) else {
        return message;
    };
    let Input::Command(command) = &envelope.input else { return message };
    let incident = match &command.verb {
        Verb::Approve { incident, .. }
        | Verb::Reject { incident, .. }
        | Verb::Retry { incident }
        | Verb::Close { incident, .. } => *incident,
        _ => return message,
    };
    if core.desk().incident(incident).is_some_and(|it| !it.is_over()) {
        return message;
    }
    // A deadline that nobody has.
    let (incident, due) = (IncidentId::NONE, agent.utc());
    envelope.input = Input::Timer(TimerFired { incident, due, epoch: None });
    let payload = Bytes::from(serde_json::to_vec(&[envelope]).expect("inputs have a form in JSON"));
    InboxMessage { payload, subject: "selfheal.frame.timer".to_owned(), ..message }
}

/// Calls an event without an id after its place in the inbox alone.
pub(super) fn without_time(agent: &Agent, mut message: InboxMessage) -> InboxMessage {
    let is_event = message.subject.starts_with("selfheal.event.");
    if agent.world.bug(Bug::InboxIdWithoutTime) && is_event && message.headers.is_empty() {
        let id = format!("inbox-{}", message.seq);
        message.headers.push(("Nats-Msg-Id".to_owned(), id));
    }
    message
}

/// Takes an approval for whatever plan there is now.
pub(super) fn approve_anything(agent: &Agent, core: &Core, message: InboxMessage) -> InboxMessage {
    if !agent.world.bug(Bug::ApprovalOfAnyPlan) || !message.subject.ends_with("frame.command") {
        return message;
    }
    let Ok(mut envelopes) = serde_json::from_slice::<Vec<Envelope>>(&message.payload) else {
        return message;
    };
    for envelope in &mut envelopes {
        if let Input::Command(command) = &mut envelope.input
            && let Verb::Approve { incident, plan_hash } = &mut command.verb
            && let Some(plan) = core.desk().incident(*incident).and_then(|it| it.plan())
        {
            *plan_hash = plan.hash();
        }
    }
    let payload = Bytes::from(serde_json::to_vec(&envelopes).expect("inputs have a form in JSON"));
    InboxMessage { payload, ..message }
}
