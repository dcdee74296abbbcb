//! From configuration items to tables a request walks: by host, by service, by port, by rule.
//!
//! Compiling is incremental: an item whose bytes did not change keeps its compiled value, and what a service is
//! balanced over keeps its `Arc`, so that balancers of untouched services notice nothing.

use crate::edge::ingress::table::Listener;
use crate::filter::fault::Fault;
use crate::filter::rate_limit::RateLimits;
use crate::hash::Quick;
use crate::http::filter::Filters;
use crate::http::matching::Match;
use crate::outbound::hashing::Hashing;
use crate::outbound::origination::Origination;
use api::config::{
    Backend, Balancing, Breaker, DNS_SUFFIX, Endpoints, EndpointsPlace, External, GatewayConfig, Inbound, Mirror,
    Outbound, OutboundPort, OutboundRule, Retry, ServiceRef, Timeouts, Trust, ZoneInfo, item,
};
use api::kinds::{Protocol, ZoneState};
use api::{TrustDomain, ZoneName};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Items as they are followed.
pub type Items = BTreeMap<Arc<str>, Bytes>;

/// What runs. Requests in flight keep theirs.
#[derive(Debug, Default)]
pub struct Running {
    /// What we accept; `None` before the first configuration, and on gateways.
    pub inbound: Option<Arc<Inbound>>,
    /// How often others may call; keeps its counts when anything else changes.
    pub rate_limits: RateLimits,
    /// Only on gateways.
    pub gateway: Option<Arc<GatewayConfig>>,
    /// Ports open to the outside, by number; only on edge gateways.
    pub listeners: BTreeMap<u16, Arc<Listener>>,
    /// What may be called.
    pub services: BTreeMap<ServiceRef, Arc<Service>>,
    /// What each service is balanced over.
    pub places: BTreeMap<ServiceRef, Arc<Places>>,
    /// Where to look for keys of requests; only services with a hash algorithm.
    pub hashing: Quick<ServiceRef, Hashing>,
    /// Host names without zone, in lower case.
    pub hosts: Quick<String, Arc<Service>>,
    /// Zones known.
    pub zones: Arc<BTreeMap<ZoneName, ZoneInfo>>,
    /// Anchors by domain.
    pub trust: BTreeMap<TrustDomain, Arc<Trust>>,
}

/// One service that may be called.
#[derive(Debug)]
pub struct Service {
    /// As configured.
    pub config: Outbound,
    /// By number.
    pub ports: BTreeMap<u16, Port>,
    /// TLS towards a service outside the mesh, or why there can be none.
    pub origination: Option<Result<Origination, String>>,
}

/// One port of a service.
#[derive(Debug)]
pub struct Port {
    /// Number.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// In order; the last one matches everything.
    pub rules: Vec<Arc<Rule>>,
}

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// `NAMESPACE/ROUTE#INDEX`, or `default`.
    pub name: String,
    /// Any of these; empty: all.
    pub matches: Vec<Match>,
    /// Compiled.
    pub filters: Filters,
    /// Weighted.
    pub backends: Vec<Backend>,
    /// Limits.
    pub timeouts: Timeouts,
    /// Other tries.
    pub retry: Retry,
    /// What requests suffer on purpose.
    pub fault: Option<Fault>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
}

/// What one service is balanced over.
#[derive(Debug)]
pub struct Places {
    /// How.
    pub balancing: Balancing,
    /// How much of it may be in use.
    pub breaker: Breaker,
    /// Endpoints, by zone.
    pub sets: Vec<Arc<Endpoints>>,
    /// Zones with their states.
    pub zones: Arc<BTreeMap<ZoneName, ZoneInfo>>,
    /// Outside the mesh instead.
    pub external: Option<External>,
}

impl Running {
    /// Whether its zone has told a proxy what it is.
    pub fn is_configured(&self) -> bool {
        self.inbound.is_some() || self.gateway.is_some()
    }

    /// Whether a worker has something to do about it by itself: services, ports or what they are balanced over differ.
    /// All else is seen by the next request.
    pub fn moves(&self, before: &Self) -> bool {
        !alike(&self.places, &before.places, Arc::ptr_eq)
            || !alike(&self.services, &before.services, |now, before| now.ports.keys().eq(before.ports.keys()))
    }

