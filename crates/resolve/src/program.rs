//! What the proxies of one class run: `inbound`, `outbound/..` and `zone/..`, with the origin of every value.

use crate::class::ClassKey;
use crate::egress;
use crate::index::{Layer, What};
use crate::listeners::listeners;
use crate::merge::{Merged, Origin};
use crate::route::{self, Draft};
use crate::snapshot::Snapshot;
use api::config::{
    Authorization, AuthorizationAction, External, Inbound, InboundPort, Outbound, OutboundPort, OutboundRule,
    RateLimitRule, ServiceRef, ZoneInfo, item,
};
use api::kinds::{DefaultAuthorization, ExternalService, MutualTls, ServicePort};
use api::name::{SpiffeId, ZoneName};
use api::object::Key;
use bytes::Bytes;
use policy::circuit_breaker::CircuitBreaker;
use policy::{Around, Grain, InboundRule, KINDS, Lower, Outbound as _, Settings, ZoneAround};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a class runs, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// Configuration items by key, as JSON. Endpoints and trust are in [`shared`](crate::shared).
    pub items: BTreeMap<String, Bytes>,
    /// Where values came from, by `ITEM#PORT/RULE/Kind.field` (`ITEM#Kind.field` for what holds for a whole service).
    pub origins: BTreeMap<String, Origin>,
    /// Documents that took part, those that are covered too.
    pub policies: BTreeSet<Key>,
    /// Documents that do not do all they say: references to nothing, rules a zone may not give.
    pub warnings: BTreeSet<(Key, String)>,
}

/// What proxies of a class run.
pub fn resolve(snapshot: &Snapshot, class: &ClassKey) -> Resolved {
    let mut resolved = Resolved::default();
    let around = around(snapshot, class);
    inbound(snapshot, class, &around, &mut resolved);
    if !snapshot.is_member(&class.mesh, &class.zone) {
        return resolved;
    }
    for (service, info) in snapshot.services_of(&class.mesh) {
        let hosts = vec![service.host(None)];
        outbound(Call { snapshot, class, around: &around, service, external: None }, hosts, &info.ports, &mut resolved);
    }
    for (service, (key, external)) in snapshot.externals.iter().filter(|(service, _)| service.mesh == class.mesh) {
        if resolved.items.contains_key(&item::outbound(service)) {
            let what = "a Service of the same namespace and name exists, and holds".to_owned();
            resolved.warnings.insert((key.clone(), what));
            continue;
        }
        resolved.policies.insert(key.clone());
        let ports = external.ports.iter().map(|port| (port.port, port.clone())).collect();
        let direct = egress::is_direct(class, external).then_some(external);
        let call = Call { snapshot, class, around: &around, service, external: direct };
        outbound(call, external.hosts.clone(), &ports, &mut resolved);
    }
    listeners(snapshot, class, &around, &mut resolved);
    for ZoneAround { zone, region, .. } in around.zones {
        let state = snapshot.zones.get(&zone).map(|zone| zone.state).unwrap_or_default();
        resolved.items.insert(item::zone(&zone), bytes(&ZoneInfo { zone, region, state }));
    }
    resolved
}

/// Deterministic: structs in the order of their fields, maps sorted.
pub(crate) fn bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("configuration has only text keys and finite numbers").into()
}

fn around(snapshot: &Snapshot, class: &ClassKey) -> Around {
    let about = |zone: &ZoneName| ZoneAround {
        zone: zone.clone(),
        region: snapshot.zones.get(zone).and_then(|zone| zone.region.clone()),
        distance: snapshot.peers.get(zone).and_then(|peer| peer.distance),
    };
    let members = snapshot.members(&class.mesh);
    Around { zone: class.zone.clone(), zones: members.into_iter().map(about).collect() }
}

fn inbound(snapshot: &Snapshot, class: &ClassKey, around: &Around, resolved: &mut Resolved) {
    let ClassKey { mesh, zone, namespace, account, service, ports, .. } = class; // The rest chose the policies.
    let (mutual_tls, authorization, rate_limits) = rules(snapshot, class, item::INBOUND, resolved);
    let described = snapshot.meshes.contains_key(mesh) && snapshot.is_member(mesh, zone);
    let served = if described { served(snapshot, class) } else { Merged::default() };
    let Settings { health, timeouts: _, retry: _, balancing: _, breaker: _, faults: _ } =
        lower(Grain::Callee, &served, around);
    resolved.took_part(item::INBOUND, &served);
    let port = |port: &crate::ClassPort| InboundPort { port: port.port, target: port.target, protocol: port.protocol };
    let inbound = Inbound {
        mesh: mesh.clone(),
        zone: zone.clone(),
        identity: SpiffeId::workload(zone, mesh, namespace, account),
        service: service.clone(),
        ports: ports.iter().map(port).collect(),
        mutual_tls,
        authorization,
        rate_limits,
        health,
    };
    resolved.items.insert(item::INBOUND.into(), bytes(&inbound));
}

