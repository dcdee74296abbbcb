//! GRPCRoute, in the shape of Gateway API v1, with a zone on backends. It is an HTTPRoute that speaks of services and
//! methods, and becomes one.

use super::Spec;
use super::http_route::{
    BackendRef, HeaderMatch, HttpFilter, HttpMatch, HttpRoute, HttpRule, MatchType, ParentRef, PathMatch,
    PathMatchType, RULES_MAX, check_backends, check_mirrors, check_parents,
};
use crate::name::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses backends for gRPC calls.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRoute {
    /// Services (or gateways) whose calls it routes.
    pub parent_refs: Vec<ParentRef>,
    /// Only for gateways: host names it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// In order; the most specific match wins, as for HTTPRoute.
    pub rules: Vec<GrpcRule>,
}

/// Matches, filters and backends.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRule {
    /// For references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Any of these. Empty: every call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// In this order. Header modifiers and mirrors only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Weighted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}

/// All parts must hold.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMatch {
    /// Omitted: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodMatch>,
    /// All of these, among the call's metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A method, or all of a service.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MethodMatch {
    /// How.
    #[serde(default, rename = "type")]
    pub kind: MatchType,
    /// With its package: `shop.Cart`.
    pub service: String,
    /// Omitted: all of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl GrpcRoute {
    /// The same as an HTTPRoute: a call is a POST to `/SERVICE/METHOD`.
    pub fn as_http(&self) -> HttpRoute {
        let Self { parent_refs, hostnames, rules } = self.clone();
        HttpRoute { parent_refs, hostnames, rules: rules.into_iter().map(GrpcRule::into_http).collect() }
    }
}

impl GrpcRule {
    fn into_http(self) -> HttpRule {
        let Self { name, matches, filters, backend_refs } = self;
        let matches = matches.into_iter().map(GrpcMatch::into_http).collect();
        HttpRule { name, matches, filters, backend_refs, timeouts: None }
    }
}

impl GrpcMatch {
    fn into_http(self) -> HttpMatch {
        let Self { method, headers } = self;
        let path = method.map(|MethodMatch { kind: _, service, method }| match method {
            Some(method) => PathMatch { kind: PathMatchType::Exact, value: format!("/{service}/{method}") },
            None => PathMatch { kind: PathMatchType::PathPrefix, value: format!("/{service}/") },
        });
        HttpMatch { path, headers, query_params: Vec::new(), method: None }
    }
}

impl Spec for GrpcRoute {
    const KIND: &'static str = "GRPCRoute";
    const PLURAL: &'static str = "grpcroutes";
    const API_VERSION: &'static str = crate::GATEWAY_API_VERSION;
    const EXAMPLE: &'static str = "\
parentRefs: [{kind: Service, name: cart}]
rules:
  - matches: [{method: {service: shop.Cart, method: Get}}]
    backendRefs: [{name: cart, zone: east}]
  - backendRefs: [{name: cart}]
";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = check_parents(&self.parent_refs);
        if self.rules.is_empty() || self.rules.len() > RULES_MAX {
            wrong.push(("rules".into(), format!("needs between 1 and {RULES_MAX} rules")));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            let at = format!("rules[{i}]");
            wrong.extend(check_backends(&at, &rule.backend_refs));
            wrong.extend(check_mirrors(&at, &rule.filters));
            for (j, filter) in rule.filters.iter().enumerate() {
                if matches!(filter, HttpFilter::RequestRedirect { .. } | HttpFilter::UrlRewrite { .. }) {
                    let what = "gRPC knows neither redirects nor rewrites; use header modifiers and mirrors";
                    wrong.push((format!("{at}.filters[{j}].type"), what.into()));
                }
            }
            for (j, one) in rule.matches.iter().enumerate() {
                let Some(MethodMatch { service, method, .. }) = &one.method else { continue };
                let word = |text: &str| !text.is_empty() && !text.contains('/');
                if !word(service) {
                    let what = "must be a service with its package, such as shop.Cart";
                    wrong.push((format!("{at}.matches[{j}].method.service"), what.into()));
                }
                if method.as_ref().is_some_and(|method| !word(method)) {
                    let what = "must be a method, such as Get";
                    wrong.push((format!("{at}.matches[{j}].method.method"), what.into()));
                }
            }
        }
        wrong
    }
}
