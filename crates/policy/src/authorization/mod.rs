//! Authorization: who may call what.
//!
//! Documents are never merged. A Deny that matches wins, then an Allow, then the mesh's default. What a zone writes can
//! only narrow what global allows.

use crate::kind::Inbound;
use api::config::{AuthorizationAction, AuthorizationRule, PeerMatch, RequestMatch};
use api::{Account, Namespace, ZoneName};
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

/// A caller, by parts of its verified identity. All given parts must be equal.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Caller {
    /// Zone the caller runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Namespace of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Account the caller runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// A request, by its parts. All given parts must match. Bytes without requests match on ports only.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Any of these. Omitted: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Any of these, in capitals. Omitted: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Any of these; a trailing `*` matches any rest. Omitted: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Inbound for Authorization {
    const KIND: &'static str = "Authorization";
    const PLURAL: &'static str = "authorizations";
    const EXAMPLE: &'static str = include_str!("example.yaml");

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (i, caller) in self.from.iter().enumerate() {
            if *caller == Caller::default() {
                let what = "would match anybody; name a zone, namespace or account, or leave `from` out";
                wrong.push((format!("from[{i}]"), what.into()));
            }
        }
        for (i, request) in self.to.iter().enumerate() {
            if *request == Request::default() {
                let what = "would match every request; name ports, methods or paths, or leave `to` out";
                wrong.push((format!("to[{i}]"), what.into()));
            }
            for (j, port) in request.ports.iter().enumerate() {
                if *port == 0 {
                    wrong.push((format!("to[{i}].ports[{j}]"), "must be between 1 and 65535".into()));
                }
            }
            for (j, method) in request.methods.iter().enumerate() {
                if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
                    wrong.push((format!("to[{i}].methods[{j}]"), "methods are words in capitals, such as GET".into()));
                }
            }
            for (j, path) in request.paths.iter().enumerate() {
                if !path.starts_with('/') {
                    wrong.push((format!("to[{i}].paths[{j}]"), "must begin with `/`".into()));
                } else if path.trim_end_matches('*').contains('*') || path.ends_with("**") {
                    wrong.push((format!("to[{i}].paths[{j}]"), "only one `*`, at the end, is understood".into()));
                }
            }
        }
        wrong
    }

    fn lower(&self, policy: &str) -> AuthorizationRule {
        let Self { action, audit, from, to } = self;
        let peer = |Caller { zone, namespace, account }: &Caller| PeerMatch {
            zone: zone.clone(),
            namespace: namespace.clone(),
            account: account.as_ref().map(Account::to_string),
        };
        let request = |Request { ports, methods, paths }: &Request| RequestMatch {
            ports: ports.clone(),
            methods: methods.clone(),
            paths: paths.clone(),
        };
        AuthorizationRule {
            policy: policy.into(),
            action: match action {
                Action::Allow => AuthorizationAction::Allow,
                Action::Deny => AuthorizationAction::Deny,
            },
            audit: *audit,
            from: from.iter().map(peer).collect(),
            to: to.iter().map(request).collect(),
        }
    }
}
