//! What people command: each command has its line in the log, also one that is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use domain::{id::Position, wire::Verb};

use crate::world::World;

/// Commands of which the ledger does not say yet what became of them.
#[derive(Debug, Default)]
pub(super) struct Commands {
    pending: BTreeMap<Position, String>,
    /// By the id under which they were sent: again is not once more.
    seen: BTreeSet<String>,
}

impl Commands {
    /// A command was stored.
    pub(super) fn stored(&mut self, position: Position, id: &str, verb: &Verb) {
        // Who asks for the configuration that is in force changes nothing.
        let may_be_so = matches!(verb, Verb::Configure { .. } | Verb::ConfigurePart { .. });
        if self.seen.insert(id.to_owned()) && !may_be_so {
            self.pending.insert(position, verb.as_str().to_owned());
        }
    }

    /// The broker has lost all that it stored.
    pub(super) fn lost(&mut self) {
        self.pending.clear();
    }

    /// A decision was made about an input.
    pub(super) fn decided(&mut self, cause: Position) {
        self.pending.remove(&cause);
    }

    /// The ledger covers all up to there.
    pub(super) fn covered(&mut self, world: &Rc<World>, covers: Position) {
        if let Some((position, verb)) = self.pending.first_key_value().filter(|it| *it.0 <= covers)
        {
            let why = format!("`{verb}` of input {position} has none");
            world.fail("each command leaves a line in the log", why);
        }
    }
}
