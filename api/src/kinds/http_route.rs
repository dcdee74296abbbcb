//! HTTPRoute, in the shape of Gateway API v1 (<https://gateway-api.sigs.k8s.io/reference/spec/>), with a zone on
//! backends.

use super::Spec;
use super::gateway::check_hostname;
use crate::name::{Name, Namespace, ZoneName};
use crate::object::Owner;
use crate::target::TargetKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules in one route (Gateway API's own limit).
pub const RULES_MAX: usize = 16;
/// Highest weight (Gateway API's own limit).
pub const WEIGHT_MAX: u32 = 1_000_000;

/// Chooses backends for HTTP requests.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// Services (or gateways) whose requests it routes.
    pub parent_refs: Vec<ParentRef>,
    /// Only for gateways: host names it answers, `shop.example.com` or `*.example.com`. Empty: the listener's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// In order; the most specific match wins (Gateway API precedence).
    pub rules: Vec<HttpRule>,
}

/// What a route attaches to.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// API group. Accepted as written and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service` or `Gateway`.
    #[serde(default = "service")]
    pub kind: TargetKind,
    /// Its name.
    pub name: Name,
    /// Omitted: the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Only this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only for a `Gateway`: the listener of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Name>,
}

/// Matches, filters and backends.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRule {
    /// For references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Any of these. Empty: every request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// In this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Weighted. Empty without a redirect: 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// Bounds of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
}

/// All parts must hold.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpMatch {
    /// Omitted: prefix `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<QueryMatch>,
    /// Such as `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// How a path is compared.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// How.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// With what.
    #[serde(default = "slash")]
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum PathMatchType {
    /// Equal.
    Exact,
    /// By whole path elements: `/a` matches `/a/b` and not `/ab`.
    #[default]
    PathPrefix,
}

/// How a header or query parameter is compared.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum MatchType {
    /// Equal.
    #[default]
    Exact,
}

/// A header that must be there.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// How.
    #[serde(default, rename = "type")]
    pub kind: MatchType,
    /// Case does not matter.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A query parameter that must be there.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryMatch {
    /// How.
    #[serde(default, rename = "type")]
    pub kind: MatchType,
    /// Name, exactly.
    pub name: String,
    /// Its first value.
    pub value: String,
}

/// One step on the way to the backend.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum HttpFilter {
    /// Changes request headers.
    RequestHeaderModifier {
        /// How.
        request_header_modifier: HeaderModifier,
    },
    /// Changes response headers.
    ResponseHeaderModifier {
        /// How.
        response_header_modifier: HeaderModifier,
    },
    /// Answers with a redirect.
    RequestRedirect {
        /// Where to.
        request_redirect: Redirect,
    },
    /// Changes host or path.
    #[serde(rename = "URLRewrite")]
    UrlRewrite {
        /// How.
        url_rewrite: Rewrite,
    },
    /// Sends a copy to somebody else as well, whose answer is dropped.
    RequestMirror {
        /// To whom, and how many.
        request_mirror: Mirror,
    },
}

/// Copies of requests. Neither `percent` nor `fraction`: of all.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Who gets them.
    pub backend_ref: MirrorRef,
    /// Of how many requests in a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Of how many requests, finer than in a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

/// A part of requests.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fraction {
    /// So many.
    pub numerator: u32,
    /// Of so many. 100 unless set.
    #[serde(default = "hundred")]
    pub denominator: u32,
}

/// Who gets copies.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MirrorRef {
    /// API group. Accepted as written and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service`.
    #[serde(default = "service")]
    pub kind: TargetKind,
    /// Its name.
    pub name: Name,
    /// Omitted: the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Omitted: the port that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only this zone's endpoints. Weft's addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
}

impl Mirror {
    /// The share as numerator and denominator.
    pub fn share(&self) -> (u32, u32) {
        match (self.percent, self.fraction) {
            (_, Some(Fraction { numerator, denominator })) => (numerator, denominator),
            (Some(percent), None) => (percent, 100),
            (None, None) => (1, 1),
        }
    }

    fn check(&self, at: &str) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.backend_ref.kind != TargetKind::Service {
            wrong.push((format!("{at}.backendRef.kind"), "must be Service".into()));
        }
        if self.percent.is_some_and(|percent| percent > 100) {
            wrong.push((format!("{at}.percent"), "must be between 0 and 100".into()));
        }
        match self.fraction {
            Some(_) if self.percent.is_some() => {
                wrong.push((format!("{at}.fraction"), "stands beside `percent`; use one of them".into()));
            }
            Some(Fraction { numerator, denominator }) if denominator == 0 || numerator > denominator => {
                let what = format!("must be between nothing and all, not {numerator} of {denominator}");
                wrong.push((format!("{at}.fraction"), what));
            }
            _ => {}
        }
        wrong
    }
}

