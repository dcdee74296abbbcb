//! An object as a store keeps it: JSON, without what the store itself knows or others say about it.

use crate::{Lineage, Result, StoreError};
use api::{Key, Object};

/// Largest object, as JSON: below etcd's default `--max-request-bytes` of 1.5 MiB, so that every store takes the same.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// The bytes to keep. Revision and status are not part of them.
pub fn encode(key: &Key, mut object: Object) -> Result<Vec<u8>> {
    object.metadata.revision = None;
    object.status = None;
    let bytes = serde_json::to_vec(&object).expect("an object has text keys only, so it is always JSON");
    if bytes.len() > OBJECT_BYTES_MAX {
        return Err(StoreError::Large { key: key.clone(), bytes: bytes.len(), limit: OBJECT_BYTES_MAX });
    }
    Ok(bytes)
}

/// The object again, as it was last changed at `revision`.
pub fn decode(place: &str, key: &str, bytes: &[u8], revision: u64) -> Result<Object> {
    let mut object: Object = serde_json::from_slice(bytes)
        .map_err(|error| StoreError::corrupt(place, format!("{key} cannot be read ({error})")))?;
    object.metadata.revision = Some(revision);
    Ok(object)
}

/// The key of its text.
pub fn key(place: &str, text: &str) -> Result<Key> {
    text.parse().map_err(|error| StoreError::corrupt(place, error))
}

/// Revision of an object that comes from a backup: its own, unless it has none or one from the future.
pub fn restored_revision(object: &Object, lineage: Lineage) -> u64 {
    object.metadata.revision.unwrap_or(lineage.revision).min(lineage.revision)
}
