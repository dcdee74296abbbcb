//! What a control plane knows of objects at one moment: an ordered, shared, immutable map.

use api::kinds::Spec;
use api::object::Scope;
use api::{Key, Object};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Objects at one revision. Cheap to clone by `Arc`; every object is shared between successive states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// By structured key.
    pub items: BTreeMap<Key, Arc<Object>>,
    /// History of the observer's own store.
    pub history: u64,
    /// Revision of the observer's own store.
    pub revision: u64,
}

/// One difference between two states.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// New or changed.
    Put(Key, Arc<Object>),
    /// Gone.
    Delete(Key),
}

impl Objects {
    /// Objects of one kind, in key order.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> {
        self.items.iter().filter(move |(key, _)| key.kind == kind)
    }

    /// Specs of one type with their keys; what does not parse is left out, because it was refused where it was written.
    pub fn specs<S: Spec>(&self) -> impl Iterator<Item = (&Key, S)> {
        self.of_kind(S::KIND).filter_map(|(key, object)| Some((key, object.spec_as().ok()?)))
    }

    /// The other's objects in addition; ours win, though keys of different owners never meet.
    pub fn with(&self, others: impl IntoIterator<Item = (Key, Arc<Object>)>) -> Self {
        let mut merged = self.clone();
        for (key, object) in others {
            merged.items.entry(key).or_insert(object);
        }
        merged
    }

    /// What leads from `before` to `self`, in key order. Equal `Arc`s are equal without looking inside.
    pub fn since(&self, before: &Self) -> Vec<Difference> {
        let same = |a: &Arc<Object>, b: &Arc<Object>| Arc::ptr_eq(a, b) || a == b;
        let put =
            self.items.iter().filter(|(key, object)| !before.items.get(*key).is_some_and(|old| same(old, object)));
        let gone = before.items.keys().filter(|key| !self.items.contains_key(*key));
        put.map(|(key, object)| Difference::Put(key.clone(), object.clone()))
            .chain(gone.map(|key| Difference::Delete(key.clone())))
            .collect()
    }
}

/// The key of a document, by the scope its kind has. `None`: the kind is unknown or a label is no name.
pub fn key_of(object: &Object) -> Option<Key> {
    let kind = policy::kind(&object.kind)?;
    object.key(kind.scope).ok()
}

/// Scope of a kind by name; unknown kinds count as namespaced.
pub fn scope_of(kind: &str) -> Scope {
    policy::kind(kind).map_or(Scope::Namespaced, |kind| kind.scope)
}

/// Keeps `sender` equal to `merge(a, b)` whenever either changes. Ends when both sources end.
pub async fn merge<A, B, T>(
    mut a: watch::Receiver<Arc<A>>,
    mut b: watch::Receiver<Arc<B>>,
    sender: watch::Sender<Arc<T>>,
    merge: impl Fn(&A, &B) -> T,
) where
    T: PartialEq,
{
    loop {
        let next = {
            let (a, b) = (a.borrow_and_update().clone(), b.borrow_and_update().clone());
            merge(&a, &b)
        };
        sender.send_if_modified(|present| {
            let differs = **present != next;
            if differs {
                *present = Arc::new(next);
            }
            differs
        });
        let ended = tokio::select! {
            changed = a.changed() => changed.is_err(),
            changed = b.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}
