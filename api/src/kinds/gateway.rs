//! Gateway, in the shape of Gateway API v1 (<https://gateway-api.sigs.k8s.io/reference/spec/>): where traffic from
//! outside enters the mesh.

use super::Spec;
use crate::name::Name;
use crate::object::Labels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Listeners of one Gateway (Gateway API's own limit).
pub const LISTENERS_MAX: usize = 64;

/// Where traffic from outside enters the mesh. Edge gateways (workloads with the role `EdgeGateway`) open its ports;
/// an HTTPRoute that names it as its parent says where requests go.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// Accepted as written and not looked at: every Gateway here is Weft's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_class_name: Option<String>,
    /// Labels of the edge gateways that serve it. Empty: every edge gateway of the mesh, in every zone. Weft's addition.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub selector: Labels,
    /// Ports that are opened.
    pub listeners: Vec<GatewayListener>,
}

/// A port, or one host name on it.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayListener {
    /// For references (`sectionName` of a route's parent) and status.
    pub name: Name,
    /// Number. Listeners of one port share it, told apart by `hostname`.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// The host name it is for: `shop.example.com`, or `*.example.com`. Omitted: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What callers are shown. Only for HTTPS, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Whose routes may attach. Omitted: those of the Gateway's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 without upgrade ("prior knowledge"), in the clear.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, which ends at the gateway.
    #[serde(rename = "HTTPS")]
    Https,
}

/// TLS of a listener.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// TLS ends here.
    #[serde(default)]
    pub mode: TlsMode,
    /// Exactly one.
    pub certificate_refs: Vec<CertificateRef>,
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum TlsMode {
    /// At the gateway.
    #[default]
    Terminate,
}

/// A certificate with its key, by name: each gateway reads `NAMESPACE/NAME/tls.crt` and `tls.key` in its own
/// `--certificates` folder, where NAMESPACE is the Gateway's. Keys never pass through a control plane.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRef {
    /// API group. Accepted as written and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Accepted as written and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: Name,
}

/// Whose routes may attach to a listener.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedRoutes {
    /// Of which namespaces.
    #[serde(default)]
    pub namespaces: RouteNamespaces,
}

/// Of which namespaces.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteNamespaces {
    /// `Same` unless set.
    #[serde(default)]
    pub from: RoutesFrom,
}

/// Of which namespaces.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum RoutesFrom {
    /// The Gateway's own.
    #[default]
    Same,
    /// Every one of the mesh.
    All,
}

impl GatewayListener {
    /// Whether routes of other namespaces may attach.
    pub fn takes_all_namespaces(&self) -> bool {
        self.allowed_routes.is_some_and(|allowed| allowed.namespaces.from == RoutesFrom::All)
    }
}

/// What is wrong with a host name of a listener or route: one in lower case, whose first label may be `*`.
pub(super) fn check_hostname(at: &str, name: &str) -> Option<(String, String)> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    let good = name.len() <= 253 && rest.split('.').all(label) && rest.parse::<std::net::IpAddr>().is_err();
    let what = || format!("`{name}` is no host name: write `shop.example.com` or `*.example.com`, in lower case");
    (!good).then(|| (at.to_owned(), what()))
}

impl Spec for Gateway {
    const KIND: &'static str = "Gateway";
    const PLURAL: &'static str = "gateways";
    const API_VERSION: &'static str = crate::GATEWAY_API_VERSION;
    const EXAMPLE: &'static str = "\
listeners:
  - {name: http, port: 80, protocol: HTTP}
  - name: https
    port: 443
    protocol: HTTPS
    hostname: shop.example.com
    tls: {certificateRefs: [{name: shop-tls}]}
";

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.listeners.is_empty() || self.listeners.len() > LISTENERS_MAX {
            wrong.push(("listeners".into(), format!("needs between 1 and {LISTENERS_MAX} listeners")));
        }
        for (i, listener) in self.listeners.iter().enumerate() {
            let GatewayListener { name, port, protocol, hostname, tls, allowed_routes: _ } = listener;
            let at = |field: &str| format!("listeners[{i}].{field}");
            if *port == 0 {
                wrong.push((at("port"), "must be between 1 and 65535".into()));
            }
            wrong.extend(hostname.as_ref().and_then(|hostname| check_hostname(&at("hostname"), hostname)));
            match (protocol, tls) {
                (ListenerProtocol::Https, None) => {
                    wrong.push((at("tls"), "HTTPS needs a certificate: name it in `tls.certificateRefs`".into()));
                }
                (ListenerProtocol::Http, Some(_)) => {
                    wrong.push((at("tls"), "HTTP has no TLS; leave it out, or use protocol HTTPS".into()));
                }
                _ => {}
            }
            if tls.as_ref().is_some_and(|tls| tls.certificate_refs.len() != 1) {
                wrong.push((at("tls.certificateRefs"), "needs exactly one certificate".into()));
            }
            for earlier in &self.listeners[..i] {
                if earlier.name == *name {
                    wrong.push((at("name"), format!("listener `{name}` is declared twice")));
                }
                if earlier.port != *port {
                    continue;
                }
                if earlier.protocol != *protocol {
                    wrong.push((at("protocol"), format!("port {port} speaks one protocol; see `{}`", earlier.name)));
                } else if earlier.hostname == *hostname {
                    let what = format!("port {port} and this host name are `{}`'s already", earlier.name);
                    wrong.push((at("hostname"), what));
                }
            }
        }
        wrong
    }
}
