//! Names as types: parsed once at the border, trusted inside.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest DNS label (RFC 1035 section 2.3.4); every name is one, because it becomes part of host names and SNI.
pub const NAME_LENGTH_MAX: usize = 63;

/// Why a name was refused. The text is for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Nothing between the quotes.
    #[error("a {what} may not be empty")]
    Empty {
        /// Which name.
        what: &'static str,
    },
    /// Longer than [`NAME_LENGTH_MAX`].
    #[error("{what} `{given}` has {length} characters; at most {NAME_LENGTH_MAX} fit into a DNS label")]
    Long {
        /// Which name.
        what: &'static str,
        /// As written.
        given: String,
        /// In bytes.
        length: usize,
    },
    /// A character a DNS label cannot hold.
    #[error("{what} `{given}` is not a DNS label: use a-z, 0-9 and `-`, and begin and end with a letter or digit")]
    Shape {
        /// Which name.
        what: &'static str,
        /// As written.
        given: String,
    },
    /// Not `spiffe://domain/path`.
    #[error("`{given}` is not a workload identity: expected spiffe://ZONE.MESH/ns/NAMESPACE/sa/ACCOUNT")]
    Spiffe {
        /// As written.
        given: String,
    },
    /// A reserved word.
    #[error("{what} `{given}` is reserved; choose another")]
    Reserved {
        /// Which name.
        what: &'static str,
        /// As written.
        given: String,
    },
}

fn label(what: &'static str, given: &str) -> Result<Arc<str>, NameError> {
    if given.is_empty() {
        return Err(NameError::Empty { what });
    }
    if given.len() > NAME_LENGTH_MAX {
        return Err(NameError::Long { what, given: given.into(), length: given.len() });
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: u8| b != b'-';
    let bytes = given.as_bytes();
    if bytes.iter().all(|b| inner(*b)) && edge(bytes[0]) && edge(bytes[bytes.len() - 1]) {
        Ok(given.into())
    } else {
        Err(NameError::Shape { what, given: given.into() })
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident = $what:literal $(reserved $reserved:expr)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(given: &str) -> Result<Self, NameError> {
                let name = label($what, given)?;
                $(if $reserved.contains(&given) {
                    return Err(NameError::Reserved { what: $what, given: given.into() });
                })?
                Ok(Self(name))
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(given: String) -> Result<Self, NameError> { given.parse() }
        }
        impl TryFrom<&str> for $type {
            type Error = NameError;
            fn try_from(given: &str) -> Result<Self, NameError> { given.parse() }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String { name.0.as_ref().to_owned() }
        }
        impl From<$type> for Arc<str> {
            fn from(name: $type) -> Self { name.0 }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str { &self.0 }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str { &self.0 }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($type).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "description": concat!("A ", $what, ": one DNS label."),
                    "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63,
                })
            }
        }
    )*};
}

names! {
    /// One tenant: trust and policies.
    MeshName = "mesh name" reserved ["control"];
    /// What one zone control plane runs.
    ZoneName = "zone name" reserved ["global", "mesh", "control"];
    /// Groups services and policies within a mesh.
    Namespace = "namespace";
    /// Name of an object within its kind, mesh and namespace.
    Name = "name";
    /// The account a workload runs as; the last part of its identity.
    Account = "account";
}

