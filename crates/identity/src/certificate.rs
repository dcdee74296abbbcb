//! Reading a certificate strictly: what it says, before anybody asks whether it is true.

use api::name::SpiffeId;
use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate makes no sense to us.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Not X.509.
    #[error("certificate cannot be read: {0}")]
    Der(String),
    /// SPIFFE X.509-SVID, section 2: exactly one URI SAN.
    #[error("certificate carries {} URI names ({}) where an identity is exactly one", .0.len(), .0.join(", "))]
    ManyIdentities(Vec<String>),
    /// No URI SAN; the other names are told, they help to find out whose it is.
    #[error("certificate carries no identity: it has no URI name, {}", other_names(.0))]
    NoIdentity(Vec<String>),
    /// One URI SAN that is no identity.
    #[error("certificate carries no identity: {0}")]
    BadIdentity(#[from] api::name::NameError),
}

fn other_names(names: &[String]) -> String {
    if names.is_empty() { "nor any other name".into() } else { format!("only {}", names.join(", ")) }
}

/// What we need to know of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub id: SpiffeId,
    pub common_name: Option<String>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    /// It may sign certificates, so it is an authority's.
    pub signs: bool,
    /// Extended key usage, when present, allows both ends of a connection.
    pub both_ends: bool,
}

/// What we need to know of an authority's certificate.
pub(crate) struct Root {
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    /// Intermediates it allows below itself.
    pub path_max: Option<u32>,
}

/// Reads an authority's certificate.
pub(crate) fn root(der: &CertificateDer<'_>) -> Result<Root, Unreadable> {
    let certificate = parse(der)?;
    let (not_before, not_after) = times(&certificate);
    let constraints = certificate.basic_constraints().map_err(|error| Unreadable::Der(error.to_string()))?;
    Ok(Root { not_before, not_after, path_max: constraints.and_then(|found| found.value.path_len_constraint) })
}

/// Validity as Unix time; years before 1970 count as 1970.
fn times(certificate: &X509Certificate<'_>) -> (UnixTime, UnixTime) {
    let at = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0) as u64));
    let validity = certificate.validity();
    (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unreadable> {
    let unreadable = |why: String| Unreadable::Der(why);
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(unreadable(format!("{} bytes follow it", rest.len()))) }
}

/// Reads a leaf. The order of checks is the order of the questions a person would ask.
pub(crate) fn leaf(der: &CertificateDer<'_>) -> Result<Leaf, Unreadable> {
    let certificate = parse(der)?;
    let bad = |error: x509_parser::error::X509Error| Unreadable::Der(error.to_string());
    let mut uris = Vec::new();
    let mut others = Vec::new();
    // An error when the extension appears twice: then nobody knows which one other software would read.
    if let Some(names) = certificate.subject_alternative_name().map_err(bad)? {
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => others.push(format!("DNS {dns}")),
                other => others.push(other.to_string()),
            }
        }
    }
    let id = match uris.as_slice() {
        [uri] => uri.parse()?,
        [] => return Err(Unreadable::NoIdentity(others)),
        _ => return Err(Unreadable::ManyIdentities(uris)),
    };
    let usage = certificate.key_usage().map_err(bad)?;
    let constraints = certificate.basic_constraints().map_err(bad)?;
    let ends = certificate.extended_key_usage().map_err(bad)?;
    let (not_before, not_after) = times(&certificate);
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(Leaf {
        id,
        common_name: common_name.map(str::to_owned),
        not_before,
        not_after,
        signs: constraints.is_some_and(|found| found.value.ca)
            || usage.is_some_and(|found| found.value.key_cert_sign() || found.value.crl_sign()),
        both_ends: ends.is_none_or(|found| found.value.any || (found.value.client_auth && found.value.server_auth)),
    })
}

/// Whether it is signed by itself: an anchor, which the other side must hold already.
pub(crate) fn is_root(der: &CertificateDer<'_>) -> bool {
    parse(der).is_ok_and(|certificate| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

/// Whether it certifies this key.
pub(crate) fn is_of_key(der: &CertificateDer<'_>, key: &crate::key::KeyPair) -> bool {
    parse(der).is_ok_and(|certificate| certificate.public_key().subject_public_key.data.as_ref() == key.der_bytes())
}
