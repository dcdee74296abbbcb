//! What proxies run: the only representation besides the specs people write.
//!
//! A zone control plane publishes these as items of one view per class of equal proxies (keys in [`item`]). Values are
//! JSON. Readers tolerate unknown fields, because an older proxy may meet a newer control plane.

mod balancing;
mod breaker;
mod fault;
mod health;
mod mirror;
mod rate_limit;

pub use balancing::{
    Algorithm, Balancing, Ejection, FailoverTier, FailureShare, HashCookie, HashOn, RING_POINTS, SpillMode, SuccessRate,
};
pub use breaker::Breaker;
pub use fault::{AbortFault, DelayFault, Faults, HeaderFault, SlowFault};
pub use health::{HealthCheck, Question};
pub use mirror::Mirror;
pub use rate_limit::{Rate, RateLimitEach, RateLimitRule};

use crate::kinds::{DefaultAuthorization, HttpFilter, HttpMatch, ListenerProtocol, MutualTls, Protocol, ZoneState};
use crate::name::{MeshName, Name, Namespace, SpiffeId, TrustDomain, ZoneName};
use crate::share::Share;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Keys of configuration items. `/` separates; each part is a DNS label, so no escaping is needed.
pub mod item {
    use super::*;

    /// One [`Inbound`].
    pub const INBOUND: &str = "inbound";
    /// One [`GatewayConfig`], for gateways only.
    pub const GATEWAY: &str = "gateway";
    /// Prefix of [`Listener`] items, for edge gateways only.
    pub const LISTENER: &str = "listener/";
    /// Prefix of [`Outbound`] items.
    pub const OUTBOUND: &str = "outbound/";
    /// Prefix of [`Endpoints`] items.
    pub const ENDPOINTS: &str = "endpoints/";
    /// Prefix of [`ZoneInfo`] items.
    pub const ZONE: &str = "zone/";
    /// Prefix of [`Trust`] items.
    pub const TRUST: &str = "trust/";

    /// `listener/PORT`
    pub fn listener(port: u16) -> String {
        format!("{LISTENER}{port}")
    }
    /// `outbound/MESH/NAMESPACE/SERVICE`
    pub fn outbound(service: &ServiceRef) -> String {
        format!("{OUTBOUND}{service}")
    }
    /// `endpoints/MESH/NAMESPACE/SERVICE/ZONE`
    pub fn endpoints(service: &ServiceRef, zone: &ZoneName) -> String {
        format!("{ENDPOINTS}{service}/{zone}")
    }
    /// `zone/ZONE`
    pub fn zone(zone: &ZoneName) -> String {
        format!("{ZONE}{zone}")
    }
    /// `trust/DOMAIN`
    pub fn trust(domain: &TrustDomain) -> String {
        format!("{TRUST}{domain}")
    }
}

/// A service by mesh, namespace and name. Text form `MESH/NAMESPACE/NAME`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ServiceRef {
    /// Mesh.
    pub mesh: MeshName,
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Name,
}

impl std::fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.mesh, self.namespace, self.name)
    }
}

/// Ending of the names that workloads call: `cart.shop.mesh`, `cart.shop.west.mesh`.
pub const DNS_SUFFIX: &str = "mesh";
/// Ending of server names inside mutual TLS.
pub const SNI_SUFFIX: &str = "weft";

impl ServiceRef {
    /// `NAME.NAMESPACE.mesh`, or `NAME.NAMESPACE.ZONE.mesh`.
    pub fn host(&self, zone: Option<&ZoneName>) -> String {
        match zone {
            Some(zone) => format!("{}.{}.{zone}.{DNS_SUFFIX}", self.name, self.namespace),
            None => format!("{}.{}.{DNS_SUFFIX}", self.name, self.namespace),
        }
    }

    /// Server name (TLS SNI) of one port in one zone: `pPORT.NAME.NAMESPACE.ZONE.MESH.weft`.
    pub fn server_name(&self, port: u16, zone: &ZoneName) -> String {
        format!("p{port}.{}.{}.{zone}.{}.{SNI_SUFFIX}", self.name, self.namespace, self.mesh)
    }

    /// Reads [`server_name`](Self::server_name) back: service, port and zone.
    pub fn parse_server_name(name: &str) -> Option<(Self, u16, ZoneName)> {
        let parts: Vec<&str> = name.split('.').collect();
        let [port, name, namespace, zone, mesh, SNI_SUFFIX] = parts[..] else {
            return None;
        };
        let service = Self { mesh: mesh.parse().ok()?, namespace: namespace.parse().ok()?, name: name.parse().ok()? };
        Some((service, port.strip_prefix('p')?.parse().ok()?, zone.parse().ok()?))
    }
}

/// Server name of a zone's gateways themselves, for probes: `gateway.ZONE.control.weft`.
pub fn gateway_server_name(zone: &ZoneName) -> String {
    format!("gateway.{zone}.control.{SNI_SUFFIX}")
}

