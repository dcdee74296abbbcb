//! Follows the store: an ordered stream of changes becomes a shared state that anybody may watch.

use crate::objects::Objects;
use api::Object;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

/// Changes taken from the store at once before others see the new state.
const BATCH_MAX: usize = 512;
/// Pause before the store is asked again after it failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Handle to the followed state. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    state: watch::Receiver<Arc<Objects>>,
    relist: Arc<Notify>,
}

/// Why one round of following ended.
enum Ended {
    /// Nobody holds the cache any more.
    Unwatched,
    /// Somebody asked for a fresh start, or the store has forgotten where we stood.
    Relist,
}

impl Cache {
    /// Lists once, so that the first state is complete; the returned future then follows until the cache is dropped.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let (sender, state) = watch::channel(Arc::new(list(&*store).await?));
        let relist = Arc::new(Notify::new());
        let follow = follow(store, sender, relist.clone());
        Ok((Self { state, relist }, follow))
    }

    /// The state, to wait on.
    pub fn watch(&self) -> watch::Receiver<Arc<Objects>> {
        self.state.clone()
    }

    /// The state as it is now.
    pub fn now(&self) -> Arc<Objects> {
        self.state.borrow().clone()
    }

    /// Starts over from a list, as after a restore.
    pub fn relist(&self) {
        self.relist.notify_one();
    }
}

async fn list(store: &dyn Store) -> Result<Objects, StoreError> {
    let history = store.lineage().await?.history;
    let store::Listing { objects, revision } = store.list().await?;
    let mut items = std::collections::BTreeMap::new();
    for object in objects {
        match crate::objects::key_of(&object) {
            Some(key) => drop(items.insert(key, Arc::new(object))),
            None => {
                warn!(kind = object.kind, name = %object.metadata.name, "the store holds an object of unknown kind")
            }
        }
    }
    Ok(Objects { items, history, revision })
}

async fn follow(store: Arc<dyn Store>, sender: watch::Sender<Arc<Objects>>, relist: Arc<Notify>) {
    loop {
        match changes(&*store, &sender, &relist).await {
            Ok(Ended::Unwatched) => return,
            Ok(Ended::Relist) => debug!("listing the store again"),
            Err(error) => {
                warn!(%error, "the store does not answer; serving what is known");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        match list(&*store).await {
            Ok(objects) => drop(sender.send_replace(Arc::new(objects))),
            Err(error) => warn!(%error, "the store cannot be listed; serving what is known"),
        }
    }
}

async fn changes(
    store: &dyn Store,
    sender: &watch::Sender<Arc<Objects>>,
    relist: &Notify,
) -> Result<Ended, StoreError> {
    let from = sender.borrow().revision;
    let mut stream = match store.watch(from).await {
        Ok(stream) => stream,
        Err(StoreError::Compacted { .. }) => return Ok(Ended::Relist),
        Err(error) => return Err(error),
    };
    loop {
        let first = tokio::select! {
            () = sender.closed() => return Ok(Ended::Unwatched),
            () = relist.notified() => return Ok(Ended::Relist),
            change = stream.next() => change,
        };
        let mut next = Objects::clone(&sender.borrow());
        let mut change = first;
        // What is already waiting becomes one step for everybody who watches.
        for _ in 0..BATCH_MAX {
            match change.take() {
                Some(Ok(found)) => apply(&mut next, found),
                Some(Err(StoreError::Compacted { .. })) => return Ok(Ended::Relist),
                Some(Err(error)) => return Err(error),
                None => return Ok(Ended::Relist),
            }
            change = match stream.next().now_or_never() {
                Some(more) => more,
                None => break,
            };
            if change.is_none() {
                break;
            }
        }
        sender.send_replace(Arc::new(next));
    }
}

fn apply(objects: &mut Objects, change: store::Change) {
    let store::Change { revision, key, object } = change;
    objects.revision = objects.revision.max(revision);
    match object {
        Some(object) => drop(objects.items.insert(key, Arc::<Object>::new(object))),
        None => drop(objects.items.remove(&key)),
    }
}
