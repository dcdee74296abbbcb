//! A versioned map: the one thing that is ever replicated.

use crate::fault::fault;
use crate::hash::{Hash, hash_of};
use crate::message::{Cursor, Key, Payload, Rev};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Removals a view remembers. A follower that missed more than this compares hashes instead, which costs about
/// 16 bytes and a key per item, once; remembering costs about 100 bytes each, for ever.
pub const REMOVALS_KEPT: usize = 4096;

/// What followers shall hold, and in which order it became so.
#[derive(Debug)]
pub struct View {
    head: Cursor,
    /// Cursors below this have missed forgotten removals.
    floor: Rev,
    items: BTreeMap<Key, Item>,
    /// Every live item and every remembered removal, once, at its latest change.
    changes: BTreeSet<(Rev, Key)>,
    removals: usize,
}

#[derive(Debug)]
struct Item {
    rev: Rev,
    hash: Hash,
    /// `None` remembers a removal that followers may not have seen yet.
    payload: Option<Payload>,
}

impl View {
    /// A view that was never filled, and says nothing until it is. `epoch` must differ from that of every other view
    /// a follower might have followed under the same name: random, or a clock.
    pub fn new(epoch: u64) -> Self {
        Self { head: Cursor { epoch, rev: 0 }, floor: 0, items: BTreeMap::new(), changes: BTreeSet::new(), removals: 0 }
    }

    /// Applies changes as one revision; `None` removes. What is equal already costs nothing downstream.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = (Key, Option<Payload>)>) -> Cursor {
        let rev = self.head.rev + 1;
        for (key, payload) in changes {
            match self.items.get(&key) {
                Some(item) if item.payload == payload => continue,
                None if payload.is_none() => continue,
                Some(item) => {
                    self.changes.remove(&(item.rev, key.clone()));
                    self.removals -= usize::from(item.payload.is_none());
                }
                None => {}
            }
            self.removals += usize::from(payload.is_none());
            self.changes.insert((rev, key.clone()));
            let hash = payload.as_deref().map_or(0, hash_of);
            self.items.insert(key, Item { rev, hash, payload });
            self.head.rev = rev;
        }
        // Filled with nothing is something else than not filled.
        self.head.rev = self.head.rev.max(1);
        if self.removals > REMOVALS_KEPT {
            self.forget_older_half();
        }
        self.head
    }

    /// Makes the view equal to `next` in one revision.
    pub fn replace(&mut self, next: BTreeMap<Key, Payload>) -> Cursor {
        let gone: Vec<Key> = self.live().map(|(key, _)| key).filter(|key| !next.contains_key(*key)).cloned().collect();
        let set = next.into_iter().map(|(key, payload)| (key, Some(payload)));
        self.commit(set.chain(gone.into_iter().map(|key| (key, None))))
    }

    /// Forgets removals up to `rev`. Followers older than that compare hashes.
    pub fn compact(&mut self, rev: Rev) {
        let rev = rev.min(self.head.rev);
        let old = self.changes.range(..(rev + 1, Key::from("")));
        let dead: Vec<_> = old.filter(|(_, key)| self.items[key].payload.is_none()).cloned().collect();
        for change in dead {
            self.items.remove(&change.1);
            self.changes.remove(&change);
            self.removals -= 1;
        }
        if !fault!(CompactsInSilence) {
            self.floor = self.floor.max(rev);
        }
    }

    fn forget_older_half(&mut self) {
        let removed = self.changes.iter().filter(|(_, key)| self.items[key].payload.is_none());
        if let Some(&(rev, _)) = removed.clone().nth(REMOVALS_KEPT / 2) {
            self.compact(rev);
        }
    }

    /// Where the view is.
    pub fn head(&self) -> Cursor {
        self.head
    }

    /// Whether the view was never filled.
    pub fn is_blank(&self) -> bool {
        self.head.rev == 0 && !fault!(BlankViewSpeaks)
    }

    /// The payload of a live item.
    pub fn get(&self, key: &str) -> Option<&Payload> {
        self.items.get(key)?.payload.as_ref()
    }

    /// All live items, by key.
    pub fn live(&self) -> impl Iterator<Item = (&Key, &Payload)> {
        self.items.iter().filter_map(|(key, item)| Some((key, item.payload.as_ref()?)))
    }

    /// How many items are live.
    pub fn len(&self) -> usize {
        self.items.len() - self.removals
    }

    /// Whether nothing is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the changes after `cursor` are all still known.
    pub(crate) fn can_resume(&self, cursor: Cursor) -> bool {
        (cursor.epoch == self.head.epoch || fault!(ResumesAnyEpoch))
            && (self.floor.max(1)..=self.head.rev).contains(&cursor.rev)
    }

    /// The latest state of everything that changed after `rev`, oldest change first.
    pub(crate) fn since(&self, rev: Rev) -> impl Iterator<Item = (&Key, Option<&Payload>)> {
        let from = (rev + 1 + u64::from(fault!(SinceSkipsOne)), Key::from(""));
        let after = self.changes.range((Bound::Included(from), Bound::Unbounded));
        after.map(|(_, key)| (key, self.items[key].payload.as_ref()))
    }

    /// All live items with their hashes, by key.
    pub(crate) fn hashed(&self) -> impl Iterator<Item = (&Key, Hash, &Payload)> {
        self.items.iter().filter_map(|(key, item)| Some((key, item.hash, item.payload.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::{REMOVALS_KEPT, View};
    use crate::message::{Key, Payload};
    use std::collections::BTreeMap;

    fn key(n: usize) -> Key {
        Key::from(format!("item-{n}"))
    }

    #[test]
    fn equal_content_is_no_revision() {
        let mut view = View::new(1);
        let first = view.commit([(key(1), Some(Payload::from("a")))]);
        assert_eq!(view.commit([(key(1), Some(Payload::from("a"))), (key(2), None)]), first);
        assert_eq!(view.replace(BTreeMap::from([(key(1), Payload::from("a"))])), first);
    }

    #[test]
    fn a_view_filled_with_nothing_is_no_longer_blank() {
        let mut view = View::new(1);
        assert!(view.is_blank());
        view.replace(BTreeMap::new());
        assert!(!view.is_blank());
        assert!(view.is_empty());
    }

    #[test]
    fn remembered_removals_are_bounded_and_old_cursors_are_told() {
        let mut view = View::new(1);
        let before = view.commit((0..3 * REMOVALS_KEPT).map(|n| (key(n), Some(Payload::from("a")))));
        for n in 0..3 * REMOVALS_KEPT {
            view.commit([(key(n), None)]);
            assert!(view.removals <= REMOVALS_KEPT);
        }
        assert!(view.is_empty());
        assert!(view.items.len() <= REMOVALS_KEPT);
        assert!(!view.can_resume(before));
        assert!(view.can_resume(view.head()));
    }
}
