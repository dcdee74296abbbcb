//! A view that tasks share: some change it, streams send it.

use crate::chance;
use crate::limits::ITEM_BYTES_MAX;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use sync::{Cursor, Key, Lineage, Payload, View};
use tokio::sync::watch;

/// A published view. An item larger than [`ITEM_BYTES_MAX`] fits no message: it is refused, said so, and what was
/// published under its key stays, so that it cannot hold up the others. Cheap to clone; every clone is the same view.
#[derive(Clone, Debug)]
pub struct Published {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    truth: Mutex<Truth>,
    /// Wakes the streams; says only that something changed.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Truth {
    view: View,
    lineage: Lineage,
}

impl Published {
    /// A view that says nothing until it is first filled, by [`Self::commit`], [`Self::replace`] or
    /// [`Self::transact`], be it with nothing: before that, "empty" could be mistaken for "all gone".
    pub fn new(lineage: Lineage) -> Self {
        // Never 0: that is the epoch of a follower that holds nothing.
        let view = View::new(chance::bits() | 1);
        let truth = Mutex::new(Truth { view, lineage });
        Self { inner: Arc::new(Inner { truth, changed: watch::Sender::new(()) }) }
    }

    /// Says which truth is told from now on.
    pub fn set_lineage(&self, lineage: Lineage) {
        let mut truth = self.truth();
        if truth.lineage != lineage {
            truth.lineage = lineage;
            drop(truth);
            self.inner.changed.send_replace(());
        }
    }

    /// Applies changes as one transaction; `None` removes.
    pub fn commit(&self, changes: impl IntoIterator<Item = (Key, Option<Payload>)>) -> Cursor {
        self.change(|truth| truth.view.commit(changes.into_iter().filter(fits)))
    }

    /// Makes the view equal to `next` in one transaction. What is equal already is not sent.
    pub fn replace(&self, next: BTreeMap<Key, Payload>) -> Cursor {
        self.change(|truth| {
            let now = |key: &Key| truth.view.get(key).cloned();
            let fit = |(key, payload): (Key, Payload)| match fits(&(key.clone(), Some(payload.clone()))) {
                true => Some((key, payload)),
                false => now(&key).map(|payload| (key, payload)),
            };
            let next = next.into_iter().filter_map(fit).collect();
            truth.view.replace(next)
        })
    }

    /// Changes lineage and content in one step.
    pub fn transact(&self, lineage: Lineage, changes: impl IntoIterator<Item = (Key, Option<Payload>)>) -> Cursor {
        self.change(|truth| {
            truth.lineage = lineage;
            truth.view.commit(changes.into_iter().filter(fits))
        })
    }

    /// Where the view is: what a follower acknowledges when it is in step.
    pub fn head(&self) -> Cursor {
        self.truth().view.head()
    }

    /// Which truth is told.
    pub fn lineage(&self) -> Lineage {
        self.truth().lineage
    }

    /// The payload of an item.
    pub fn get(&self, key: &str) -> Option<Payload> {
        self.truth().view.get(key).cloned()
    }

    /// All items.
    pub fn items(&self) -> BTreeMap<Key, Payload> {
        self.truth().view.live().map(|(key, payload)| (key.clone(), payload.clone())).collect()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.truth().view.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at view and lineage in one step.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&View, Lineage) -> T) -> T {
        let truth = self.truth();
        look(&truth.view, truth.lineage)
    }

    /// Fires after every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Truth) -> Cursor) -> Cursor {
        let mut truth = self.truth();
        let before = (truth.view.head(), truth.lineage);
        let head = change(&mut truth);
        let after = (head, truth.lineage);
        drop(truth);
        if before != after {
            self.inner.changed.send_replace(());
        }
        head
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.inner.truth.lock().expect("no thread panics while it holds a view")
    }
}

fn fits((key, payload): &(Key, Option<Payload>)) -> bool {
    let bytes = key.len() + payload.as_ref().map_or(0, Payload::len);
    if bytes > ITEM_BYTES_MAX {
        tracing::error!(%key, bytes, limit = ITEM_BYTES_MAX, "an item is too large to publish; its last good state stays");
    }
    bytes <= ITEM_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, ITEM_BYTES_MAX, Key, Lineage, Payload, Published};

    #[test]
    fn an_item_that_fits_no_message_holds_up_nothing() {
        let view = Published::new(Lineage::default());
        let (a, b) = (Key::from("a"), Key::from("b"));
        let (good, large) = (Payload::from("good"), Payload::from(vec![0; ITEM_BYTES_MAX + 1]));
        view.commit([(a.clone(), Some(good.clone()))]);
        view.commit([(a.clone(), Some(large.clone())), (b.clone(), Some(good.clone()))]);
        assert_eq!(view.items(), BTreeMap::from([(a.clone(), good.clone()), (b, good.clone())]));
        view.replace(BTreeMap::from([(a.clone(), large)]));
        assert_eq!(view.items(), BTreeMap::from([(a, good)]));
    }
}
