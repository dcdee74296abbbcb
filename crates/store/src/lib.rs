//! Durable resources behind one small trait, kept in memory, in a file, or in etcd.
//!
//! All three hold the same promises, and one conformance suite checks them: a write is compare-and-set on one object, is
//! durable when it is acknowledged, and gets the next revision; a watch replays every change after a revision, in order and
//! without a gap, or says that it cannot. What changes often (endpoints, statistics, health) never goes into a store.

mod changes;
mod document;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
mod memory;

pub use document::OBJECT_BYTES_MAX;
pub use error::StoreError;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use file::File;
pub use memory::Memory;

use api::{Key, Object};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::path::Path;
use std::sync::Arc;

/// Changes a store keeps for watches to replay. A watcher further behind lists again, which is cheaper by then. etcd
/// keeps its own, bounded by its `--auto-compaction` settings.
pub const CHANGES_MAX: usize = 1024;

/// Result of every operation of a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Which history of changes this is, and how far it got. A store made anew has a new history, so nobody who followed the
/// old one takes its emptiness for a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lineage {
    /// Random, never 0, at most 2^53 - 1 so that JSON readers keep it exact.
    pub history: u64,
    /// Of the last change; only grows.
    pub revision: u64,
}

/// Everything at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Ordered by key text; `metadata.revision` is set.
    pub objects: Vec<Object>,
    /// A watch from here continues without a gap.
    pub revision: u64,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of this change.
    pub revision: u64,
    /// Which object.
    pub key: Key,
    /// What it became, with `metadata.revision` set; `None` when it was deleted.
    pub object: Option<Object>,
}

/// What must be true of the present object for a write to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// The object was last changed at this revision.
    Revision(u64),
}

impl Expect {
    /// Whether an object at `revision` (or none) is what was expected.
    fn holds(self, revision: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => revision.is_none(),
            Self::Revision(wanted) => revision == Some(wanted),
        }
    }
}

/// Changes as they happen. Ends with an error ([`StoreError::Compacted`] means: list again), never silently early, but
/// for the store being dropped.
pub type Watch = BoxStream<'static, Result<Change>>;

/// A store of objects. Every write is one object, and durable before it returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// `memory`, `file` or `etcd`.
    fn name(&self) -> &'static str;

    /// History and present revision.
    async fn lineage(&self) -> Result<Lineage>;

    /// Everything, at one revision.
    async fn list(&self) -> Result<Listing>;

    /// One object.
    async fn get(&self, key: &Key) -> Result<Option<Object>>;

    /// Writes an object and returns the revision of the change. [`StoreError::Conflict`] carries what is there instead.
    /// `metadata.revision` and `status` of the given object are not stored.
    async fn put(&self, key: &Key, object: Object, expect: Expect) -> Result<u64>;

    /// Removes an object and returns the revision of the change; removing what is not there (and was not expected to
    /// be) changes nothing and returns the present revision.
    async fn delete(&self, key: &Key, expect: Expect) -> Result<u64>;

    /// Every change after a revision, then every change as it happens. [`StoreError::Compacted`] when the store no
    /// longer knows them all.
    async fn watch(&self, after: u64) -> Result<Watch>;

    /// Fills an empty store with a backup and continues its history: same history, revisions from there on.
    async fn restore(&self, lineage: Lineage, objects: Vec<(Key, Object)>) -> Result<()>;
}

/// Opens `memory`, `file:PATH` or `etcd:URL,URL`.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    if url == "memory" {
        return Ok(Arc::new(Memory::new()));
    }
    if let Some(path) = url.strip_prefix("file:").filter(|path| !path.is_empty()) {
        return Ok(Arc::new(File::open(Path::new(path)).await?));
    }
    if let Some(addresses) = url.strip_prefix("etcd:").filter(|addresses| !addresses.is_empty()) {
        return open_etcd(addresses).await;
    }
    Err(StoreError::Url { given: url.to_owned() })
}

#[cfg(feature = "etcd")]
async fn open_etcd(addresses: &str) -> Result<Arc<dyn Store>> {
    let addresses: Vec<String> = addresses.split(',').map(|address| address.trim().to_owned()).collect();
    Ok(Arc::new(Etcd::connect(&addresses).await?))
}

#[cfg(not(feature = "etcd"))]
async fn open_etcd(_: &str) -> Result<Arc<dyn Store>> {
    Err(StoreError::NotBuilt { feature: "etcd" })
}

/// A history nobody else has: random, never 0, at most 2^53 - 1.
fn new_history() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library seeds this hasher from the operating system; the time keeps two hashers of a thread apart.
    let now = std::time::SystemTime::now();
    (RandomState::new().hash_one(now) >> 11).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_store_is_refused_with_the_forms_there_are() {
        for given in ["", "redis:here", "file:", "etcd:"] {
            let said = open(given).await.err().expect("refused").to_string();
            assert!(said.contains("memory, file:PATH"), "{said}");
        }
        assert_eq!(open("memory").await.expect("opens").name(), "memory");
    }

    #[test]
    fn histories_differ_and_are_exact_in_json() {
        let histories: std::collections::BTreeSet<u64> = (0..100).map(|_| new_history()).collect();
        assert_eq!(histories.len(), 100);
        assert!(histories.iter().all(|history| (1..1 << 53).contains(history)));
    }
}
