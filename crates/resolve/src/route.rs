//! Routes attached to a service, as rules in the order in which a proxy tries them.

use crate::class::ClassKey;
use crate::index::{OPERATOR_NAMESPACE, What, Writer, writer};
use crate::snapshot::Snapshot;
use api::config::{Backend, Mirror, ServiceRef};
use api::kinds::{
    BackendRef, HttpFilter, HttpMatch, HttpRoute, MirrorRef, ParentRef, PathMatchType, Protocol, RouteTimeouts,
};
use api::name::Name;
use api::object::Key;
use std::cmp::Reverse;

/// A rule before policies are applied to it.
#[derive(Debug)]
pub(crate) struct Draft {
    /// `NAMESPACE/ROUTE#INDEX`, or `default`.
    pub name: String,
    pub matches: Vec<HttpMatch>,
    pub filters: Vec<HttpFilter>,
    pub mirrors: Vec<Mirror>,
    pub backends: Vec<Backend>,
    /// Of the rule itself.
    pub timeouts: RouteTimeouts,
    /// The route it comes from, and the rule's own name.
    pub from: Option<(Key, Option<Name>)>,
}

/// Rules for calls of one port by proxies of this class, most specific match first. Without a route: one that sends
/// everything to the service itself. Requests that no rule of a route matches have no rule here either.
pub(crate) fn rules(
    snapshot: &Snapshot,
    class: &ClassKey,
    service: &ServiceRef,
    port: u16,
    speaks: Protocol,
) -> Vec<Draft> {
    let known = snapshot.known();
    let itself = || Backend { service: service.clone(), port, zone: None, weight: 1 };
    let drafts = if speaks.is_http() {
        let attached = known.http_routes.get(service).into_iter().flatten();
        let routes = attached.filter_map(|key| Some((key, snapshot.http_routes.get(key)?)));
        let routes = routes.filter(|(key, route)| parent_is(service, port, key, &route.parent_refs));
        http(most_entitled(class, service, routes), port)
    } else {
        let attached = known.tcp_routes.get(service).into_iter().flatten();
        let routes = attached.filter_map(|key| Some((key, snapshot.tcp_routes.get(key)?)));
        let routes = routes.filter(|(key, route)| parent_is(service, port, key, &route.parent_refs));
        // Connections cannot be told apart, so one route holds: the first by name.
        let first = most_entitled(class, service, routes).into_iter().next();
        let rule = first.and_then(|(key, route)| Some((key, route.rules.first()?)));
        rule.into_iter()
            .map(|(key, rule)| Draft {
                name: rule_name(key, 0),
                matches: Vec::new(),
                filters: Vec::new(),
                mirrors: Vec::new(),
                backends: rule.backend_refs.iter().map(|backend| lower(backend, key, port)).collect(),
                timeouts: RouteTimeouts::default(),
                from: Some((key.clone(), rule.name.clone())),
            })
            .collect()
    };
    if !drafts.is_empty() {
        return drafts;
    }
    vec![Draft {
        name: "default".into(),
        matches: Vec::new(),
        filters: Vec::new(),
        mirrors: Vec::new(),
        backends: vec![itself()],
        timeouts: RouteTimeouts::default(),
        from: None,
    }]
}

/// Who wrote a route, seen from the service it attaches to.
pub(crate) fn route_writer(route: &Key, service: &ServiceRef) -> Writer {
    writer(route, &What::Service(service.namespace.clone(), service.name.clone()))
}

/// Routes of the caller's own namespace replace those of the service's, and those the operators'.
fn most_entitled<'a, R>(
    class: &ClassKey,
    service: &ServiceRef,
    routes: impl Iterator<Item = (&'a Key, &'a R)>,
) -> Vec<(&'a Key, &'a R)> {
    let mut entitled: Vec<(Writer, &Key, &R)> = routes
        .map(|(key, route)| (route_writer(key, service), key, route))
        .filter(|(writer, key, _)| *writer != Writer::Consumer || key.namespace.as_ref() == Some(&class.namespace))
        .collect();
    let most = entitled.iter().map(|(writer, ..)| *writer).max();
    entitled.retain(|(writer, ..)| Some(*writer) == most);
    // Gateway API breaks ties by age and then by name; documents here have no age that all zones agree on.
    entitled.sort_by_key(|(_, key, _)| (&key.namespace, &key.name, &key.zone));
    entitled.into_iter().map(|(_, key, route)| (key, route)).collect()
}

