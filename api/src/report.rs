//! What travels up: proxies tell their zone, zones tell global and each other. Values of view items, as JSON.

use crate::config::ServiceRef;
use crate::kinds::ServicePort;
use crate::name::{SpiffeId, ZoneName};
use crate::reason::RouteReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Keys of report items.
pub mod item {
    use crate::config::ServiceRef;
    use crate::name::{TrustDomain, ZoneName};

    /// Proxy to zone: one [`ProxyReport`](super::ProxyReport).
    pub const PROXY: &str = "proxy";
    /// Proxy to zone: one [`Traffic`](super::Traffic).
    pub const TRAFFIC: &str = "traffic";
    /// Gateway to zone: prefix of [`LinkProbe`](super::LinkProbe) items, by peer zone.
    pub const PROBE: &str = "probe/";
    /// Zone to global and peers: prefix of [`ServiceExport`](super::ServiceExport) items.
    pub const EXPORT: &str = "export/";
    /// Zone to global and peers: prefix of [`GatewayExport`](super::GatewayExport) items.
    pub const GATEWAY: &str = "gateway/";
    /// Zone to global and peers: prefix of [`Trust`](crate::config::Trust) items.
    pub const TRUST: &str = "trust/";
    /// Zone to global and peers: one [`Source`](super::Source), changed together with what it is the source of.
    pub const SOURCE: &str = "source";
    /// Zone to global: one [`ZoneReport`](super::ZoneReport).
    pub const ZONE: &str = "zone";
    /// Zone to global: prefix of [`PolicyReport`](super::PolicyReport) items, by object key.
    pub const POLICY: &str = "policy/";
    /// Zone to global: prefix of objects the zone owns, by object key.
    pub const OBJECT: &str = "object/";

    /// `probe/ZONE`
    pub fn probe(peer: &ZoneName) -> String {
        format!("{PROBE}{peer}")
    }
    /// `export/MESH/NAMESPACE/SERVICE`
    pub fn export(service: &ServiceRef) -> String {
        format!("{EXPORT}{service}")
    }
    /// `gateway/NAME`
    pub fn gateway(name: &str) -> String {
        format!("{GATEWAY}{name}")
    }
    /// `trust/DOMAIN`
    pub fn trust(domain: &TrustDomain) -> String {
        format!("{TRUST}{domain}")
    }
    /// `policy/KEY`
    pub fn policy(key: &crate::Key) -> String {
        format!("{POLICY}{key}")
    }
    /// `object/KEY`
    pub fn object(key: &crate::Key) -> String {
        format!("{OBJECT}{key}")
    }
}

/// State of one proxy, published when it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// Version of the program.
    pub version: String,
    /// The app's ports answer. Ports that do not are listed in `unready_ports`.
    pub ready: bool,
    /// Ports on which the app does not answer.
    pub unready_ports: Vec<u16>,
    /// Ports on which the app answers, and says that it is not well: with its words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unwell: BTreeMap<u16, String>,
    /// Finishing work and taking none.
    pub draining: bool,
    /// Unix seconds at which its certificate ends.
    pub certificate_until: u64,
    /// Endpoints this proxy has ejected: `SERVICE/ZONE/WORKLOAD-OR-GATEWAY` to the reason.
    pub ejected: BTreeMap<String, RouteReason>,
    /// Requests refused since it started, by policy (`NAMESPACE/NAME`); by the mesh's default under the empty name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denied: BTreeMap<String, u64>,
    /// Listeners that are not served as written, by `MESH/NAMESPACE/GATEWAY/LISTENER`, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listener_problems: BTreeMap<String, String>,
}

/// Requests since the proxy started; published at most once a second, and only when something was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// One line a service, zone, reason and outcome.
    pub flows: Vec<Flow>,
    /// Utilisation of the app as the inbound side sees it, 0.0 to 1.0 and beyond; `None`: unknown.
    pub load: Option<f64>,
}