/// What holds for calls of workloads of a class; `at` is the item it goes into.
pub(crate) fn rules(
    snapshot: &Snapshot,
    class: &ClassKey,
    at: &str,
    resolved: &mut Resolved,
) -> (MutualTls, Authorization, Vec<RateLimitRule>) {
    let ClassKey { mesh, zone, namespace, .. } = class;
    // No document, no weaker: a mesh that nobody described, or that leaves this zone out, is strict and refuses.
    let described = snapshot.meshes.get(mesh).filter(|_| snapshot.is_member(mesh, zone));
    let (mutual_tls, default) = described
        .map_or((MutualTls::Strict, DefaultAuthorization::Deny), |mesh| (mesh.mutual_tls, mesh.default_authorization));
    let (mut rules, mut rate_limits) = (Vec::new(), Vec::new());
    for set in snapshot.policies.rules(mesh, namespace).filter(|set| class.is(&set.who)) {
        resolved.policies.insert(set.key.clone());
        for rule in &set.rules {
            let policy = match rule {
                // A zone can only narrow what global allows, so an Allow written there does nothing but record.
                InboundRule::Authorization(rule)
                    if set.key.zone.is_some() && rule.action == AuthorizationAction::Allow && !rule.audit =>
                {
                    let what = "an Allow written in a zone does nothing: zones can only narrow; write it at global";
                    resolved.warnings.insert((set.key.clone(), what.to_owned()));
                    continue;
                }
                InboundRule::Authorization(rule) => {
                    rules.push(rule.clone());
                    &rule.policy
                }
                InboundRule::RateLimit(rule) => {
                    rate_limits.push(rule.clone());
                    &rule.policy
                }
            };
            let origin = Origin { policy: set.key.clone(), covers: Vec::new() };
            resolved.origins.insert(format!("{at}#{}/{policy}", set.key.kind), origin);
        }
    }
    rules.sort_by(|a, b| {
        let order = |rule: &api::config::AuthorizationRule| rule.action == AuthorizationAction::Allow;
        (order(a), &a.policy).cmp(&(order(b), &b.policy))
    });
    // Stable: the rules of one document stay in its order.
    rate_limits.sort_by(|a: &RateLimitRule, b| a.policy.cmp(&b.policy));
    (mutual_tls, Authorization { default, rules }, rate_limits)
}

/// One called service, for one class of callers.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub snapshot: &'a Snapshot,
    pub class: &'a ClassKey,
    pub around: &'a Around,
    pub service: &'a ServiceRef,
    pub external: Option<&'a ExternalService>,
}

fn outbound(call: Call<'_>, hosts: Vec<String>, ports: &BTreeMap<u16, ServicePort>, resolved: &mut Resolved) {
    let Call { service, external, .. } = call;
    let item = item::outbound(service);
    let whole = call.merge(Grain::Service, call.about(None, None), None);
    let Settings { balancing, mut breaker, timeouts: _, retry: _, health: _, faults: _ } =
        lower(Grain::Service, &whole, call.around);
    breaker.policies = whole.policies(CircuitBreaker::KIND);
    resolved.took_part(&item, &whole);
    let mut lowered = Vec::new();
    for ServicePort { port, name, app_protocol } in ports.values() {
        let drafts = route::rules(call.snapshot, call.class, service, *port, *app_protocol);
        let rules = drafts.into_iter().map(|draft| call.rule(draft, *port, name.as_deref(), &item, resolved)).collect();
        lowered.push(OutboundPort { port: *port, protocol: *app_protocol, rules });
    }
    let external = external.map(|external| External {
        endpoints: external.endpoints.iter().map(|endpoint| (endpoint.address.clone(), endpoint.port)).collect(),
        tls: external.tls.as_ref().map(|tls| (tls.server_name.clone(), tls.roots.clone())),
        authorization: egress::authorization(call.snapshot, call.class, service, external, resolved),
    });
    let outbound = Outbound { service: service.clone(), hosts, ports: lowered, balancing, breaker, external };
    resolved.items.insert(item, bytes(&outbound));
}

impl<'a> Call<'a> {
    /// One rule with the values that policies give it; `item` is where it goes.
    pub(crate) fn rule(
        &self,
        draft: Draft,
        port: u16,
        port_name: Option<&str>,
        item: &str,
        resolved: &mut Resolved,
    ) -> OutboundRule {
        let merged = self.merge(Grain::Rule, self.about(Some((port, port_name)), Some(&draft)), Some(&draft));
        let Settings { timeouts, retry, faults, balancing: _, breaker: _, health: _ } =
            lower(Grain::Rule, &merged, self.around);
        resolved.took_part(&format!("{item}#{port}/{}", draft.name), &merged);
        self.warn_of_dangling(&draft, resolved);
        let Draft { name, matches, filters, mirrors, backends, timeouts: _, from } = draft;
        if let Some((route, _)) = from {
            resolved.policies.insert(route.clone());
            let origin = Origin { policy: route, covers: Vec::new() };
            resolved.origins.insert(format!("{item}#{port}/{name}"), origin);
        }
        OutboundRule { name, matches, filters, backends, timeouts, retry, faults, mirrors }
    }

