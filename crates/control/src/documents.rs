//! Objects inside replicated items: parses each payload once, and only when its bytes changed.

use api::{Key, Object};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects read from items `PREFIX/KEY`; keeps what is unchanged.
#[derive(Debug, Default)]
pub struct Documents {
    read: BTreeMap<Arc<str>, (Bytes, Key, Arc<Object>)>,
}

impl Documents {
    /// Brings the objects up to date with `items`; returns them. An item that cannot be read is left out.
    pub fn read<'a>(
        &mut self,
        prefix: &str,
        items: impl IntoIterator<Item = (&'a Arc<str>, &'a Bytes)>,
    ) -> Vec<(Key, Arc<Object>)> {
        let mut next = BTreeMap::new();
        for (item, payload) in items {
            let Some(rest) = item.strip_prefix(prefix) else { continue };
            let entry = match self.read.remove(item) {
                Some(known) if known.0 == *payload => known,
                _ => match parse(rest, payload) {
                    Ok((key, object)) => (payload.clone(), key, Arc::new(object)),
                    Err(error) => {
                        tracing::warn!(item = &**item, error, "a replicated object cannot be read; it is left out");
                        continue;
                    }
                },
            };
            next.insert(item.clone(), entry);
        }
        self.read = next;
        self.read.values().map(|(_, key, object)| (key.clone(), object.clone())).collect()
    }
}

/// Reads one `KEY` and its JSON.
pub fn parse(key: &str, payload: &[u8]) -> Result<(Key, Object), String> {
    let key: Key = key.parse().map_err(|error: api::object::KeyError| error.to_string())?;
    let object: Object = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    Ok((key, object))
}

/// Reads one item's JSON, or `None` when it is absent or of a form we do not know.
pub fn item<T: serde::de::DeserializeOwned>(items: &BTreeMap<Arc<str>, Bytes>, key: &str) -> Option<T> {
    serde_json::from_slice(items.get(key)?).ok()
}

/// All items below a prefix, as one type, by the rest of their keys.
pub fn below<'a, T: serde::de::DeserializeOwned>(
    items: &'a BTreeMap<Arc<str>, Bytes>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, T)> {
    items
        .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .filter_map(move |(key, payload)| Some((key.strip_prefix(prefix)?, serde_json::from_slice(payload).ok()?)))
}

/// JSON bytes of an item. The types that travel serialise without fail.
pub fn payload<T: serde::Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("types that travel have string keys and finite shapes").into()
}
