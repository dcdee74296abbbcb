//! Mesh: one tenant.

use super::Spec;
use crate::name::ZoneName;
use crate::object::{Owner, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One tenant: trust, defaults, and which zones belong.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// Zones that belong to the mesh. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneName>,
    /// What happens to a request no Authorization policy speaks about.
    #[serde(default)]
    pub default_authorization: DefaultAuthorization,
    /// Whether workloads accept plaintext. Strict unless set; never off.
    #[serde(default)]
    pub mutual_tls: MutualTls,
}

/// What happens to a request no Authorization policy speaks about.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum DefaultAuthorization {
    /// Refused, unless a policy allows it.
    #[default]
    Deny,
    /// Let through, unless a policy denies it.
    Allow,
}

/// Whether workloads accept plaintext.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum MutualTls {
    /// Mutual TLS only.
    #[default]
    Strict,
    /// Mutual TLS and plaintext on one port, for moving in.
    Permissive,
}

impl Spec for Mesh {
    const KIND: &'static str = "Mesh";
    const PLURAL: &'static str = "meshes";
    const SCOPE: Scope = Scope::Global;
    const OWNER: Owner = Owner::Global;
    const EXAMPLE: &'static str = "defaultAuthorization: Allow\nmutualTls: Strict\n";
}
