//! ExternalService: something outside the mesh.

use super::{ServicePort, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something outside the mesh that workloads call by a name of their choice.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalService {
    /// Host names by which workloads call it.
    pub hosts: Vec<String>,
    /// Ports that may be called.
    pub ports: Vec<ServicePort>,
    /// Where it is, in order of preference.
    pub endpoints: Vec<ExternalEndpoint>,
    /// TLS towards it, added by the proxy that goes there. Omitted: none is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// Which proxy goes there. `Direct` unless set.
    #[serde(default, skip_serializing_if = "Through::is_direct")]
    pub through: Through,
}

/// Which proxy goes to a service outside.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Through {
    /// The caller's own.
    #[default]
    Direct,
    /// An edge gateway of the caller's zone, to which the caller goes over mutual TLS. Who may, Authorization for the
    /// service says.
    EdgeGateway,
}

impl Through {
    /// Whether it is the default.
    pub fn is_direct(&self) -> bool {
        *self == Self::Direct
    }
}

/// An address outside.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalEndpoint {
    /// Host name or address.
    pub address: String,
    /// Port, where it differs from the one called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// TLS that the proxy adds.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalTls {
    /// Name in the other side's certificate. Omitted: the host called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM roots to trust. Omitted: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
}

impl Spec for ExternalService {
    const KIND: &'static str = "ExternalService";
    const PLURAL: &'static str = "externalservices";
    const EXAMPLE: &'static str = "hosts: [billing.example.com]\nports:\n  - {port: 443, appProtocol: tcp}\nendpoints:\n  - {address: 192.0.2.10}\n";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (field, empty) in [
            ("hosts", self.hosts.is_empty()),
            ("ports", self.ports.is_empty()),
            ("endpoints", self.endpoints.is_empty()),
        ] {
            if empty {
                wrong.push((field.into(), "needs at least one entry".into()));
            }
        }
        wrong
    }
}
