//! TCPRoute, in the shape of Gateway API v1alpha2, with a zone on backends.

use super::Spec;
use super::http_route::{BackendRef, ParentRef, check_backends, check_parents};
use crate::name::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses backends for connections.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRoute {
    /// Services whose connections it routes.
    pub parent_refs: Vec<ParentRef>,
    /// Exactly one.
    pub rules: Vec<TcpRule>,
}

/// Weighted backends.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRule {
    /// For references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// At least one.
    pub backend_refs: Vec<BackendRef>,
}

impl Spec for TcpRoute {
    const KIND: &'static str = "TCPRoute";
    const PLURAL: &'static str = "tcproutes";
    const API_VERSION: &'static str = crate::GATEWAY_API_EXPERIMENTAL;
    const EXAMPLE: &'static str = "\
parentRefs: [{kind: Service, name: ledger}]
rules:
  - backendRefs: [{name: ledger, zone: east}]
";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = check_parents(&self.parent_refs);
        if self.rules.len() != 1 {
            wrong.push(("rules".into(), "needs exactly one rule: a TCP connection has nothing to match on".into()));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            if rule.backend_refs.is_empty() {
                wrong.push((format!("rules[{i}].backendRefs"), "needs at least one backend".into()));
            }
            wrong.extend(check_backends(&format!("rules[{i}]"), &rule.backend_refs));
        }
        wrong
    }
}
