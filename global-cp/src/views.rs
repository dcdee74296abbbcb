//! What each zone may see: what global owns, filtered by mesh, and what other zones offer.

use api::kinds::Mesh;
use api::{Key, MeshName, Object, ZoneName};
use bytes::Bytes;
use control::Objects;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Prefix of objects in a zone's view.
pub const OBJECT: &str = "object/";
/// Prefix of other zones' exports in a zone's view.
pub const PEER: &str = "peer/";

/// Items of a view.
pub type Items = BTreeMap<Arc<str>, Bytes>;

/// Members of meshes that limit them.
#[derive(Debug, Default, PartialEq)]
pub struct Membership(BTreeMap<MeshName, Vec<ZoneName>>);

impl Membership {
    /// As meshes say.
    pub fn of(objects: &Objects) -> Self {
        let limited = objects.specs::<Mesh>().filter(|(_, mesh)| !mesh.zones.is_empty());
        Self(limited.filter_map(|(key, mesh)| Some((key.name.as_str().parse().ok()?, mesh.zones))).collect())
    }

    fn has(&self, mesh: &str, zone: &ZoneName) -> bool {
        self.0.get(mesh).is_none_or(|zones| zones.contains(zone))
    }

    /// Whether a zone may see an object that global owns.
    pub fn shows(&self, key: &Key, zone: &ZoneName) -> bool {
        let mesh = match (&key.mesh, key.kind.as_str()) {
            (Some(mesh), _) => mesh.as_str(),
            (None, "Mesh") => key.name.as_str(),
            (None, _) => return true,
        };
        self.has(mesh, zone)
    }
}

/// Serialises each object once, for all zones.
#[derive(Default)]
pub struct Encoded(BTreeMap<Key, (Arc<Object>, Arc<str>, Bytes)>);

impl Encoded {
    /// Items of everything global owns.
    pub fn encode(&mut self, objects: &Objects) -> impl Iterator<Item = (&Key, &Arc<str>, &Bytes)> {
        let mut next = BTreeMap::new();
        for (key, object) in objects.items.iter().filter(|(key, _)| key.zone.is_none()) {
            let entry = match self.0.remove(key) {
                Some(known) if Arc::ptr_eq(&known.0, object) => known,
                _ => (object.clone(), format!("{OBJECT}{key}").into(), control::documents::payload(&**object)),
            };
            next.insert(key.clone(), entry);
        }
        self.0 = next;
        self.0.iter().map(|(key, (_, item, payload))| (key, item, payload))
    }
}

/// What a zone passes on of another zone's exports.
pub fn passed_on<'a>(from: &'a ZoneName, exports: &'a Items) -> impl Iterator<Item = (Arc<str>, Bytes)> + 'a {
    exports.iter().map(move |(key, payload)| (format!("{PEER}{from}/{key}").into(), payload.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(list: &[serde_json::Value]) -> Objects {
        let items = list.iter().map(|value| {
            let object: Object = serde_json::from_value(value.clone()).unwrap();
            (control::objects::key_of(&object).unwrap(), Arc::new(object))
        });
        Objects { items: items.collect(), history: 1, revision: 1 }
    }

    #[test]
    fn a_zone_sees_only_meshes_it_belongs_to() {
        let timeout = |mesh: &str| {
            json!({"apiVersion": "weft.dev/v1", "kind": "Timeout",
                "metadata": {"name": "t", "namespace": "shop", "labels": {"weft.dev/mesh": mesh}}, "spec": {}})
        };
        let mesh = |name: &str, zones: &[&str]| json!({"apiVersion": "weft.dev/v1", "kind": "Mesh", "metadata": {"name": name}, "spec": {"zones": zones}});
        let objects = objects(&[mesh("pay", &["east"]), mesh("default", &[]), timeout("pay"), timeout("default")]);
        let membership = Membership::of(&objects);
        let mut encoded = Encoded::default();
        let mut seen = |zone: &str| -> Vec<String> {
            let zone = zone.parse().unwrap();
            let shown = encoded.encode(&objects).filter(|(key, ..)| membership.shows(key, &zone));
            shown.map(|(_, item, _)| item.to_string()).collect()
        };
        assert_eq!(seen("west"), ["object/Mesh/-/-/-/default", "object/Timeout/default/-/shop/t"]);
        assert_eq!(seen("east").len(), 4);
    }
}
