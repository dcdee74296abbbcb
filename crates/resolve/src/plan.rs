//! What would change for whom: two resolutions and a comparison.

use crate::class::{ClassKey, class_of};
use crate::program::{Resolved, resolve};
use crate::reach::dangling;
use crate::snapshot::Snapshot;
use api::object::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Paths of changed fields that are listed for one item. More are not read by anybody.
const FIELDS_MAX: usize = 32;

/// What would change between two snapshots of one zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Classes whose proxies would run something else.
    pub changes: Vec<ClassChange>,
    /// Proxies that would run the same as now.
    pub unchanged: usize,
    /// What the new documents would not do, that the old ones did not say either: `(document, why)`.
    pub warnings: Vec<(Key, String)>,
}

/// What would change for the proxies of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassChange {
    /// Which, after the change (before it, when they are gone).
    pub class: ClassKey,
    /// Their workloads.
    pub workloads: Vec<Key>,
    /// Items that differ.
    pub items: Vec<ItemChange>,
}

/// One item that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// Its key, such as `outbound/default/shop/cart`.
    pub item: String,
    /// How.
    pub change: Change,
    /// Fields that differ, each with the value before and after; `null` where there is none.
    pub fields: BTreeMap<String, (Value, Value)>,
}

/// How an item differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// New.
    Added,
    /// Gone.
    Removed,
    /// Other content.
    Changed,
}

/// Compares what every proxy of the zone runs before and after.
pub fn plan(old: &Snapshot, new: &Snapshot) -> Plan {
    let mut before = Answers { snapshot: old, resolved: BTreeMap::new() };
    let mut after = Answers { snapshot: new, resolved: BTreeMap::new() };
    let workloads: BTreeSet<&Key> = old.workloads.keys().chain(new.workloads.keys()).collect();
    // Proxies that move from one class to another together are one line of the plan.
    let mut moves: BTreeMap<(Option<ClassKey>, Option<ClassKey>), Vec<Key>> = BTreeMap::new();
    for workload in workloads {
        let classes = (class_of(old, workload), class_of(new, workload));
        moves.entry(classes).or_default().push(workload.clone());
    }
    let mut plan = Plan::default();
    let nothing = Resolved::default();
    for ((from, to), workloads) in moves {
        let Some(class) = to.clone().or_else(|| from.clone()) else { continue };
        let was = from.as_ref().map_or(&nothing, |class| before.of(class));
        let is = to.as_ref().map_or(&nothing, |class| after.of(class));
        let items = compare(was, is);
        if items.is_empty() {
            plan.unchanged += workloads.len();
        } else {
            plan.changes.push(ClassChange { class, workloads, items });
        }
    }
    let known: BTreeSet<_> = before.warnings().into_iter().chain(dangling(old)).collect();
    let now: BTreeSet<_> = after.warnings().into_iter().chain(dangling(new)).collect();
    plan.warnings = now.into_iter().filter(|warning| !known.contains(warning)).collect();
    plan
}

/// Answers of one snapshot, each computed once.
struct Answers<'a> {
    snapshot: &'a Snapshot,
    resolved: BTreeMap<ClassKey, Resolved>,
}

impl Answers<'_> {
    fn of(&mut self, class: &ClassKey) -> &Resolved {
        let snapshot = self.snapshot;
        self.resolved.entry(class.clone()).or_insert_with(|| resolve(snapshot, class))
    }

    fn warnings(&self) -> BTreeSet<(Key, String)> {
        self.resolved.values().flat_map(|resolved| resolved.warnings.iter().cloned()).collect()
    }
}

fn compare(was: &Resolved, is: &Resolved) -> Vec<ItemChange> {
    let keys: BTreeSet<&String> = was.items.keys().chain(is.items.keys()).collect();
    let value = |bytes: &bytes::Bytes| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut changes = Vec::new();
    for key in keys {
        let (old, new) = (was.items.get(key), is.items.get(key));
        if old == new {
            continue;
        }
        let mut fields = BTreeMap::new();
        let change = match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) => {
                differences("", &value(old), &value(new), &mut fields);
                Change::Changed
            }
        };
        changes.push(ItemChange { item: key.clone(), change, fields });
    }
    changes
}

fn differences(at: &str, old: &Value, new: &Value, into: &mut BTreeMap<String, (Value, Value)>) {
    if old == new || into.len() == FIELDS_MAX {
        return;
    }
    match (old, new) {
        (Value::Object(was), Value::Object(is)) => {
            let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for name in names {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                let part = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                differences(&at, &part(was), &part(is), into);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            for (i, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{at}[{i}]"), was, is, into);
            }
        }
        _ => {
            into.insert(at.to_owned(), (old.clone(), new.clone()));
        }
    }
}