/// Server name of a zone's control plane, as peers reach it through the zone's gateways: `zone-cp.ZONE.control.weft`.
pub fn zone_cp_server_name(zone: &ZoneName) -> String {
    format!("zone-cp.{zone}.control.{SNI_SUFFIX}")
}

/// What a proxy accepts for its workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    /// Mesh of the workload.
    pub mesh: MeshName,
    /// Its zone.
    pub zone: ZoneName,
    /// The identity its certificate shows.
    pub identity: SpiffeId,
    /// The service it is an endpoint of.
    pub service: Option<ServiceRef>,
    /// Ports it may be called on.
    pub ports: Vec<InboundPort>,
    /// Whether plaintext is accepted.
    pub mutual_tls: MutualTls,
    /// Who may call.
    pub authorization: Authorization,
    /// How often. All that match hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimitRule>,
    /// What the app is asked to know whether it is well.
    #[serde(default)]
    pub health: HealthCheck,
}

/// One callable port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InboundPort {
    /// As callers name it.
    pub port: u16,
    /// The app's.
    pub target: u16,
    /// What the app speaks.
    pub protocol: Protocol,
}

/// Deny rules first, then allow rules, then the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authorization {
    /// When no rule speaks.
    pub default: DefaultAuthorization,
    /// In the order of their policies' names.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule of an Authorization policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationRule {
    /// Namespace and name of the policy, as answers and records name it: `NAMESPACE/NAME`.
    pub policy: String,
    /// What it does.
    pub action: AuthorizationAction,
    /// Record what it would have done, and do nothing.
    pub audit: bool,
    /// Any of these callers. Empty: anybody with a verified identity.
    pub from: Vec<PeerMatch>,
    /// Any of these requests. Empty: all.
    pub to: Vec<RequestMatch>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum AuthorizationAction {
    /// Refuses; wins over every Allow.
    Deny,
    /// Lets through.
    Allow,
}

/// A caller, by parts of its verified identity. All given parts must be equal.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PeerMatch {
    /// Zone of the caller.
    pub zone: Option<ZoneName>,
    /// Namespace of the caller.
    pub namespace: Option<Namespace>,
    /// Account of the caller.
    pub account: Option<String>,
}

/// A request, by its parts. All given parts must match; a connection without requests matches on ports only.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct RequestMatch {
    /// Any of these. Empty: all.
    pub ports: Vec<u16>,
    /// Any of these. Empty: all.
    pub methods: Vec<String>,
    /// Any of these; a trailing `*` matches any rest. Empty: all.
    pub paths: Vec<String>,
}

/// How to call one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outbound {
    /// Which.
    pub service: ServiceRef,
    /// Host names by which it is called, without zone; `NAME.NAMESPACE.ZONE.mesh` is understood besides.
    pub hosts: Vec<String>,
    /// Its ports.
    pub ports: Vec<OutboundPort>,
    /// How places and endpoints of it are chosen.
    pub balancing: Balancing,
    /// How much of it one proxy may have in use at a time.
    #[serde(default)]
    pub breaker: Breaker,
    /// Outside the mesh: addresses instead of endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

/// One port of a service, with what may happen to requests to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboundPort {
    /// Number.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Most specific match first; the last one matches everything. TCP: exactly one.
    pub rules: Vec<OutboundRule>,
}

/// One rule of a route, or the rule a service has without routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboundRule {
    /// `NAMESPACE/ROUTE#INDEX`, or `default`.
    pub name: String,
    /// Any of these; empty: all.
    pub matches: Vec<HttpMatch>,
    /// In order.
    pub filters: Vec<HttpFilter>,
    /// Weighted.
    pub backends: Vec<Backend>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Another try.
    pub retry: Retry,
    /// What requests suffer on purpose.
    #[serde(default, skip_serializing_if = "Faults::is_none")]
    pub faults: Faults,
    /// Who gets copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
}

/// Where a rule sends requests.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Which service.
    pub service: ServiceRef,
    /// Port called there.
    pub port: u16,
    /// Only this zone.
    pub zone: Option<ZoneName>,
    /// Relative share.
    pub weight: u32,
}

/// Time limits of a rule, in milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP connect and TLS handshake together.
    pub connect_ms: u64,
    /// Whole request with all its tries. `None`: no limit.
    pub request_ms: Option<u64>,
    /// One try. `None`: no limit of its own.
    pub per_try_ms: Option<u64>,
    /// A stream without a byte in either direction.
    pub idle_ms: u64,
}

impl Default for Timeouts {
    /// Connect 1 s (linkerd), request 15 s (Envoy's route default), idle 5 min (Envoy's stream default).
    fn default() -> Self {
        Self { connect_ms: 1_000, request_ms: Some(15_000), per_try_ms: None, idle_ms: 300_000 }
    }
}

/// When a request is tried again, and how often all requests together may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries after the first.
    pub max: u32,
    /// Statuses worth another try; failures before an answer always are, where it is safe.
    pub on_status: Vec<u16>,
    /// Share of requests that may be retries.
    pub budget: Share,
    /// Retries a second that are always allowed.
    pub budget_min_per_second: u32,
    /// First back-off; doubles, with full jitter.
    pub backoff_ms: u64,
    /// Longest back-off.
    pub backoff_max_ms: u64,
    /// Also methods that are not idempotent.
    pub unsafe_methods: bool,
}