/// Counters of one kind of request; they only grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Called service.
    pub service: ServiceRef,
    /// Zone that answered; `None`: nobody did.
    pub zone: Option<ZoneName>,
    /// Why there.
    pub reason: RouteReason,
    /// Requests, or connections of a TCP service.
    pub requests: u64,
    /// Of these, failed: 5xx or no answer.
    pub failed: u64,
    /// Sum of times to the answer's head, microseconds.
    pub latency_us: u64,
}

/// One gateway's probes of one peer zone, published when the verdict or the rounded round trip changes, and at least
/// every 15 s while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkProbe {
    /// Probed zone.
    pub peer: ZoneName,
    /// Some address of it answered the latest probe.
    pub reachable: bool,
    /// Median round trip of the last probes, microseconds.
    pub rtt_us: Option<u64>,
    /// Share of the last probes that got no answer, 0.0 to 1.0.
    pub loss: f64,
    /// Why not, in words; empty when reachable.
    pub error: String,
    /// Unix milliseconds of the latest probe.
    pub at_ms: u64,
}

impl LinkProbe {
    /// How far the peer is, by what zones are ordered.
    pub fn distance(&self) -> Option<u32> {
        self.rtt_us.map(distance)
    }
}

/// A round trip by its order of magnitude, in doublings of a millisecond: 0 below 1 ms, 1 below 2 ms, 2 below 4 ms. The
/// jitter of a measurement must not reorder zones and so rewrite the configuration of every proxy.
pub fn distance(rtt_us: u64) -> u32 {
    (rtt_us / 1_000).checked_ilog2().map_or(0, |doublings| doublings + 1)
}

/// What a zone offers of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceExport {
    /// Which.
    pub service: ServiceRef,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Ready endpoints.
    pub ready: u32,
    /// All endpoints.
    pub total: u32,
    /// Sum of weights of ready endpoints.
    pub weight: u32,
    /// Utilisation, if known.
    pub load: Option<f64>,
    /// Identities that may answer.
    pub identities: Vec<SpiffeId>,
}

/// One gateway of a zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayExport {
    /// Name within the zone.
    pub name: String,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// Its process is connected to its zone control plane.
    pub ready: bool,
}

/// Which state of a zone's exports this is. Exports travel by two roads (through global, and straight from the zone);
/// the greater revision is the newer one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// History of the zone's store.
    pub history: u64,
    /// Grows with every change, across restarts: Unix milliseconds of the change, or one more than the last.
    pub revision: u64,
}

/// State of one zone, published when it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZoneReport {
    /// Version of the zone control plane.
    pub version: String,
    /// Proxies connected, alive and ready.
    pub proxies_ready: u32,
    /// Proxies registered.
    pub proxies_total: u32,
    /// Proxies that have not acknowledged the latest configuration.
    pub behind: u32,
    /// Items some proxy refused.
    pub rejected: u32,
    /// Gateways connected.
    pub gateways_ready: u32,
    /// Gateways registered.
    pub gateways_total: u32,
    /// What the zone follows: the publisher's history and revision it has applied.
    pub applied: Option<(String, u64)>,
    /// Set when the publisher lost its history: the revision this zone still holds, and words.
    pub estranged: Option<(u64, String)>,
    /// Requests by service, zone and reason, summed over proxies.
    pub flows: Vec<Flow>,
    /// Probes of peers, the best of all gateways.
    pub probes: Vec<LinkProbe>,
    /// Remaining share of life of the certificate that ends first, 0.0 to 1.0.
    pub certificate_left: Option<f64>,
}

/// How far one policy got in one zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Store revision of the policy this speaks about.
    pub revision: u64,
    /// Proxies that acknowledged it.
    pub programmed: u32,
    /// Proxies it is for.
    pub total: u32,
    /// Refusals, first few: `(proxy, reason)`.
    pub rejects: Vec<(String, String)>,
    /// Requests it denied since the proxies started.
    pub denied: u64,
}