    /// Service and zone that `host` names, without a port.
    pub fn by_host(&self, host: &str) -> Option<(&Arc<Service>, Option<ZoneName>)> {
        // In its one form already, nearly always.
        if let Some(service) = self.hosts.get(host) {
            return Some((service, None));
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(service) = self.hosts.get(&host) {
            return Some((service, None));
        }
        let parts: Vec<&str> = host.split('.').collect();
        let [name, namespace, zone, DNS_SUFFIX] = parts[..] else { return None };
        let service = self.hosts.get(&format!("{name}.{namespace}.{DNS_SUFFIX}"))?;
        let zone: ZoneName = zone.parse().ok()?;
        let known = self.zones.contains_key(&zone)
            || self.places.get(&service.config.service).is_some_and(|p| p.sets.iter().any(|set| set.zone == zone));
        known.then_some((service, Some(zone)))
    }
}

impl Service {
    /// The port asked for; the first one where none was, or where a proxy address put another.
    pub fn port(&self, asked: Option<u16>) -> Option<&Port> {
        match asked {
            Some(port) => self.ports.get(&port),
            None => self.config.ports.first().and_then(|first| self.ports.get(&first.port)),
        }
    }
}

impl Port {
    /// The first rule that matches, and by which match.
    pub fn rule(&self, request: &Parts) -> Option<(&Arc<Rule>, Option<&Match>)> {
        self.rules.iter().find_map(|rule| match rule.matches.is_empty() {
            true => Some((rule, None)),
            false => rule.matches.iter().find(|m| m.matches(request)).map(|m| (rule, Some(m))),
        })
    }
}

impl Places {
    /// Endpoints that could answer, in one zone or anywhere.
    pub fn ready(&self, only: Option<&ZoneName>) -> u32 {
        if let Some(external) = &self.external {
            return external.endpoints.len() as u32;
        }
        let usable = |zone: &ZoneName| self.zones.get(zone).is_none_or(|info| info.state != ZoneState::Disabled);
        let sets = self.sets.iter().filter(|set| only.is_none_or(|only| *only == set.zone));
        sets.map(|set| match &set.place {
            EndpointsPlace::Local(endpoints) => endpoints.iter().filter(|endpoint| endpoint.ready).count() as u32,
            EndpointsPlace::Remote(remote) if usable(&set.zone) && !remote.gateways.is_empty() => remote.ready,
            EndpointsPlace::Remote(_) => 0,
        })
        .sum()
    }
}

/// Whether the same services are in both, each with something that is the same.
fn alike<T>(now: &BTreeMap<ServiceRef, T>, before: &BTreeMap<ServiceRef, T>, same: impl Fn(&T, &T) -> bool) -> bool {
    let same = |(now, before): ((&ServiceRef, &T), (&ServiceRef, &T))| now.0 == before.0 && same(now.1, before.1);
    now.len() == before.len() && now.iter().zip(before).all(same)
}

/// Chooses a backend by weight. One without a ready endpoint gives its share to the others; when none has any, all
/// keep theirs. `random` is within `0.0..1.0`.
pub fn split(backends: &[Backend], ready: impl Fn(&Backend) -> bool, random: f64) -> Option<&Backend> {
    if let [only] = backends {
        return (only.weight > 0).then_some(only);
    }
    let choose = |keep: &dyn Fn(&Backend) -> bool| {
        let total: u64 = backends.iter().filter(|b| keep(b)).map(|b| u64::from(b.weight)).sum();
        let mut at = (random.clamp(0.0, 1.0) * total as f64) as u64;
        backends.iter().filter(|b| b.weight > 0 && keep(b)).find(|b| {
            let here = at < u64::from(b.weight);
            at = at.saturating_sub(u64::from(b.weight));
            here
        })
    };
    choose(&ready).or_else(|| choose(&|_| true))
}

/// One item, compiled.
#[derive(Clone, Debug)]
enum Compiled {
    Inbound(Arc<Inbound>),
    Gateway(Arc<GatewayConfig>),
    Listener(Arc<Listener>),
    Outbound(Arc<Service>),
    Endpoints(Arc<Endpoints>),
    Zone(ZoneInfo),
    Trust(Arc<Trust>),
    /// Of a newer control plane; nothing here needs it.
    Unknown,
}

/// Whether an item can be run; the text says why not.
pub fn check(key: &str, payload: &[u8]) -> Result<(), String> {
    compile_item(key, payload).map(drop)
}

fn compile_item(key: &str, payload: &[u8]) -> Result<Compiled, String> {
    fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
        serde_json::from_slice(payload).map_err(|error| format!("cannot be read: {error}"))
    }
    Ok(match key {
        item::INBOUND => Compiled::Inbound(Arc::new(read(payload)?)),
        item::GATEWAY => Compiled::Gateway(Arc::new(read(payload)?)),
        _ if key.starts_with(item::LISTENER) => Compiled::Listener(Arc::new(Listener::compile(read(payload)?)?)),
        _ if key.starts_with(item::OUTBOUND) => Compiled::Outbound(Arc::new(service(read(payload)?)?)),
        _ if key.starts_with(item::ENDPOINTS) => Compiled::Endpoints(Arc::new(read(payload)?)),
        _ if key.starts_with(item::ZONE) => Compiled::Zone(read(payload)?),
        _ if key.starts_with(item::TRUST) => Compiled::Trust(Arc::new(read(payload)?)),
        _ => Compiled::Unknown,
    })
}

