//! Objects in etcd, for global control planes that run as several processes.
//!
//! Keys live under `/weft/v1/`. Revisions are etcd's own, shifted by an offset so that a restored backup continues where
//! it stopped; history, offset and the like are one record, and every write is a transaction that also checks that this
//! record did not change meanwhile.

mod connection;
mod restore;
mod root;
mod watch;

use crate::{Expect, Lineage, Listing, Result, Store, StoreError, Watch, document};
use api::{Key, Object};
use async_trait::async_trait;
use connection::Connection;
use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};
use root::{OBJECTS, ROOT, Root};

/// Objects per page of a listing; a page of the largest objects is [`connection::ANSWER_BYTES_MAX`].
const PAGE: i64 = 64;
/// Times a write is tried again because the root record changed under it, which only a restore does.
const ROOT_CHANGES_MAX: usize = 3;

/// Objects in etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    connection: Connection,
}

impl Etcd {
    /// Connects to the members at `addresses` (`http://HOST:PORT`, or `https://` with the certificates named by
    /// WEFT_ETCD_CA, WEFT_ETCD_CERT and WEFT_ETCD_KEY) and begins a history when there is none.
    pub async fn connect(addresses: &[String]) -> Result<Self> {
        let connection = Connection::open(addresses).await?;
        root::begin(&connection).await?;
        Ok(Self { connection })
    }

    fn place(&self) -> &str {
        &self.connection.place
    }

    fn decode(&self, root: &Root, found: &KeyValue) -> Result<Object> {
        let key = root::key_text(self.place(), found.key())?;
        document::decode(self.place(), key, found.value(), root.revision(found.mod_revision()))
    }

    /// One compare-and-set of one object.
    async fn write(&self, key: &Key, bytes: Option<Vec<u8>>, expect: Expect) -> Result<u64> {
        let path = root::path(key);
        for _ in 0..ROOT_CHANGES_MAX {
            let (root, _) = root::read(&self.connection).await?;
            let change = match &bytes {
                Some(bytes) => TxnOp::put(path.as_str(), bytes.as_slice(), None),
                None => TxnOp::delete(path.as_str(), None),
            };
            let mut compares = vec![root.unchanged()];
            match expect {
                Expect::Any => {}
                Expect::Absent => compares.push(Compare::create_revision(path.as_str(), CompareOp::Equal, 0)),
                Expect::Revision(revision) => {
                    let revision = root.etcd_revision(revision);
                    compares.push(Compare::mod_revision(path.as_str(), CompareOp::Equal, revision));
                }
            }
            let present = [TxnOp::get(ROOT, None), TxnOp::get(path.as_str(), None)];
            let txn = Txn::new().when(compares).and_then([change]).or_else(present);
            let answer = self.connection.txn(txn).await?;
            if answer.succeeded() {
                return Ok(root.revision(connection::revision(answer.header())));
            }
            let found = gets(answer.op_responses());
            let [present_root, present] = &found[..] else {
                return Err(StoreError::corrupt(self.place(), "it answers fewer questions than it was asked"));
            };
            if present_root.first().map(KeyValue::mod_revision) == Some(root.mod_revision) {
                let current = present.first().map(|found| self.decode(&root, found)).transpose()?;
                // Deleting what is gone, or finding what was expected, cannot get here: the comparison failed.
                return Err(StoreError::conflict(key, current));
            }
        }
        Err(self.connection.unavailable("its history keeps changing; is a restore running?"))
    }
}

/// What the `get`s of a transaction found, in order.
fn gets(responses: Vec<TxnOpResponse>) -> Vec<Vec<KeyValue>> {
    let found = responses.into_iter().filter_map(|response| match response {
        TxnOpResponse::Get(mut found) => Some(found.take_kvs()),
        _ => None,
    });
    found.collect()
}

#[async_trait]
impl Store for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn lineage(&self) -> Result<Lineage> {
        let (root, revision) = root::read(&self.connection).await?;
        Ok(Lineage { history: root.history, revision: root.revision(revision) })
    }

    async fn list(&self) -> Result<Listing> {
        let (root, at) = root::read(&self.connection).await?;
        let mut objects = Vec::new();
        let mut from = OBJECTS.as_bytes().to_vec();
        loop {
            // Every page at the revision of the first question, so that the listing is one moment.
            let options = GetOptions::new().with_range(root::after_objects()).with_limit(PAGE).with_revision(at);
            let page = self.connection.get(from, Some(options)).await?;
            for found in page.kvs() {
                objects.push(self.decode(&root, found)?);
            }
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                _ => break,
            }
        }
        Ok(Listing { objects, revision: root.revision(at) })
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let (root, at) = root::read(&self.connection).await?;
        let options = GetOptions::new().with_revision(at);
        let found = self.connection.get(root::path(key).into_bytes(), Some(options)).await?;
        found.kvs().first().map(|found| self.decode(&root, found)).transpose()
    }

    async fn put(&self, key: &Key, object: Object, expect: Expect) -> Result<u64> {
        self.write(key, Some(document::encode(key, object)?), expect).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<u64> {
        self.write(key, None, expect).await
    }

    async fn watch(&self, after: u64) -> Result<Watch> {
        watch::open(&self.connection, after).await
    }

    async fn restore(&self, lineage: Lineage, objects: Vec<(Key, Object)>) -> Result<()> {
        restore::restore(&self.connection, lineage, objects).await
    }
}