impl Default for Retry {
    /// At most 2, budget 20 % and 10/s (linkerd), back-off 25 ms to 250 ms (Envoy).
    fn default() -> Self {
        Self {
            max: 2,
            on_status: vec![502, 503, 504],
            budget: Share::percent(20),
            budget_min_per_second: 10,
            backoff_ms: 25,
            backoff_max_ms: 250,
            unsafe_methods: false,
        }
    }
}

/// Something outside the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct External {
    /// `(address, port)` in order of preference; `None`: the port called.
    pub endpoints: Vec<(String, Option<u16>)>,
    /// TLS to add: the server name to expect, and PEM roots (`None`: the system's).
    pub tls: Option<(Option<String>, Option<String>)>,
    /// Only on edge gateways: who may leave the mesh through them to it. `None`: nobody, but the gateway itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// Endpoints of one service in one zone, as seen from the zone of the proxy that gets this item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Of which service.
    pub service: ServiceRef,
    /// In which zone.
    pub zone: ZoneName,
    /// Where.
    pub place: EndpointsPlace,
}

/// Endpoints are reached straight within a zone, through gateways across zones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointsPlace {
    /// The proxy's own zone.
    Local(Vec<Endpoint>),
    /// Another zone.
    Remote(RemoteEndpoints),
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The workload's name.
    pub workload: Name,
    /// Its proxy's inbound listener.
    pub address: SocketAddr,
    /// Expected in its certificate.
    pub identity: SpiffeId,
    /// Relative share.
    pub weight: u32,
    /// Its proxy is connected and its app answers.
    pub ready: bool,
    /// Node, az, region, for tiers within the zone.
    pub place: crate::kinds::Place,
}

/// What another zone says of its endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteEndpoints {
    /// Addresses of the zone's gateways; each is a candidate with its own health.
    pub gateways: Vec<SocketAddr>,
    /// Expected in the answering workload's certificate: any of these.
    pub identities: Vec<SpiffeId>,
    /// Ready endpoints.
    pub ready: u32,
    /// All endpoints.
    pub total: u32,
    /// Sum of weights of ready endpoints.
    pub weight: u32,
    /// Utilisation the zone reports, 0.0 to 1.0 and beyond; `None`: unknown.
    pub load: Option<f64>,
}

/// A zone, as far as choosing it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneInfo {
    /// Which.
    pub zone: ZoneName,
    /// Its region.
    pub region: Option<String>,
    /// Whether it takes traffic.
    pub state: ZoneState,
}

/// Anchors of one trust domain. Never used for any other domain.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Whose.
    pub domain: TrustDomain,
    /// PEM certificates: the present authority and, during rotation, its neighbour.
    pub anchors: Vec<String>,
    /// Grows with every change, so that an old bundle never replaces a newer one.
    pub sequence: u64,
}

/// A port that edge gateways open to the outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Number.
    pub port: u16,
    /// What is spoken there.
    pub protocol: ListenerProtocol,
    /// By host name, each at most once.
    pub hosts: Vec<ListenerHost>,
}

/// One listener of one Gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerHost {
    /// Mesh, namespace and name of the Gateway.
    pub gateway: ServiceRef,
    /// The listener's name there.
    pub listener: Name,
    /// `shop.example.com` or `*.example.com`; `None`: every other host.
    pub hostname: Option<String>,
    /// `NAMESPACE/NAME` of the certificate it shows, below the gateway's own folder. Only for HTTPS.
    pub certificate: Option<String>,
    /// Rules by the host names of routes, each at most once.
    pub routes: Vec<ListenerRoute>,
}

/// Rules for one host name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerRoute {
    /// As in [`ListenerHost::hostname`], and never wider than it.
    pub hostname: Option<String>,
    /// Most specific match first. At least one.
    pub rules: Vec<OutboundRule>,
}

/// What an east-west gateway does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayConfig {
    /// Its zone.
    pub zone: ZoneName,
    /// Exported services and their ports; everything else is refused.
    pub exported: BTreeMap<String, Vec<u16>>,
    /// Gateways of peer zones, to probe.
    pub peers: BTreeMap<ZoneName, Vec<SocketAddr>>,
    /// Where the zone control plane takes connections of peers.
    pub zone_cp: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_reads_as_it_is_written() {
        let service = ServiceRef {
            mesh: "default".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            name: "cart".parse().unwrap(),
        };
        let zone: ZoneName = "east".parse().unwrap();
        let name = service.server_name(8080, &zone);
        assert_eq!(name, "p8080.cart.shop.east.default.weft");
        assert_eq!(ServiceRef::parse_server_name(&name), Some((service, 8080, zone)));
        for bad in ["", "p0x.cart.shop.east.default.weft", "cart.shop.mesh", "p1.a.b.c.d.e.weft"] {
            assert_eq!(ServiceRef::parse_server_name(bad), None, "{bad}");
        }
    }
}
