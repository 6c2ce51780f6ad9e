//! What holds when the broker has lost its disk and the ledger was rebuilt from a log.

use std::rc::Rc;

use ::supervisor::core::Core;
use bus::Subjects;
use bytes::Bytes;

use super::Laws;
use crate::world::World;

impl Laws {
    /// The broker is about to lose all that it stored. What was accepted and is in no log yet is
    /// lost with it; claims are, too, so that an attempt may be begun again within its time.
    pub(crate) fn disk_lost(&mut self, world: &Rc<World>) {
        self.pending.clear();
        self.commands.lost();
        self.reports.clear();
        let decided = &self.decided;
        self.stored.retain(|delivery, _| decided.contains_key(delivery));
        self.words.lost(self.inbox_base + self.covers.seq);
        self.effects_before.extend(self.effects.keys().cloned());
        let n_messages = world.broker.borrow().inbox().len();
        self.inbox_base += u64::try_from(n_messages).unwrap_or(0);
    }

    /// The ledger was rebuilt: it gives the same state and the same lines as the one that was
    /// lost, but for the place in the inbox.
    pub(crate) fn restored(&mut self, world: &Rc<World>, payloads: &[Bytes]) {
        let mut core = Core::new(Subjects::new("selfheal"));
        let mut lines = Vec::new();
        self.kept.lost();
        world.desks.lost();
        for (seq, payload) in (1_u64..).zip(payloads) {
            match core.fold(seq, payload, 1) {
                Ok(new) => lines.extend(new.iter().map(|it| it.json)),
                Err(error) => {
                    let why = format!("message {seq}: {error}");
                    return world.fail("a restored ledger is the one that was lost", why);
                }
            }
            self.kept.appended(core.desk().n_decisions());
        }
        if lines != self.lines {
            let why = format!("{} lines of {}", lines.len(), self.lines.len());
            return world.fail("a restored ledger is the one that was lost", why);
        }
        let mut former = self.core.desk().clone();
        former.cover(core.desk().position());
        if former != *core.desk() {
            let why = "another state";
            return world.fail("a restored ledger is the one that was lost", why);
        }
        self.covers = core.desk().position();
        self.core = core;
    }
}
