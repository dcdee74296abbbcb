//! The store that forgets: for tests, demonstrations, and global control planes whose zones hold the truth.

use crate::changes::{REPLAY, follow};
use crate::{CHANGES_MAX, Change, Expect, Lineage, Listing, Result, Store, StoreError, Watch, document, new_history};
use api::{Key, Object};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

const PLACE: &str = "memory";

/// Objects in memory. Every process start is a new history.
#[derive(Debug)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    head: watch::Sender<Lineage>,
}

#[derive(Debug)]
struct State {
    lineage: Lineage,
    objects: BTreeMap<String, Object>,
    /// Contiguous, newest last.
    changes: VecDeque<Change>,
    changes_max: usize,
}

impl Memory {
    /// Empty, with a new history.
    pub fn new() -> Self {
        Self::keeping(CHANGES_MAX)
    }

    /// As [`Memory::new`], with `changes_max` changes kept for watches.
    pub fn keeping(changes_max: usize) -> Self {
        let lineage = Lineage { history: new_history(), revision: 0 };
        let state = State { lineage, objects: BTreeMap::new(), changes: VecDeque::new(), changes_max };
        Self { state: Arc::new(Mutex::new(state)), head: watch::Sender::new(lineage) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn check(&self, key: &Key, text: &str, expect: Expect) -> Result<()> {
        let current = self.objects.get(text);
        if expect.holds(current.and_then(|object| object.metadata.revision)) {
            return Ok(());
        }
        Err(StoreError::conflict(key, current.cloned()))
    }

    fn record(&mut self, change: Change) -> Lineage {
        self.lineage.revision = change.revision;
        self.changes.push_back(change);
        while self.changes.len() > self.changes_max {
            self.changes.pop_front();
        }
        self.lineage
    }

    /// Changes are kept after this revision.
    fn oldest(&self) -> u64 {
        self.lineage.revision - self.changes.len() as u64
    }

    fn since(&self, after: u64) -> Result<Vec<Change>> {
        let Some(known) = after.checked_sub(self.oldest()) else {
            return Err(StoreError::Compacted { after });
        };
        if after > self.lineage.revision {
            // A place in another history: nothing this store can continue.
            return Err(StoreError::Compacted { after });
        }
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        Ok(self.changes.iter().skip(known).take(REPLAY).cloned().collect())
    }
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(self.state().lineage)
    }

    async fn list(&self) -> Result<Listing> {
        let state = self.state();
        Ok(Listing { objects: state.objects.values().cloned().collect(), revision: state.lineage.revision })
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        Ok(self.state().objects.get(&key.to_string()).cloned())
    }

    async fn put(&self, key: &Key, object: Object, expect: Expect) -> Result<u64> {
        let text = key.to_string();
        let bytes = document::encode(key, object)?;
        let mut state = self.state();
        state.check(key, &text, expect)?;
        let revision = state.lineage.revision + 1;
        let object = document::decode(PLACE, &text, &bytes, revision)?;
        state.objects.insert(text, object.clone());
        let lineage = state.record(Change { revision, key: key.clone(), object: Some(object) });
        self.head.send_replace(lineage);
        Ok(revision)
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<u64> {
        let text = key.to_string();
        let mut state = self.state();
        state.check(key, &text, expect)?;
        if state.objects.remove(&text).is_none() {
            return Ok(state.lineage.revision);
        }
        let revision = state.lineage.revision + 1;
        let lineage = state.record(Change { revision, key: key.clone(), object: None });
        self.head.send_replace(lineage);
        Ok(revision)
    }

    async fn watch(&self, after: u64) -> Result<Watch> {
        // Under one lock, so that the watch is about the history its first answer came from.
        let state = self.state();
        state.since(after)?;
        let weak: Weak<Mutex<State>> = Arc::downgrade(&self.state);
        let read = move |after| {
            let changes = weak.upgrade().map(|state| lock(&state).since(after));
            Box::pin(std::future::ready(changes)) as _
        };
        Ok(follow(after, self.head.subscribe(), Box::new(read)))
    }

    async fn restore(&self, lineage: Lineage, objects: Vec<(Key, Object)>) -> Result<()> {
        let mut restored = BTreeMap::new();
        for (key, object) in objects {
            let revision = document::restored_revision(&object, lineage);
            let text = key.to_string();
            let bytes = document::encode(&key, object)?;
            restored.insert(text.clone(), document::decode(PLACE, &text, &bytes, revision)?);
        }
        let mut state = self.state();
        if !state.objects.is_empty() {
            return Err(StoreError::NotEmpty { objects: state.objects.len() });
        }
        state.objects = restored;
        state.changes.clear();
        state.lineage = lineage;
        self.head.send_replace(lineage);
        Ok(())
    }
}
