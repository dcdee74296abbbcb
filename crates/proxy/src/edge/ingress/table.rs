//! Which rules a request from outside follows: by port, by the listener's host name, by the route's. The most specific
//! name wins, as in Gateway API (`Listener.hostname`, `HTTPRoute.hostnames`).

use crate::compile::{self, Service};
use api::Name;
use api::config::{self, Balancing, Breaker, ListenerHost, ListenerRoute, Outbound, OutboundPort, ServiceRef};
use api::kinds::{ListenerProtocol, Protocol};
use std::collections::HashMap;
use std::sync::Arc;

/// One port.
#[derive(Debug)]
pub struct Listener {
    /// Number.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    hosts: ByHost<Host>,
}

/// One listener of one Gateway.
#[derive(Debug)]
pub struct Host {
    /// Number.
    pub port: u16,
    /// The Gateway.
    pub gateway: ServiceRef,
    /// The listener's name.
    pub listener: Name,
    /// `NAMESPACE/NAME` of what it shows.
    pub certificate: Option<String>,
    /// Rules, in the shape of a service's.
    routes: ByHost<Arc<Service>>,
}

impl Listener {
    /// Compiles; the text says what is wrong.
    pub fn compile(given: config::Listener) -> Result<Self, String> {
        let config::Listener { port, protocol, hosts } = given;
        let mut all = ByHost::default();
        for ListenerHost { gateway, listener, hostname, certificate, routes } in hosts {
            let mut by_host = ByHost::default();
            for ListenerRoute { hostname, rules } in routes {
                let ports = vec![OutboundPort { port, protocol: Protocol::Http, rules }];
                let (service, balancing) = (gateway.clone(), Balancing::default());
                let (hosts, breaker) = (Vec::new(), Breaker::default());
                let rules = compile::service(Outbound { service, hosts, ports, balancing, breaker, external: None })?;
                by_host.put(hostname.as_deref(), Arc::new(rules));
            }
            all.put(hostname.as_deref(), Host { port, gateway, listener, certificate, routes: by_host });
        }
        Ok(Self { port, protocol, hosts: all })
    }

    /// The listener that answers for a host.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.find(name)
    }

    /// The listener that answers those who name no host.
    pub fn nameless(&self) -> Option<&Host> {
        self.hosts.any.as_ref()
    }

    /// All of them.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.all()
    }
}

impl Host {
    /// The rules for a host.
    pub fn route(&self, name: &str) -> Option<&Arc<Service>> {
        self.routes.find(name)
    }
}

/// Values by host name: exact, below a domain, or any.
#[derive(Debug)]
struct ByHost<T> {
    exact: HashMap<String, T>,
    /// By `.example.com`, longest first.
    below: Vec<(String, T)>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: Vec::new(), any: None }
    }
}

impl<T> ByHost<T> {
    fn put(&mut self, name: Option<&str>, value: T) {
        match name {
            None => self.any = Some(value),
            Some(name) => match name.strip_prefix('*') {
                None => drop(self.exact.insert(name.to_ascii_lowercase(), value)),
                Some(suffix) => {
                    let at = self.below.partition_point(|(held, _)| held.len() >= suffix.len());
                    self.below.insert(at, (suffix.to_ascii_lowercase(), value));
                }
            },
        }
    }

    /// `name` is in lower case.
    fn find(&self, name: &str) -> Option<&T> {
        let below =
            || self.below.iter().find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix.as_str()));
        self.exact.get(name).or_else(|| below().map(|(_, value)| value)).or(self.any.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.iter().map(|(_, value)| value)).chain(&self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_host_name_wins() {
        let mut table = ByHost::default();
        for name in ["*.example.com", "*.shop.example.com", "a.shop.example.com"] {
            table.put(Some(name), name);
        }
        for (asked, expect) in [
            ("a.shop.example.com", Some("a.shop.example.com")),
            ("b.shop.example.com", Some("*.shop.example.com")),
            ("b.c.shop.example.com", Some("*.shop.example.com")),
            ("shop.example.com", Some("*.example.com")),
            ("example.com", None),
            (".example.com", None),
            ("badexample.com", None),
        ] {
            assert_eq!(table.find(asked).copied(), expect, "{asked}");
        }
        table.put(None, "any");
        assert_eq!(table.find("example.com"), Some(&"any"));
    }
}