fn parent_is(service: &ServiceRef, port: u16, route: &Key, parents: &[ParentRef]) -> bool {
    parents.iter().any(|parent| {
        let namespace = parent.namespace.as_ref().or(route.namespace.as_ref());
        let same = parent.name == service.name
            && namespace.map_or(service.namespace.as_str() == OPERATOR_NAMESPACE, |own| *own == service.namespace);
        same && parent.port.is_none_or(|only| only == port)
    })
}

/// One draft for each match, sorted by Gateway API's precedence (HTTPRouteRule, `matches`): exact path, longest
/// prefix, method, most headers, most query parameters; then by route and place in it.
pub(crate) fn http(routes: Vec<(&Key, &HttpRoute)>, port: u16) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (key, route) in routes {
        for (index, rule) in route.rules.iter().enumerate() {
            let matches: Vec<Option<&HttpMatch>> = match &rule.matches[..] {
                [] => vec![None],
                matches => matches.iter().map(Some).collect(),
            };
            for one in matches {
                drafts.push(Draft {
                    name: rule_name(key, index),
                    matches: one.into_iter().cloned().collect(),
                    filters: rule.filters.iter().filter(|filter| !is_mirror(filter)).cloned().collect(),
                    mirrors: rule.filters.iter().filter_map(|filter| mirror(filter, key, port)).collect(),
                    backends: rule.backend_refs.iter().map(|backend| lower(backend, key, port)).collect(),
                    timeouts: rule.timeouts.unwrap_or_default(),
                    from: Some((key.clone(), rule.name.clone())),
                });
            }
        }
    }
    // Stable: what compares equal stays in the order of routes and rules.
    drafts.sort_by_key(|draft| Reverse(precedence(draft.matches.first())));
    drafts
}

fn precedence(one: Option<&HttpMatch>) -> (bool, usize, bool, usize, usize) {
    let Some(HttpMatch { path, headers, query_params, method }) = one else { return (false, 1, false, 0, 0) };
    let exact = path.as_ref().is_some_and(|path| path.kind == PathMatchType::Exact);
    let length = path.as_ref().map_or(1, |path| path.value.len());
    (exact, length, method.is_some(), headers.len(), query_params.len())
}

fn rule_name(route: &Key, index: usize) -> String {
    let namespace = route.namespace.clone().unwrap_or_default();
    format!("{namespace}/{}#{index}", route.name)
}

fn lower(backend: &BackendRef, route: &Key, called: u16) -> Backend {
    let BackendRef { group: _, kind: _, name, namespace, port, zone, weight } = backend;
    let namespace = namespace.clone().or_else(|| route.namespace.clone()).unwrap_or_default();
    let mesh = route.mesh.clone().unwrap_or_default();
    Backend {
        service: ServiceRef { mesh, namespace, name: name.clone() },
        port: port.unwrap_or(called),
        zone: zone.clone(),
        weight: *weight,
    }
}

/// Mirrors are no step on the way of the request itself, and an older proxy would not know them as one.
fn is_mirror(filter: &HttpFilter) -> bool {
    matches!(filter, HttpFilter::RequestMirror { .. })
}

fn mirror(filter: &HttpFilter, route: &Key, called: u16) -> Option<Mirror> {
    let HttpFilter::RequestMirror { request_mirror } = filter else { return None };
    let MirrorRef { group: _, kind: _, name, namespace, port, zone } = &request_mirror.backend_ref;
    let namespace = namespace.clone().or_else(|| route.namespace.clone()).unwrap_or_default();
    let service = ServiceRef { mesh: route.mesh.clone().unwrap_or_default(), namespace, name: name.clone() };
    let (numerator, denominator) = request_mirror.share();
    Some(Mirror { service, port: port.unwrap_or(called), zone: zone.clone(), numerator, denominator })
}
