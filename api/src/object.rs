//! The resource envelope: one format in YAML files, REST and Kubernetes.

use crate::name::{MeshName, Name, NameError, Namespace, ZoneName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Label naming the mesh of an object; absent means `default`.
pub const MESH_LABEL: &str = "weft.dev/mesh";
/// Label naming the zone an object was written in; set by Weft, absent on what global owns.
pub const ZONE_LABEL: &str = "weft.dev/zone";
/// Labels one object may carry.
pub const LABELS_MAX: usize = 64;

/// Labels, sorted so that equal objects have equal bytes.
pub type Labels = BTreeMap<String, String>;

/// One document. `spec` stays a value here; its type is chosen by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// `weft.dev/v1`, or Gateway API's for routes.
    pub api_version: String,
    /// Kind in PascalCase, such as `Timeout`.
    pub kind: String,
    /// Name, place and labels.
    pub metadata: Metadata,
    /// What the author wants.
    #[serde(default)]
    pub spec: Value,
    /// What Weft says about it; ignored when written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// Name, place and labels of an object.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name within kind, mesh and namespace.
    pub name: Name,
    /// Omitted: `default`. Objects of global scope have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Free, but for the `weft.dev/` prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Notes of people and tools; never selected on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Labels,
    /// Store revision of the last change. Set by Weft; when written it must match, or the write is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// No mesh and no namespace: Mesh, Zone.
    Global,
    /// In a namespace of a mesh: everything else.
    Namespaced,
}

/// Who writes objects of a kind, and so which way they travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// Written at global, travels down.
    Global,
    /// Written in a zone, travels up.
    Zone,
    /// Either; what a zone writes applies there only.
    Either,
}

/// Identity of an object, kept structured end to end and never mangled into a name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    /// Kind in PascalCase.
    pub kind: String,
    /// `None` for kinds of global scope.
    pub mesh: Option<MeshName>,
    /// Zone of origin; `None` for what global owns.
    pub zone: Option<ZoneName>,
    /// `None` for kinds of global scope.
    pub namespace: Option<Namespace>,
    /// Name.
    pub name: Name,
}

impl Object {
    /// The structured key. Labels decide mesh and zone; global kinds have neither mesh nor namespace.
    pub fn key(&self, scope: Scope) -> Result<Key, NameError> {
        let Metadata { name, namespace, .. } = &self.metadata;
        let kind = self.kind.clone();
        let name = name.clone();
        Ok(match scope {
            Scope::Global => Key { kind, mesh: None, zone: None, namespace: None, name },
            Scope::Namespaced => Key {
                kind,
                mesh: Some(self.mesh()?),
                zone: self.zone()?,
                namespace: Some(namespace.clone().unwrap_or_default()),
                name,
            },
        })
    }

    /// The mesh this object belongs to.
    pub fn mesh(&self) -> Result<MeshName, NameError> {
        self.metadata.labels.get(MESH_LABEL).map_or_else(|| Ok(MeshName::default()), |name| name.parse())
    }

    /// The zone this object was written in, if any.
    pub fn zone(&self) -> Result<Option<ZoneName>, NameError> {
        self.metadata.labels.get(ZONE_LABEL).map(|name| name.parse()).transpose()
    }

    /// Reads the spec as its type.
    pub fn spec_as<S: serde::de::DeserializeOwned>(&self) -> Result<S, serde_json::Error> {
        S::deserialize(&self.spec)
    }
}

/// Text form `Kind/mesh/zone/namespace/name`, with `-` where there is none.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mesh, zone, namespace, name } = self;
        let mesh = mesh.as_ref().map_or("-", MeshName::as_str);
        let zone = zone.as_ref().map_or("-", ZoneName::as_str);
        let namespace = namespace.as_ref().map_or("-", Namespace::as_str);
        write!(f, "{kind}/{mesh}/{zone}/{namespace}/{name}")
    }
}

/// A text that is no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an object key: expected Kind/MESH/ZONE/NAMESPACE/NAME, with `-` where there is none")]
pub struct KeyError(String);

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(given: &str) -> Result<Self, KeyError> {
        fn part<T: FromStr>(text: &str, given: &str) -> Result<Option<T>, KeyError> {
            if text == "-" {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|_| KeyError(given.into()))
        }
        let parts: Vec<&str> = given.split('/').collect();
        let [kind, mesh, zone, namespace, name] = parts[..] else {
            return Err(KeyError(given.into()));
        };
        Ok(Self {
            kind: kind.into(),
            mesh: part(mesh, given)?,
            zone: part(zone, given)?,
            namespace: part(namespace, given)?,
            name: name.parse().map_err(|_| KeyError(given.into()))?,
        })
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(given: String) -> Result<Self, KeyError> {
        given.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written() {
        for text in ["Timeout/default/-/shop/cart-fast", "Zone/-/-/-/east", "Workload/default/west/shop/cart-1"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        assert!("Timeout/default/shop".parse::<Key>().is_err());
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"apiVersion":"weft.dev/v1","kind":"Mesh","metadata":{"name":"a","nmae":"b"}}"#;
        let error = serde_json::from_str::<Object>(text).unwrap_err().to_string();
        assert!(error.contains("nmae"), "{error}");
    }
}
