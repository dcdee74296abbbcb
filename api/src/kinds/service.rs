//! Service: what is called.

use super::Spec;
use crate::object::{Labels, Owner};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is called. Derived from workloads unless written; services of one namespace and name in several zones of a
/// mesh are one service.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Ports that may be called.
    pub ports: Vec<ServicePort>,
    /// Labels of its workloads. Empty: workloads that name the service.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub selector: Labels,
    /// Whether other zones may call it. They may unless set to false.
    #[serde(default = "yes")]
    pub exported: bool,
}

/// A port of a service.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// Number.
    pub port: u16,
    /// Name, for references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it speaks.
    #[serde(default)]
    pub app_protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without upgrade ("prior knowledge").
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Whether requests can be told apart.
    pub const fn is_http(self) -> bool {
        !matches!(self, Self::Tcp)
    }
}

fn yes() -> bool {
    true
}

impl Spec for Service {
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const OWNER: Owner = Owner::Zone;
    const EXAMPLE: &'static str = "ports:\n  - {port: 8080, appProtocol: http}\nexported: true\n";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.ports.is_empty() {
            wrong.push(("ports".into(), "a service needs at least one port".into()));
        }
        for (i, port) in self.ports.iter().enumerate() {
            if port.port == 0 {
                wrong.push((format!("ports[{i}].port"), "must be between 1 and 65535".into()));
            }
            if self.ports[..i].iter().any(|earlier| earlier.port == port.port) {
                wrong.push((format!("ports[{i}].port"), format!("port {} is declared twice", port.port)));
            }
        }
        wrong
    }
}
