//! Lays values over each other field by field, and remembers where each came from and what it covers.

use api::object::Key;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Where one value came from, and what it covers up.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The document that holds.
    pub policy: Key,
    /// Documents that say something else about the same value, least specific first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covers: Vec<Key>,
}

/// Values of several kinds, merged.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// By kind.
    pub values: BTreeMap<&'static str, Map<String, Value>>,
    /// By `Kind.field`.
    pub origins: BTreeMap<String, Origin>,
    /// Documents that took part, covered ones too.
    pub documents: BTreeSet<Key>,
}

impl Merged {
    /// Lays one document's values over what is there.
    pub(crate) fn lay(&mut self, document: &Key, kind: &'static str, values: &Map<String, Value>) {
        self.documents.insert(document.clone());
        let into = self.values.entry(kind).or_default();
        over(into, values, kind, document, &mut self.origins);
    }

    /// Which document (`NAMESPACE/NAME`) each value of a kind is from, by its field.
    pub(crate) fn policies(&self, kind: &str) -> BTreeMap<String, String> {
        let of_kind = |at: &str| Some(at.strip_prefix(kind)?.strip_prefix('.')?.to_owned());
        let name = |Key { namespace, name, .. }: &Key| format!("{}/{name}", namespace.clone().unwrap_or_default());
        let origins = self.origins.iter().filter_map(|(at, origin)| Some((of_kind(at)?, name(&origin.policy))));
        origins.collect()
    }

    /// Merged values of a kind; nothing when no document speaks.
    pub(crate) fn of(&self, kind: &str) -> Value {
        Value::Object(self.values.get(kind).cloned().unwrap_or_default())
    }
}

/// Maps are merged, everything else is replaced.
fn over(
    into: &mut Map<String, Value>,
    values: &Map<String, Value>,
    at: &str,
    document: &Key,
    origins: &mut BTreeMap<String, Origin>,
) {
    for (field, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{at}.{field}");
        if let Value::Object(inner) = value {
            let below = into.entry(field.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                over(below, inner, &at, document, origins);
                continue;
            }
        }
        into.insert(field.clone(), value.clone());
        match origins.get_mut(&at) {
            Some(origin) => {
                let covered = std::mem::replace(&mut origin.policy, document.clone());
                origin.covers.push(covered);
            }
            None => {
                origins.insert(at, Origin { policy: document.clone(), covers: Vec::new() });
            }
        }
    }
}
