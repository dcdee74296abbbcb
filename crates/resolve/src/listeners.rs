//! What edge gateways open: `listener/PORT`, from Gateways and the routes that attach to them.
//!
//! Of two Gateways that claim one port and host name the first by namespace and name holds; the other is told.

use crate::class::ClassKey;
use crate::index::OPERATOR_NAMESPACE;
use crate::merge::Origin;
use crate::program::{Call, Resolved, bytes};
use crate::route;
use crate::snapshot::{Snapshot, service_ref};
use api::config::{Backend, Listener, ListenerHost, ListenerRoute, ServiceRef, item};
use api::kinds::{Gateway, GatewayListener, HttpRoute, ListenerTls, ParentRef, Protocol, Role};
use api::object::Key;
use api::target::TargetKind;
use policy::Around;
use std::collections::BTreeMap;

/// Puts `listener/PORT` of every Gateway that proxies of this class serve.
pub(crate) fn listeners(snapshot: &Snapshot, class: &ClassKey, around: &Around, resolved: &mut Resolved) {
    let mut ports: BTreeMap<u16, Listener> = BTreeMap::new();
    for (key, gateway) in snapshot.gateways.iter().filter(|(key, gateway)| serves(class, key, gateway)) {
        resolved.policies.insert(key.clone());
        for listener in &gateway.listeners {
            let GatewayListener { name, port, protocol, hostname, tls, allowed_routes: _ } = listener;
            let open = ports.entry(*port).or_insert(Listener { port: *port, protocol: *protocol, hosts: Vec::new() });
            let holder = open.hosts.iter().find(|host| open.protocol != *protocol || host.hostname == *hostname);
            if let Some(ListenerHost { gateway, listener: theirs, .. }) = holder {
                let ServiceRef { namespace, name: of, .. } = gateway;
                let what = format!(
                    "listener {name}: port {port} and its host name are listener {theirs}'s of Gateway {namespace}/{of}"
                );
                resolved.warnings.insert((key.clone(), what));
                continue;
            }
            let at = item::listener(*port);
            let origin = Origin { policy: key.clone(), covers: Vec::new() };
            resolved.origins.insert(format!("{at}#{}/{name}", key.name), origin);
            let certificate = tls.as_ref().and_then(|ListenerTls { certificate_refs, .. }| certificate_refs.first());
            let namespace = key.namespace.clone().unwrap_or_default();
            let attached = Attached { snapshot, class, around, gateway: key, listener };
            open.hosts.push(ListenerHost {
                gateway: service_ref(key),
                listener: name.clone(),
                hostname: hostname.clone(),
                certificate: certificate.map(|certificate| format!("{namespace}/{}", certificate.name)),
                routes: attached.routes(&at, resolved),
            });
        }
    }
    for (port, listener) in ports {
        resolved.items.insert(item::listener(port), bytes(&listener));
    }
}

/// Whether proxies of a class serve a Gateway.
pub(crate) fn serves(class: &ClassKey, key: &Key, gateway: &Gateway) -> bool {
    class.role == Role::EdgeGateway
        && key.mesh.as_ref() == Some(&class.mesh)
        && gateway.selector.iter().all(|(name, value)| class.labels.get(name) == Some(value))
}

/// Whether a route's parent is this Gateway, if its namespace may attach to any of its listeners.
pub(crate) fn attaches(route: &Key, parent: &ParentRef, gateway: &Key, listener: &GatewayListener) -> bool {
    is_parent(route, parent, gateway)
        && parent.port.is_none_or(|port| port == listener.port)
        && parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
        && (route.namespace == gateway.namespace || listener.takes_all_namespaces())
}

fn is_parent(route: &Key, parent: &ParentRef, gateway: &Key) -> bool {
    let own = parent.namespace.as_ref().or(route.namespace.as_ref());
    parent.kind == TargetKind::Gateway
        && parent.name == gateway.name
        && route.mesh == gateway.mesh
        && own.map(|n| n.as_str()).unwrap_or(OPERATOR_NAMESPACE)
            == gateway.namespace.as_ref().map(|n| n.as_str()).unwrap_or(OPERATOR_NAMESPACE)
}

