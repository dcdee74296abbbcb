//! Making a leaf: the key comes from the request, every name from the issuer's own knowledge.

use crate::authority::Generation;
use api::name::{SpiffeId, TrustDomain};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, DnsName, UnixTime};
use std::time::Duration;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// Lifetime of a leaf (Linkerd, istio ztunnel): long enough to outlast a night without an issuer.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// Clocks of hosts differ: a certificate is valid this long before it was made.
pub(crate) const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// A P-256 request is 200 bytes, with all names somebody may add still below this.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// `MESH/NAMESPACE/WORKLOAD`, three DNS labels of 63. (X.520 says 64; nobody checks, and nobody but us reads it.)
const COMMON_NAME_MAX: usize = 3 * 63 + 2;
/// DNS names in one leaf.
const DNS_NAMES_MAX: usize = 16;
/// RFC 5280 section 4.1.2.2 allows 20 bytes; CA/Browser forum asks for 8 of randomness.
const SERIAL_BYTES: usize = 16;

/// What goes into a leaf.
#[derive(Clone, Debug)]
pub struct Issue<'a> {
    /// PKCS #10, DER. Only its key and the proof of possession count; names in it are ignored.
    pub csr_der: &'a [u8],
    /// The one URI name.
    pub id: SpiffeId,
    /// `MESH/NAMESPACE/WORKLOAD` of a proxy.
    pub common_name: Option<&'a str>,
    /// For listeners that ordinary clients call by name.
    pub dns_names: &'a [&'a str],
    /// At most [`LEAF_LIFETIME`]; also never beyond the authority's own end.
    pub lifetime: Duration,
    /// Present time.
    pub now: UnixTime,
}

/// Why no certificate was made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IssueError {
    /// Not PKCS #10.
    #[error("the certificate request for {id} cannot be read: {why}")]
    Unreadable {
        /// For whom.
        id: SpiffeId,
        /// In the words of the parser.
        why: String,
    },
    /// The proof of possession fails.
    #[error("the certificate request for {id} is not signed by the key in it; was it damaged on the way?")]
    Unproven {
        /// For whom.
        id: SpiffeId,
    },
    /// Another kind of key.
    #[error("the certificate request for {id} holds no P-256 key; other keys are not issued for")]
    Key {
        /// For whom.
        id: SpiffeId,
    },
    /// Another domain's name.
    #[error("{id} is not of trust domain {domain}, and no other is issued here")]
    Domain {
        /// For whom.
        id: SpiffeId,
        /// The authority's.
        domain: TrustDomain,
    },
    /// A name that cannot be put into a certificate.
    #[error("certificate for {id}: {why}")]
    Name {
        /// For whom.
        id: SpiffeId,
        /// Which name, and why not.
        why: String,
    },
    /// Lifetime.
    #[error("certificate for {id}: {asked} s were asked, at most {} s are given", LEAF_LIFETIME.as_secs())]
    Long {
        /// For whom.
        id: SpiffeId,
        /// Seconds.
        asked: u64,
    },
    /// The authority's own certificate has ended.
    #[error("the authority of {domain} ended {seconds} s ago and cannot issue; is this host's clock right?")]
    Ended {
        /// The authority's.
        domain: TrustDomain,
        /// Since then.
        seconds: u64,
    },
    /// The library failed.
    #[error("certificate for {id} could not be signed: {why}")]
    Sign {
        /// For whom.
        id: SpiffeId,
        /// In the library's words.
        why: String,
    },
}

pub(crate) fn leaf(
    domain: &TrustDomain,
    authority: &Generation,
    issue: Issue<'_>,
) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let Issue { csr_der, id, common_name, dns_names, lifetime, now } = issue;
    if id.trust_domain() != domain {
        return Err(IssueError::Domain { id, domain: domain.clone() });
    }
    if lifetime > LEAF_LIFETIME {
        return Err(IssueError::Long { id, asked: lifetime.as_secs() });
    }
    if now >= authority.not_after {
        let seconds = now.as_secs() - authority.not_after.as_secs();
        return Err(IssueError::Ended { domain: domain.clone(), seconds });
    }
    let public = proven_key(csr_der, &id)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = names(&id, dns_names)?;
    params.distinguished_name = subject(&id, common_name)?;
    let not_after = after(now, lifetime).min(authority.not_after);
    set_validity(&mut params, before(now).max(authority.not_before), not_after);
    params.serial_number = Some(serial().map_err(|why| IssueError::Sign { id: id.clone(), why })?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let sign = |error: rcgen::Error| IssueError::Sign { id: id.clone(), why: error.to_string() };
    let issuer = Issuer::from_ca_cert_der(&authority.certificate, &authority.key).map_err(sign)?;
    let leaf = params.signed_by(&public, &issuer).map_err(sign)?;
    Ok(vec![leaf.der().clone(), authority.certificate.clone()])
}

/// The request's key, after its holder proved to have the other half.
fn proven_key(csr: &[u8], id: &SpiffeId) -> Result<SubjectPublicKeyInfo, IssueError> {
    let unreadable = |why: String| IssueError::Unreadable { id: id.clone(), why };
    if csr.len() > REQUEST_BYTES_MAX {
        return Err(unreadable(format!("{} bytes, at most {REQUEST_BYTES_MAX} are taken", csr.len())));
    }
    let (rest, request) = X509CertificationRequest::from_der(csr).map_err(|error| unreadable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(unreadable(format!("{} bytes follow it", rest.len())));
    }
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| IssueError::Key { id: id.clone() })?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(IssueError::Key { id: id.clone() });
    }
    request.verify_signature().map_err(|_| IssueError::Unproven { id: id.clone() })?;
    Ok(key)
}

fn names(id: &SpiffeId, dns_names: &[&str]) -> Result<Vec<SanType>, IssueError> {
    let refused = |why: String| IssueError::Name { id: id.clone(), why };
    if dns_names.len() > DNS_NAMES_MAX {
        return Err(refused(format!("{} DNS names, at most {DNS_NAMES_MAX} fit", dns_names.len())));
    }
    let text = id.to_string().try_into().map_err(|_| refused("the identity is not ASCII".into()))?;
    let mut names = vec![SanType::URI(text)];
    for dns in dns_names {
        let bad = || refused(format!("`{dns}` is not a DNS name"));
        DnsName::try_from(*dns).map_err(|_| bad())?;
        names.push(SanType::DnsName((*dns).try_into().map_err(|_| bad())?));
    }
    Ok(names)
}

fn subject(id: &SpiffeId, common_name: Option<&str>) -> Result<DistinguishedName, IssueError> {
    let mut subject = DistinguishedName::new();
    if let Some(name) = common_name {
        if name.is_empty() || name.len() > COMMON_NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!("`{}` cannot be a common name", name.escape_debug());
            return Err(IssueError::Name { id: id.clone(), why });
        }
        subject.push(DnType::CommonName, name);
    }
    Ok(subject)
}

pub(crate) fn before(now: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().saturating_sub(BACKDATED.as_secs())))
}

pub(crate) fn after(now: UnixTime, lifetime: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().saturating_add(lifetime.as_secs())))
}

/// Validity, in the type of rcgen's fields.
pub(crate) fn set_validity(params: &mut CertificateParams, not_before: UnixTime, not_after: UnixTime) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before.as_secs());
    params.not_after = epoch + Duration::from_secs(not_after.as_secs());
}

pub(crate) fn serial() -> Result<SerialNumber, String> {
    let mut bytes = vec![0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no randomness".to_owned())?;
    // A serial number is positive and never begins with a zero byte.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from(bytes))
}

#[cfg(test)]
mod tests;