/// Header changes: remove, then set, then add.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderModifier {
    /// Replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Header>,
    /// Appends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Header>,
    /// Removes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Name and value.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Case does not matter.
    pub name: String,
    /// As sent.
    pub value: String,
}

/// Where a redirect leads. What is omitted stays as in the request.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// 301, 302, 303, 307 or 308. 302 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// New host or path of a forwarded request.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewrite {
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// A new path.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum PathModifier {
    /// The whole path.
    ReplaceFullPath {
        /// New path.
        replace_full_path: String,
    },
    /// The prefix that matched.
    ReplacePrefixMatch {
        /// New prefix.
        replace_prefix_match: String,
    },
}

/// Where requests go.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// API group. Accepted as written and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service` or `ExternalService`.
    #[serde(default = "service")]
    pub kind: TargetKind,
    /// Its name.
    pub name: Name,
    /// Omitted: the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Omitted: the port that was called; behind a Gateway, the service's first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only this zone's endpoints. Weft's addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Relative share; 0 gets nothing. 1 unless set.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Bounds of a rule.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTimeouts {
    /// Whole request with all its tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<crate::Span>,
    /// One try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<crate::Span>,
}

fn service() -> TargetKind {
    TargetKind::Service
}

fn slash() -> String {
    "/".into()
}

fn one() -> u32 {
    1
}

fn hundred() -> u32 {
    100
}

/// What `check` says about backends; TCPRoute shares it.
pub(super) fn check_backends(at: &str, backends: &[BackendRef]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (i, backend) in backends.iter().enumerate() {
        if !matches!(backend.kind, TargetKind::Service | TargetKind::ExternalService) {
            wrong.push((format!("{at}.backendRefs[{i}].kind"), "must be Service or ExternalService".into()));
        }
        if backend.weight > WEIGHT_MAX {
            wrong.push((format!("{at}.backendRefs[{i}].weight"), format!("must be at most {WEIGHT_MAX}")));
        }
    }
    wrong
}

/// What `check` says about mirrors; GRPCRoute shares it.
pub(super) fn check_mirrors(at: &str, filters: &[HttpFilter]) -> Vec<(String, String)> {
    let mirrors = filters.iter().enumerate().filter_map(|(i, filter)| match filter {
        HttpFilter::RequestMirror { request_mirror } => Some((i, request_mirror)),
        _ => None,
    });
    mirrors.flat_map(|(i, mirror)| mirror.check(&format!("{at}.filters[{i}].requestMirror"))).collect()
}

/// What `check` says about parents; TCPRoute shares it.
pub(super) fn check_parents(parents: &[ParentRef]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    if parents.is_empty() {
        wrong.push(("parentRefs".into(), "needs at least one Service or Gateway".into()));
    }
    for (i, parent) in parents.iter().enumerate() {
        if !matches!(parent.kind, TargetKind::Service | TargetKind::Gateway) {
            wrong.push((format!("parentRefs[{i}].kind"), "must be Service or Gateway".into()));
        }
        if parent.kind == TargetKind::Service && parent.section_name.is_some() {
            let what = "only a Gateway has listeners; for one port of a Service say `port`";
            wrong.push((format!("parentRefs[{i}].sectionName"), what.into()));
        }
    }
    wrong
}

impl Spec for HttpRoute {
    const KIND: &'static str = "HTTPRoute";
    const PLURAL: &'static str = "httproutes";
    const API_VERSION: &'static str = crate::GATEWAY_API_VERSION;
    const OWNER: Owner = Owner::Either;
    const EXAMPLE: &'static str = "\
parentRefs: [{kind: Service, name: cart}]
rules:
  - backendRefs:
      - {name: cart, zone: west, weight: 90}
      - {name: cart, zone: east, weight: 10}
";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = check_parents(&self.parent_refs);
        let hostname = |(i, name): (usize, &String)| check_hostname(&format!("hostnames[{i}]"), name);
        wrong.extend(self.hostnames.iter().enumerate().filter_map(hostname));
        if self.rules.is_empty() || self.rules.len() > RULES_MAX {
            wrong.push(("rules".into(), format!("needs between 1 and {RULES_MAX} rules")));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            wrong.extend(check_backends(&format!("rules[{i}]"), &rule.backend_refs));
            wrong.extend(check_mirrors(&format!("rules[{i}]"), &rule.filters));
            for (j, m) in rule.matches.iter().enumerate() {
                if m.path.as_ref().is_some_and(|path| !path.value.starts_with('/')) {
                    wrong.push((format!("rules[{i}].matches[{j}].path.value"), "must begin with `/`".into()));
                }
            }
        }
        wrong
    }
}