    /// Everything a policy may name to be about this traffic.
    fn about(&self, port: Option<(u16, Option<&str>)>, draft: Option<&Draft>) -> Vec<What> {
        let ServiceRef { namespace, name, .. } = self.service;
        let mut about =
            vec![What::Mesh, What::Namespace(namespace.clone()), What::Service(namespace.clone(), name.clone())];
        if let Some((number, port)) = port {
            let names = std::iter::once(number.to_string()).chain(port.map(str::to_owned));
            about.extend(names.map(|port| What::Port(namespace.clone(), name.clone(), port)));
        }
        if let Some((route, rule)) = draft.and_then(|draft| draft.from.as_ref()) {
            let kind = match route.kind.as_str() {
                "TCPRoute" => "TCPRoute",
                "GRPCRoute" => "GRPCRoute",
                _ => "HTTPRoute",
            };
            let namespace = route.namespace.clone().unwrap_or_default();
            about.push(What::Route(kind, namespace.clone(), route.name.clone()));
            let rule =
                rule.iter().map(|rule| What::Rule(kind, namespace.clone(), route.name.clone(), rule.to_string()));
            about.extend(rule);
        }
        about
    }

    /// All documents about this traffic, laid over each other. A route's own timeouts lie below policies that are
    /// about the route, and above those about the service.
    fn merge(&self, wanted: Grain, about: Vec<What>, draft: Option<&Draft>) -> Merged {
        let ClassKey { mesh, namespace, .. } = self.class;
        let layers = self.snapshot.policies.layers(mesh, namespace, about);
        let matching = layers.into_iter().filter(|layer| grain(layer) == Some(wanted) && self.class.is(&layer.who));
        let (of_route, of_service): (Vec<&Layer>, Vec<&Layer>) =
            matching.partition(|layer| matches!(layer.what, What::Route(..) | What::Rule(..)));
        let mut merged = Merged::default();
        let lay = |layers: Vec<&Layer>, merged: &mut Merged| {
            layers.into_iter().for_each(|layer| merged.lay(&layer.key, layer.kind.name, &layer.values));
        };
        lay(of_service, &mut merged);
        if let Some(Draft { timeouts, from: Some((route, _)), .. }) = draft {
            let limits = [("request", timeouts.request), ("perTry", timeouts.backend_request)];
            let limits =
                limits.into_iter().filter_map(|(field, span)| Some((field.to_owned(), span?.to_string().into())));
            let limits: Map<String, Value> = limits.collect();
            if !limits.is_empty() {
                merged.lay(route, "Timeout", &limits);
            }
        }
        lay(of_route, &mut merged);
        merged
    }

    fn warn_of_dangling(&self, draft: &Draft, resolved: &mut Resolved) {
        let Some((route, _)) = &draft.from else { return };
        let backends = draft.backends.iter().map(|backend| &backend.service);
        for service in backends.chain(draft.mirrors.iter().map(|mirror| &mirror.service)) {
            if !crate::reach::service_exists(self.snapshot, service) {
                let ServiceRef { namespace, name, .. } = service;
                let what = format!("backend {namespace}/{name} is no known service; its share fails until it exists");
                resolved.warnings.insert((route.clone(), what));
            }
        }
    }
}

/// What the kinds of one grain make of merged values.
fn lower(wanted: Grain, merged: &Merged, around: &Around) -> Settings {
    let mut settings = Settings::default();
    for kind in KINDS {
        if let Lower::Outbound { grain, lower } = kind.lower
            && grain == wanted
        {
            lower(&merged.of(kind.name), &mut settings, around)
                .expect("each document was checked when it was taken in, and merging keeps types");
        }
    }
    settings
}

/// All documents about what the class's own workloads serve, laid over each other.
fn served(snapshot: &Snapshot, class: &ClassKey) -> Merged {
    let mut merged = Merged::default();
    let layers = snapshot.policies.layers(&class.mesh, &class.namespace, class.serves());
    for layer in layers.into_iter().filter(|layer| grain(layer) == Some(Grain::Callee) && class.is(&layer.who)) {
        merged.lay(&layer.key, layer.kind.name, &layer.values);
    }
    merged
}

pub(crate) fn grain(layer: &Layer) -> Option<Grain> {
    match layer.kind.lower {
        Lower::Outbound { grain, .. } => Some(grain),
        Lower::Inbound { .. } | Lower::Resource => None,
    }
}

impl Resolved {
    fn took_part(&mut self, at: &str, merged: &Merged) {
        let separator = if at.contains('#') { '/' } else { '#' };
        let origins = merged.origins.iter().map(|(field, origin)| (format!("{at}{separator}{field}"), origin.clone()));
        self.origins.extend(origins);
        self.policies.extend(merged.documents.iter().cloned());
    }
}
