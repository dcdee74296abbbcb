//! What the zone offers, published to global and to peers with a revision that says which copy is newer.

use api::report::{Source, item};
use bytes::Bytes;
use control::documents::payload;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use sync_grpc::{Lineage, Published};

/// The `exports` view. Cheap to clone.
#[derive(Clone)]
pub struct Exports {
    view: Published,
    state: Arc<Mutex<(Source, BTreeMap<String, Bytes>)>>,
}

impl Exports {
    /// Nothing is offered yet, and nothing said.
    pub fn new(history: u64) -> Self {
        let source = Source { history, revision: 0 };
        let view = Published::new(Lineage { history, revision: 0 });
        Self { view, state: Arc::new(Mutex::new((source, BTreeMap::new()))) }
    }

    /// The view to publish.
    pub fn view(&self) -> Published {
        self.view.clone()
    }

    /// Makes `items` what is offered. The revision moves with the clock, so that it grows across restarts too.
    pub fn publish(&self, items: BTreeMap<String, Bytes>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, last) = &mut *state;
        if source.revision > 0 && *last == items {
            return;
        }
        source.revision = process::clock::unix_ms().max(source.revision + 1);
        let mut next: BTreeMap<Arc<str>, Bytes> =
            items.iter().map(|(key, payload)| (key.as_str().into(), payload.clone())).collect();
        next.insert(item::SOURCE.into(), payload(source));
        *last = items;
        self.view.set_lineage(Lineage { history: source.history, revision: source.revision });
        self.view.replace(next);
    }
}