impl Default for MeshName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// SPIFFE trust domain. Three shapes exist: `ZONE.MESH` (workloads of a zone in a mesh), `ZONE.control` (the zone's
/// control plane) and `global.control` (the authority that names zones).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Trust domain of the workloads of `zone` in `mesh`.
    pub fn workloads(zone: &ZoneName, mesh: &MeshName) -> Self {
        Self(format!("{zone}.{mesh}").into())
    }

    /// Trust domain of a zone's own control plane, as its proxies see it.
    pub fn zone_control(zone: &ZoneName) -> Self {
        Self(format!("{zone}.control").into())
    }

    /// Trust domain of the global control plane; zones' certificates are of this domain.
    pub fn global_control() -> Self {
        Self("global.control".into())
    }

    /// `(zone, mesh)` when this is a domain of workloads.
    pub fn zone_and_mesh(&self) -> Option<(ZoneName, MeshName)> {
        let (zone, mesh) = self.0.split_once('.')?;
        Some((zone.parse().ok()?, mesh.parse().ok()?))
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = NameError;
    fn try_from(given: String) -> Result<Self, NameError> {
        given.parse()
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;
    fn from_str(given: &str) -> Result<Self, NameError> {
        for part in given.split('.') {
            label("trust domain", part)?;
        }
        Ok(Self(given.into()))
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0.as_ref().to_owned()
    }
}

/// SPIFFE id (SPIFFE-ID specification, section 2): `spiffe://TRUST-DOMAIN/PATH`, parsed strictly.
///
/// Workloads are `/ns/NAMESPACE/sa/ACCOUNT`, a zone control plane is `/zone/ZONE` in `global.control` and
/// `/zone-cp` in `ZONE.control`, the global control plane is `/global-cp`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    domain: TrustDomain,
    /// Begins with `/`.
    path: Arc<str>,
}

impl SpiffeId {
    /// Identity of a workload.
    pub fn workload(zone: &ZoneName, mesh: &MeshName, namespace: &Namespace, account: &Account) -> Self {
        Self { domain: TrustDomain::workloads(zone, mesh), path: format!("/ns/{namespace}/sa/{account}").into() }
    }

    /// Identity global gives a zone when it joins.
    pub fn zone(zone: &ZoneName) -> Self {
        Self { domain: TrustDomain::global_control(), path: format!("/zone/{zone}").into() }
    }

    /// Identity of the global control plane.
    pub fn global_cp() -> Self {
        Self { domain: TrustDomain::global_control(), path: "/global-cp".into() }
    }

    /// Identity a zone control plane shows its proxies.
    pub fn zone_cp(zone: &ZoneName) -> Self {
        Self { domain: TrustDomain::zone_control(zone), path: "/zone-cp".into() }
    }

    /// Identity of an east-west gateway.
    pub fn gateway(zone: &ZoneName, name: &Name) -> Self {
        Self { domain: TrustDomain::zone_control(zone), path: format!("/gateway/{name}").into() }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The zone's name, if this is an identity global gave to a zone.
    pub fn as_zone(&self) -> Option<ZoneName> {
        if self.domain != TrustDomain::global_control() {
            return None;
        }
        self.path.strip_prefix("/zone/")?.parse().ok()
    }

    /// Zone, mesh, namespace and account, if this is a workload.
    pub fn as_workload(&self) -> Option<(ZoneName, MeshName, Namespace, Account)> {
        let (zone, mesh) = self.domain.zone_and_mesh()?;
        let (namespace, account) = self.path.strip_prefix("/ns/")?.split_once("/sa/")?;
        Some((zone, mesh, namespace.parse().ok()?, account.parse().ok()?))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;
    fn from_str(given: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Spiffe { given: given.into() };
        let rest = given.strip_prefix("spiffe://").ok_or_else(wrong)?;
        let (domain, path) = rest.split_once('/').ok_or_else(wrong)?;
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !path.split('/').all(|segment| plain(segment) && segment != "." && segment != "..") {
            return Err(wrong());
        }
        Ok(Self { domain: domain.parse().map_err(|_| wrong())?, path: format!("/{path}").into() })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = NameError;
    fn try_from(given: String) -> Result<Self, NameError> {
        given.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> String {
        id.to_string()
    }
}

impl schemars::JsonSchema for SpiffeId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SpiffeId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^spiffe://[^/]+/.+$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "cart", "us-east-1", "9lives"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "Cart", "a.b", "a_b", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("global".parse::<ZoneName>().is_err());
    }

    #[test]
    fn a_workload_identity_takes_itself_apart_again() {
        let id: SpiffeId = "spiffe://west.default/ns/shop/sa/cart".parse().unwrap();
        let (zone, mesh, namespace, account) = id.as_workload().unwrap();
        assert_eq!(SpiffeId::workload(&zone, &mesh, &namespace, &account), id);
        for bad in ["spiffe://west.default", "http://west.default/ns/a/sa/b", "spiffe://west.default/ns/../sa/b"] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}
