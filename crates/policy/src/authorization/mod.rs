//! Authorization: who may call what.
//!
//! Documents are never merged. A Deny that matches wins, then an Allow, then the mesh's default. What a zone writes can
//! only narrow what global allows.

use crate::called::{self, Caller, Request};
use crate::kind::{Inbound, InboundRule};
use api::config::{AuthorizationAction, AuthorizationRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets callers through, or refuses them.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorization {
    /// What happens to calls that match.
    pub action: Action,
    /// Only records what the rule would have done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
    /// Any of these callers. Omitted: anybody with a verified identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Caller>,
    /// Any of these requests. Omitted: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Request>,
}

/// What happens to calls that match.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Let through, unless a Deny matches too.
    Allow,
    /// Refused, whatever allows it.
    Deny,
}

impl Inbound for Authorization {
    const KIND: &'static str = "Authorization";
    const PLURAL: &'static str = "authorizations";
    const EXAMPLE: &'static str = include_str!("example.yaml");

    fn check(&self) -> Vec<(String, String)> {
        called::check(&self.from, &self.to)
    }

    fn lower(&self, policy: &str) -> InboundRule {
        let Self { action, audit, from, to } = self;
        InboundRule::Authorization(AuthorizationRule {
            policy: policy.into(),
            action: match action {
                Action::Allow => AuthorizationAction::Allow,
                Action::Deny => AuthorizationAction::Deny,
            },
            audit: *audit,
            from: from.iter().map(Caller::lower).collect(),
            to: to.iter().map(Request::lower).collect(),
        })
    }
}
