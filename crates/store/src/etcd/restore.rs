//! Filling an empty etcd with a backup. It takes several transactions, so the root record says while it runs; what an
//! interrupted one left is cleared by the next.

use super::connection::{self, Connection};
use super::root::{self, OBJECTS, ROOT, Root};
use crate::{Lineage, Result, StoreError, document};
use api::{Key, Object};
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, Txn, TxnOp};

/// Objects per transaction, below etcd's default `--max-txn-ops` of 128.
const CHUNK_OBJECTS: usize = 100;
/// Bytes per transaction unless one object is larger; etcd's default `--max-request-bytes` is 1.5 MiB.
const CHUNK_BYTES: usize = 256 * 1024;

/// Writes every object, then the lineage they belong to.
pub async fn restore(connection: &Connection, lineage: Lineage, objects: Vec<(Key, Object)>) -> Result<()> {
    let encoded = objects.into_iter().map(|(key, object)| Ok((root::path(&key), document::encode(&key, object)?)));
    let encoded = encoded.collect::<Result<Vec<_>>>()?;
    let marked = mark(connection).await?;
    step(connection, &marked, vec![TxnOp::delete(OBJECTS, Some(DeleteOptions::new().with_prefix()))]).await?;
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for (path, object) in encoded {
        if !chunk.is_empty() && (chunk.len() == CHUNK_OBJECTS || bytes + object.len() > CHUNK_BYTES) {
            step(connection, &marked, std::mem::take(&mut chunk)).await?;
            bytes = 0;
        }
        bytes += object.len();
        chunk.push(TxnOp::put(path, object, None));
    }
    // Everything written here is newer than the mark, and so than the lineage's revision.
    let offset = i64::try_from(lineage.revision).unwrap_or(i64::MAX).saturating_sub(marked.mod_revision);
    let root = Root { history: lineage.history, offset, base: lineage.revision, restoring: false, mod_revision: 0 };
    chunk.push(TxnOp::put(ROOT, root.encode(), None));
    step(connection, &marked, chunk).await
}

/// Says that a restore runs, unless objects are there that are not the rest of an interrupted one.
async fn mark(connection: &Connection) -> Result<Root> {
    let (present, _) = root::read_any(connection).await?;
    let mut compares = vec![present.unchanged()];
    if !present.restoring {
        // Over a range, this compares every key there is: none has been created.
        compares.push(Compare::create_revision(OBJECTS, CompareOp::Equal, 0).with_prefix());
    }
    let mut marked = Root { restoring: true, ..present };
    let txn = Txn::new().when(compares).and_then([TxnOp::put(ROOT, marked.encode(), None)]);
    let answer = connection.txn(txn).await?;
    if !answer.succeeded() {
        let count = GetOptions::new().with_prefix().with_count_only();
        let objects = connection.get(OBJECTS.into(), Some(count)).await?.count();
        return Err(StoreError::NotEmpty { objects: usize::try_from(objects).unwrap_or(0) });
    }
    marked.mod_revision = connection::revision(answer.header());
    Ok(marked)
}

async fn step(connection: &Connection, marked: &Root, operations: Vec<TxnOp>) -> Result<()> {
    let answer = connection.txn(Txn::new().when([marked.unchanged()]).and_then(operations)).await?;
    if answer.succeeded() { Ok(()) } else { Err(connection.unavailable("another restore began meanwhile")) }
}
