//! Who calls what: the matches that rules about being called share.

use api::config::{PeerMatch, RequestMatch};
use api::{Account, Namespace, ZoneName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// What is wrong with the matches of one rule.
pub(crate) fn check(from: &[Caller], to: &[Request]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (i, caller) in from.iter().enumerate() {
        if *caller == Caller::default() {
            let what = "would match anybody; name a zone, namespace or account, or leave `from` out";
            wrong.push((format!("from[{i}]"), what.into()));
        }
    }
    for (i, request) in to.iter().enumerate() {
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

impl Caller {
    pub(crate) fn lower(&self) -> PeerMatch {
        let Self { zone, namespace, account } = self.clone();
        PeerMatch { zone, namespace, account: account.map(|account| account.to_string()) }
    }
}

impl Request {
    pub(crate) fn lower(&self) -> RequestMatch {
        let Self { ports, methods, paths } = self.clone();
        RequestMatch { ports, methods, paths }
    }
}
