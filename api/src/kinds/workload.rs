//! Workload: one instance of an app with its proxy.

use super::{Protocol, Spec};
use crate::name::{Account, Name};
use crate::object::Owner;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Port of a proxy's inbound mutual-TLS listener, unless a workload says otherwise.
pub const PROXY_PORT_DEFAULT: u16 = 15_008;

/// One instance of an app with its proxy. Registered in its zone; readiness comes from the proxy, not from here.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// The service it is an endpoint of. Omitted: it calls, and is never called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The account it runs as. Omitted: the service's name, else the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Where other proxies of the zone reach its proxy.
    #[schemars(with = "String", extend("format" = "ip"))]
    pub address: IpAddr,
    /// Port of its proxy's inbound mutual-TLS listener.
    #[serde(default = "proxy_port")]
    pub proxy_port: u16,
    /// Ports of the app that may be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadPort>,
    /// Where it physically is.
    #[serde(default)]
    pub place: Place,
    /// Share of its service's traffic relative to others. 1 unless set.
    #[serde(default = "one")]
    pub weight: u32,
    /// What its proxy is for.
    #[serde(default)]
    pub role: Role,
}

/// What a proxy is for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Role {
    /// Carries the traffic of one app.
    #[default]
    Sidecar,
    /// Carries traffic between zones; `address` and `proxyPort` are where other zones reach it.
    EastWestGateway,
    /// Brings traffic into the mesh from outside: opens the listeners of Gateways, and calls services as a workload of
    /// its own.
    EdgeGateway,
}

impl Role {
    /// Whether it is the default.
    pub fn is_sidecar(&self) -> bool {
        *self == Self::Sidecar
    }
}

/// A port of the app.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// Number that callers use, and unless `target` is set the app's own.
    pub port: u16,
    /// The app's own port, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u16>,
    /// What it speaks.
    #[serde(default)]
    pub app_protocol: Protocol,
}

/// Where a workload physically is.
#[derive(Clone, Debug, Default, Eq, Hash, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Region, if it differs within the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub az: Option<String>,
    /// Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

fn proxy_port() -> u16 {
    PROXY_PORT_DEFAULT
}

fn one() -> u32 {
    1
}

impl Spec for Workload {
    const KIND: &'static str = "Workload";
    const PLURAL: &'static str = "workloads";
    const OWNER: Owner = Owner::Zone;
    const EXAMPLE: &'static str = "service: cart\naddress: 10.1.0.7\nports:\n  - {port: 8080, appProtocol: http}\n";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.proxy_port == 0 {
            wrong.push(("proxyPort".into(), "must be between 1 and 65535".into()));
        }
        if self.address.is_unspecified() {
            wrong.push(("address".into(), "must be an address others can reach, not the unspecified one".into()));
        }
        for (i, port) in self.ports.iter().enumerate() {
            if port.port == 0 {
                wrong.push((format!("ports[{i}].port"), "must be between 1 and 65535".into()));
            }
            if self.ports[..i].iter().any(|earlier| earlier.port == port.port) {
                wrong.push((format!("ports[{i}].port"), format!("port {} is declared twice", port.port)));
            }
        }
        if self.role != Role::Sidecar && self.service.is_some() {
            wrong.push(("service".into(), "a gateway is no endpoint of a service; leave it out".into()));
        }
        if self.service.is_some() && self.ports.is_empty() {
            wrong.push(("ports".into(), "a workload of a service needs at least one port".into()));
        }
        wrong
    }
}
