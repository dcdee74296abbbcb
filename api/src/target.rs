//! References from a policy to the proxies and the traffic it is about.

use crate::name::{Name, Namespace, ZoneName};
use crate::object::Labels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a reference points to. Which kinds are allowed depends on the field: see `policy::check`.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum TargetKind {
    /// Everything in the mesh. The only kind without a name.
    Mesh,
    /// Proxies of one zone.
    Zone,
    /// Proxies of, or services in, a namespace.
    Namespace,
    /// Proxies whose workload carries these labels.
    Workload,
    /// Proxies at a zone's edge.
    Gateway,
    /// A service, or with `sectionName` one port of it.
    Service,
    /// Something outside the mesh.
    ExternalService,
    /// A route, or with `sectionName` one rule of it.
    HTTPRoute,
    /// A route, or with `sectionName` one rule of it.
    GRPCRoute,
    /// A route.
    TCPRoute,
}

/// A reference by kind, name and namespace.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// What it points to.
    pub kind: TargetKind,
    /// Omitted for `Mesh`, and for `Workload` when labels select.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Omitted: the namespace of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Only for `Service`: that zone's endpoints only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Only for `Workload`: labels that must all match.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// A port's name or number, or a rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

impl TargetRef {
    /// The whole mesh: what an omitted `targetRef` means.
    pub fn mesh() -> Self {
        Self {
            kind: TargetKind::Mesh,
            name: None,
            namespace: None,
            zone: None,
            labels: Labels::new(),
            section_name: None,
        }
    }
}
