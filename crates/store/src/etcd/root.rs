//! The record that says which history the keys belong to, and where those keys are.

use super::connection::{self, Connection};
use crate::{Result, StoreError, new_history};
use api::Key;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use serde_json::{Value, json};

/// Everything of ours.
pub const PREFIX: &str = "/weft/v1/";
/// The root record.
pub const ROOT: &str = "/weft/v1/history";
/// Objects, followed by their key text.
pub const OBJECTS: &str = "/weft/v1/objects/";

/// Format this program writes, and the newest it reads.
const FORMAT_KNOWN: u64 = 1;

/// What [`ROOT`] holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root {
    /// Of the lineage.
    pub history: u64,
    /// Revision of the lineage minus etcd's revision.
    pub offset: i64,
    /// Revision of the lineage at which this store took it over; older changes are not here.
    pub base: u64,
    /// A restore runs, or was interrupted.
    pub restoring: bool,
    /// etcd's revision of the record itself.
    pub mod_revision: i64,
}

impl Root {
    /// etcd's revision as ours.
    pub fn revision(&self, etcd: i64) -> u64 {
        u64::try_from(etcd.saturating_add(self.offset)).unwrap_or(0)
    }

    /// Ours as etcd's; not positive when it is from before etcd's first.
    pub fn etcd_revision(&self, ours: u64) -> i64 {
        i64::try_from(ours).unwrap_or(i64::MAX).saturating_sub(self.offset)
    }

    /// True in a transaction as long as nobody replaced the record.
    pub fn unchanged(&self) -> Compare {
        Compare::mod_revision(ROOT, CompareOp::Equal, self.mod_revision)
    }

    /// As kept in etcd.
    pub fn encode(&self) -> Vec<u8> {
        let Self { history, offset, base, restoring, mod_revision: _ } = self;
        json!({ "format": FORMAT_KNOWN, "history": history, "offset": offset, "base": base, "restoring": restoring })
            .to_string()
            .into_bytes()
    }

    /// From what etcd keeps.
    pub fn decode(place: &str, bytes: &[u8], mod_revision: i64) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let wrong = || StoreError::corrupt(place, format!("its key {ROOT} makes no sense"));
        let format = value["format"].as_u64().ok_or_else(wrong)?;
        if format > FORMAT_KNOWN {
            return Err(StoreError::Newer { place: place.to_owned(), found: format, known: FORMAT_KNOWN });
        }
        Ok(Self {
            history: value["history"].as_u64().ok_or_else(wrong)?,
            offset: value["offset"].as_i64().ok_or_else(wrong)?,
            base: value["base"].as_u64().ok_or_else(wrong)?,
            restoring: value["restoring"].as_bool().ok_or_else(wrong)?,
            mod_revision,
        })
    }
}

/// Where an object is kept.
pub fn path(key: &Key) -> String {
    format!("{OBJECTS}{key}")
}

/// The first key behind all objects.
pub fn after_objects() -> Vec<u8> {
    let mut end = OBJECTS.as_bytes().to_vec();
    // `/` + 1: the prefix ends with a slash.
    *end.last_mut().expect("the prefix is not empty") += 1;
    end
}

/// The key text in an etcd key.
pub fn key_text<'a>(place: &str, path: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix(OBJECTS));
    text.ok_or_else(|| StoreError::corrupt(place, "a key under its prefix is not ours"))
}

/// Begins a history, unless there is one. Of several processes that try, one does.
pub async fn begin(connection: &Connection) -> Result<()> {
    let root = Root { history: new_history(), offset: 0, base: 0, restoring: false, mod_revision: 0 };
    let absent = Compare::create_revision(ROOT, CompareOp::Equal, 0);
    connection.txn(Txn::new().when([absent]).and_then([TxnOp::put(ROOT, root.encode(), None)])).await?;
    // Says now, not at the first use, when a newer version wrote it.
    read_any(connection).await.map(drop)
}

/// The record and etcd's present revision; refused while the store holds half of a backup.
pub async fn read(connection: &Connection) -> Result<(Root, i64)> {
    let (root, revision) = read_any(connection).await?;
    if root.restoring {
        return Err(StoreError::HalfRestored { place: connection.place.clone() });
    }
    Ok((root, revision))
}

/// The record and etcd's present revision.
pub async fn read_any(connection: &Connection) -> Result<(Root, i64)> {
    let answer = connection.get(ROOT.into(), None).await?;
    let gone = || StoreError::corrupt(&connection.place, format!("its key {ROOT} is gone"));
    let found = answer.kvs().first().ok_or_else(gone)?;
    let root = Root::decode(&connection.place, found.value(), found.mod_revision())?;
    Ok((root, connection::revision(answer.header())))
}