/// A service, or rules in the shape of one.
pub(crate) fn service(config: Outbound) -> Result<Service, String> {
    let mut ports = BTreeMap::new();
    for OutboundPort { port, protocol, rules } in &config.ports {
        let rules = rules.iter().map(rule).collect::<Result<Vec<_>, String>>()?;
        if rules.is_empty() {
            return Err(format!("port {port} has no rule"));
        }
        ports.insert(*port, Port { port: *port, protocol: *protocol, rules });
    }
    let origination = config.external.as_ref().and_then(Origination::of);
    Ok(Service { config, ports, origination })
}

fn rule(given: &OutboundRule) -> Result<Arc<Rule>, String> {
    let OutboundRule { name, matches, filters, backends, timeouts, retry, faults, mirrors } = given;
    let at = |error: String| format!("rule {name}: {error}");
    Ok(Arc::new(Rule {
        name: name.clone(),
        matches: matches.iter().map(Match::compile).collect::<Result<_, _>>().map_err(at)?,
        filters: Filters::compile(filters).map_err(at)?,
        backends: backends.clone(),
        timeouts: *timeouts,
        retry: retry.clone(),
        fault: Fault::compile(faults).map_err(at)?,
        mirrors: mirrors.clone(),
    }))
}

/// Compiles again and again, keeping what did not change.
#[derive(Debug, Default)]
pub struct Compiler {
    items: BTreeMap<Arc<str>, (Bytes, Compiled)>,
    last: Arc<Running>,
}

impl Compiler {
    /// Tables for `items`. One that cannot be compiled was refused before and is not among them; should one be, it is
    /// left out and told in the second answer.
    pub fn compile(&mut self, items: &Items) -> (Arc<Running>, Vec<(Arc<str>, String)>) {
        let mut wrong = Vec::new();
        self.items.retain(|key, _| items.contains_key(key));
        for (key, payload) in items {
            let same = |held: &(Bytes, Compiled)| held.0 == *payload;
            if self.items.get(key).is_some_and(same) {
                continue;
            }
            match compile_item(key, payload) {
                Ok(compiled) => drop(self.items.insert(key.clone(), (payload.clone(), compiled))),
                Err(error) => wrong.push((key.clone(), error)),
            }
        }
        let running = Arc::new(self.assemble());
        self.last = running.clone();
        (running, wrong)
    }

    fn assemble(&self) -> Running {
        let mut running = Running::default();
        let mut zones = BTreeMap::new();
        let mut sets: BTreeMap<ServiceRef, Vec<Arc<Endpoints>>> = BTreeMap::new();
        for (_, compiled) in self.items.values() {
            match compiled {
                Compiled::Inbound(inbound) => running.inbound = Some(inbound.clone()),
                Compiled::Gateway(gateway) => running.gateway = Some(gateway.clone()),
                Compiled::Listener(listener) => drop(running.listeners.insert(listener.port, listener.clone())),
                Compiled::Outbound(service) => {
                    running.services.insert(service.config.service.clone(), service.clone());
                    for host in &service.config.hosts {
                        running.hosts.insert(host.to_ascii_lowercase(), service.clone());
                    }
                    if service.config.external.is_none() {
                        running.hosts.insert(service.config.service.host(None), service.clone());
                    }
                }
                Compiled::Endpoints(set) => sets.entry(set.service.clone()).or_default().push(set.clone()),
                Compiled::Zone(zone) => drop(zones.insert(zone.zone.clone(), zone.clone())),
                Compiled::Trust(trust) => drop(running.trust.insert(trust.domain.clone(), trust.clone())),
                Compiled::Unknown => {}
            }
        }
        if let Some(inbound) = &running.inbound {
            running.rate_limits = RateLimits::compile(&inbound.rate_limits, &self.last.rate_limits);
        }
        running.zones = match *self.last.zones == zones {
            true => self.last.zones.clone(),
            false => Arc::new(zones),
        };
        for service in running.services.keys() {
            sets.entry(service.clone()).or_default();
        }
        for (service, sets) in sets {
            let config = running.services.get(&service).map(|service| &service.config);
            let places = Places {
                balancing: config.map(|config| config.balancing.clone()).unwrap_or_default(),
                breaker: config.map(|config| config.breaker.clone()).unwrap_or_default(),
                sets,
                zones: running.zones.clone(),
                external: config.and_then(|config| config.external.clone()),
            };
            let places = match self.last.places.get(&service) {
                Some(last) if same(last, &places) => last.clone(),
                _ => Arc::new(places),
            };
            if let Some(hashing) = Hashing::compile(&places.balancing) {
                running.hashing.insert(service.clone(), hashing);
            }
            running.places.insert(service, places);
        }
        running
    }
}

fn same(last: &Places, now: &Places) -> bool {
    last.balancing == now.balancing
        && last.breaker == now.breaker
        && last.external == now.external
        && Arc::ptr_eq(&last.zones, &now.zones)
        && last.sets.len() == now.sets.len()
        && last.sets.iter().zip(&now.sets).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
