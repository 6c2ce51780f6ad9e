//! Who stands for whom: each newcomer for one that was lost before it came.

use std::collections::BTreeSet;

use domain::wire::Member;

use super::{Lost, Vigil, agent_key, is_alike};

/// Replacements that are remembered, so that each stands for one lost process.
const REPLACEMENTS_MAX: usize = 1000;

impl Vigil {
    /// Somebody is there, or is there again. Who was lost takes its own place again, and stands for
    /// nobody who was lost after it came; whose place another has taken meanwhile is free to stand
    /// for another.
    pub(super) fn welcome(&mut self, id: &str) {
        let Some(own) = self.lost.remove(id) else {
            self.replacements.remove(id);
            // Whoever stood for it does so no more.
            self.replacements.retain(|_, lost| lost.member.id != id);
            return;
        };
        self.seen.insert(id.to_owned(), own.came);
        let was_beside =
            |it: &&mut Lost| is_alike(&it.member, &own.member) && own.came < it.succeeded_since;
        for other in self.lost.values_mut().filter(was_beside) {
            other.beside.insert(id.to_owned());
        }
    }

    /// Forgets lost processes in whose place another has come.
    pub(super) fn replace_lost(&mut self) {
        let mut lost: Vec<_> = self.lost.values().cloned().collect();
        lost.sort_by_key(|it| it.since);
        for it in lost {
            if self.take_replacement(&it, true) {
                self.lost.remove(&it.member.id);
            }
        }
    }

    /// Learns from an open incident that somebody was lost who also came while nobody looked here.
    /// It stood for one that was lost before it came, which is not missed besides; and whoever is
    /// taken here for the successor of that one is its own.
    pub(super) fn learn(&mut self, told: &Lost, open: &BTreeSet<String>) {
        let id = &told.member.id;
        let is_known = self.living.contains_key(id)
            || self.lost.contains_key(id)
            || self.replacements.contains_key(id)
            || self.replacements.values().any(|it| it.member.id == *id);
        if is_known {
            return;
        }
        // Whose own loss was told was not replaced by anybody, or its own incident ends.
        let stood_for = |it: &&Lost| {
            is_alike(&it.member, &told.member)
                && it.succeeded_since <= told.came
                && !it.beside.contains(id)
                && !open.contains(&agent_key(&it.member.id))
        };
        // Rather for one on its own host, and for who was lost first.
        let order = |it: &Lost| (it.member.host != told.member.host, it.since);
        let first = self.lost.values().filter(stood_for).min_by_key(|it| order(it)).cloned();
        if let Some(former) = first {
            self.lost.remove(&former.member.id);
            self.note_replacement(id.clone(), former);
            return;
        }
        let is_next = |it: &&String| self.living.contains_key(*it) && !told.beside.contains(*it);
        let taken =
            self.replacements.iter().filter(|(next, former)| is_next(next) && stood_for(former));
        let first = taken.min_by_key(|(_, former)| order(former)).map(|(next, _)| next.clone());
        if let Some((next, former)) = first.and_then(|it| self.replacements.remove_entry(&it)) {
            self.note_replacement(id.clone(), former);
            self.note_replacement(next, told.clone());
        }
    }

    fn note_replacement(&mut self, by: String, lost: Lost) {
        if REPLACEMENTS_MAX <= self.replacements.len() {
            self.replacements.clear();
        }
        self.replacements.insert(by, lost);
    }

    /// `anywhere`: on any host, or only on that of the lost one.
    pub(super) fn take_replacement(&mut self, lost: &Lost, anywhere: bool) -> bool {
        let member = &lost.member;
        let stands_for = |it: &&Member| {
            let is_free =
                self.replacements.get(&it.id).is_none_or(|other| other.member.id == member.id);
            let is_near = anywhere || it.host == member.host;
            let is_other = it.id != member.id && !lost.beside.contains(&it.id);
            is_alike(it, member) && is_near && is_other && is_free
        };
        // Who came first stands for who was lost first, on its own host if there is one.
        let candidates = self.living.values().filter(stands_for);
        let first =
            candidates.min_by_key(|it| (it.host != member.host, self.seen.get(&it.id).copied()));
        let Some(id) = first.map(|it| it.id.clone()) else { return false };
        self.note_replacement(id, lost.clone());
        true
    }
}