/// Why a route's reference to a Gateway brings it nothing; `None`: it brings something.
pub(crate) fn refused(snapshot: &Snapshot, key: &Key, hostnames: &[String], parent: &ParentRef) -> Option<String> {
    let namespace = parent.namespace.clone().or_else(|| key.namespace.clone()).unwrap_or_default();
    let named = format!("Gateway {namespace}/{}", parent.name);
    let mut found = snapshot.gateways.iter().filter(|(gateway, _)| is_parent(key, parent, gateway)).peekable();
    if found.peek().is_none() {
        return Some(format!("{named} does not exist, so nothing is routed"));
    }
    let mut why = String::new();
    for (gateway, spec) in found {
        let wanted = |listener: &&GatewayListener| {
            parent.port.is_none_or(|port| port == listener.port)
                && parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
        };
        let listeners: Vec<&GatewayListener> = spec.listeners.iter().filter(wanted).collect();
        let entitled = || listeners.iter().filter(|listener| attaches(key, parent, gateway, listener));
        if listeners.is_empty() {
            why = format!("{named} has no such listener, so nothing is routed");
        } else if entitled().next().is_none() {
            why = format!(
                "{named} takes routes of its own namespace only (listeners[].allowedRoutes), so nothing is routed"
            );
        } else if entitled().all(|listener| overlaps(hostnames, listener.hostname.as_deref()).is_empty()) {
            why = format!("no host name of the route is one of {named}, so nothing is routed");
        } else {
            return None;
        }
    }
    Some(why)
}

/// Host names under which a listener answers a route: the narrower of each pair that has something in common.
fn overlaps(route: &[String], listener: Option<&str>) -> Vec<Option<String>> {
    if route.is_empty() {
        return vec![listener.map(str::to_owned)];
    }
    let narrower = |own: &String| match listener {
        None => Some(own.clone()),
        Some(listener) if listener == own || covers(listener, own) => Some(own.clone()),
        Some(listener) if covers(own, listener) => Some(listener.to_owned()),
        Some(_) => None,
    };
    let mut names: Vec<Option<String>> = route.iter().filter_map(narrower).map(Some).collect();
    names.sort();
    names.dedup();
    names
}

/// Whether everything `name` stands for is covered by the wildcard `by`.
fn covers(by: &str, name: &str) -> bool {
    by.strip_prefix('*').is_some_and(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// One listener, and who looks for what attaches to it.
struct Attached<'a> {
    snapshot: &'a Snapshot,
    class: &'a ClassKey,
    around: &'a Around,
    gateway: &'a Key,
    listener: &'a GatewayListener,
}

impl Attached<'_> {
    fn routes(&self, at: &str, resolved: &mut Resolved) -> Vec<ListenerRoute> {
        let Self { snapshot, gateway, listener, .. } = self;
        let mut by_host: BTreeMap<Option<String>, Vec<(&Key, &HttpRoute)>> = BTreeMap::new();
        for (key, route) in snapshot.http_routes.iter() {
            if route.parent_refs.iter().any(|parent| attaches(key, parent, gateway, listener)) {
                for host in overlaps(&route.hostnames, listener.hostname.as_deref()) {
                    by_host.entry(host).or_default().push((key, route));
                }
            }
        }
        let lowered = by_host.into_iter().map(|(hostname, routes)| {
            let drafts = route::http(routes, 0).into_iter();
            let rules = drafts.map(|mut draft| {
                let from = draft.from.as_ref().map(|(key, _)| key.clone());
                for backend in &mut draft.backends {
                    if let Some(what) = self.give_port(backend) {
                        resolved.warnings.extend(from.clone().map(|key| (key, what)));
                    }
                }
                // Policies about the service a rule leads to hold for it; of several, those about the first.
                let called = draft.backends.first().map_or_else(|| service_ref(gateway), |b| b.service.clone());
                let port = draft.backends.first().map_or(listener.port, |backend| backend.port);
                let Self { snapshot, class, around, .. } = *self;
                let call = Call { snapshot, class, around, service: &called, external: None };
                call.rule(draft, port, None, at, resolved)
            });
            ListenerRoute { hostname, rules: rules.collect() }
        });
        lowered.collect()
    }

    /// A reference without a port means the first one that carries HTTP.
    fn give_port(&self, backend: &mut Backend) -> Option<String> {
        let ServiceRef { mesh, namespace, name } = &backend.service;
        if self.snapshot.externals.contains_key(&backend.service) {
            return Some(format!("backend {namespace}/{name} is an ExternalService, which no Gateway leads to"));
        }
        if backend.port != 0 {
            return None;
        }
        let info = self.snapshot.known().services.get(mesh).and_then(|services| services.get(&backend.service))?;
        let speaks = |protocol: Protocol| protocol.is_http();
        match info.ports.values().find(|port| speaks(port.app_protocol)) {
            Some(port) => {
                backend.port = port.port;
                None
            }
            None => Some(format!("backend {namespace}/{name} has no port that carries HTTP")),
        }
    }
}
