//! The verifier: exactly one identity, its own domain's anchors and no others, and somebody who is expected.
//!
//! URI name constraints are not used: rustls-webpki refuses conforming leaves under them, and choosing the anchors by
//! the identity's domain says the same without trusting an authority to constrain itself.

use crate::certificate::{self, Unreadable};
use crate::expect::Expect;
use crate::trust::{Pin, TrustStore};
use crate::words::span;
use api::name::{SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, VerifiedPath};

/// Leaf and three intermediates (rustls-webpki itself stops at six).
const CHAIN_MAX: usize = 4;
/// Bytes of a whole chain; a TLS handshake message may have 64 KiB in rustls.
const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// Who is at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerIdentity {
    /// From the URI name.
    pub id: SpiffeId,
    /// `MESH/NAMESPACE/WORKLOAD` of a proxy.
    pub common_name: Option<String>,
}

/// Which check failed, and with whom.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// Mutual TLS without the other half.
    #[error("the peer sent no certificate; is it a member of the mesh, and has it joined?")]
    Nobody,
    /// Nothing was parsed yet.
    #[error(
        "certificate chain of {count} certificates and {bytes} bytes is longer than {CHAIN_MAX} and {CHAIN_BYTES_MAX}"
    )]
    Long {
        /// Certificates sent.
        count: usize,
        /// Bytes sent.
        bytes: usize,
    },
    /// It does not say who it is.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A leaf that could sign.
    #[error("certificate of {id} belongs to an authority; an authority never stands for a workload")]
    Authority {
        /// Whom it claims to be.
        id: SpiffeId,
    },
    /// No anchors for its domain.
    #[error("certificate of {id}: no anchors of trust domain {} are known here; has that zone joined, and is it exported to us?", .id.trust_domain())]
    Domain {
        /// Whom it claims to be.
        id: SpiffeId,
    },
    /// All anchors of its domain are out of date.
    #[error("certificate of {id}: the anchors of {} expired {} ago; does trust still arrive here, and is this host's clock right?", .id.trust_domain(), span(*.seconds))]
    Anchors {
        /// Whom it claims to be.
        id: SpiffeId,
        /// Since then.
        seconds: u64,
    },
    /// Too old.
    #[error("certificate of {id} expired {} ago; is this host's clock right?", span(*.seconds))]
    Expired {
        /// Whom it claims to be.
        id: SpiffeId,
        /// Since then.
        seconds: u64,
    },
    /// Too new.
    #[error("certificate of {id} is valid only in {}; is this host's clock right?", span(*.seconds))]
    Early {
        /// Whom it claims to be.
        id: SpiffeId,
        /// Until then.
        seconds: u64,
    },
    /// Not of its own domain's authority.
    #[error("certificate of {id} is not signed by an authority of {}; either somebody else claims this identity, or its trust bundle is outdated here", .id.trust_domain())]
    Signature {
        /// Whom it claims to be.
        id: SpiffeId,
    },
    /// Sound chain, unsuitable content.
    #[error("certificate of {id} cannot be used: {why}")]
    Unfit {
        /// Whom it claims to be.
        id: SpiffeId,
        /// What is wrong with it.
        why: String,
    },
    /// Sound, but not whom this connection is for.
    #[error("certificate of {id} is sound, but {expected} was expected here")]
    Unexpected {
        /// Who it is.
        id: SpiffeId,
        /// Who was expected.
        expected: String,
    },
    /// Bootstrap only.
    #[error(
        "the server's certificates do not include the root {pin} named in the token; is this the right address, and the newest token?"
    )]
    Pin {
        /// From the token.
        pin: Pin,
    },
}

impl VerifyError {
    /// The verifier's word in a failed handshake, if it was the verifier that ended it.
    pub fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(inner))) => {
                inner.downcast_ref::<Self>().cloned()
            }
            _ => None,
        }
    }

    /// The same for the error of an IO stream over TLS.
    pub fn of_io(error: &std::io::Error) -> Option<Self> {
        Self::of(error.get_ref()?.downcast_ref()?)
    }
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(error))).into()
    }
}

/// Verifies a chain, leaf first. Pure: the caller brings the time.
pub fn verify(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    expect: &Expect,
    now: UnixTime,
) -> Result<PeerIdentity, VerifyError> {
    let (first, intermediates) = chain.split_first().ok_or(VerifyError::Nobody)?;
    let bytes = chain.iter().map(|certificate| certificate.len()).sum();
    if chain.len() > CHAIN_MAX || bytes > CHAIN_BYTES_MAX {
        return Err(VerifyError::Long { count: chain.len(), bytes });
    }
    let leaf = certificate::leaf(first)?;
    let id = leaf.id;
    if leaf.signs {
        return Err(VerifyError::Authority { id });
    }
    let Some(anchors) = trust.get(id.trust_domain()) else { return Err(VerifyError::Domain { id }) };
    if now > leaf.not_after {
        return Err(VerifyError::Expired { id, seconds: now.as_secs() - leaf.not_after.as_secs() });
    }
    if now < leaf.not_before {
        return Err(VerifyError::Early { id, seconds: leaf.not_before.as_secs() - now.as_secs() });
    }
    let usable = anchors.usable_at(now);
    if usable.is_empty() {
        return Err(VerifyError::Anchors { id, seconds: now.as_secs().saturating_sub(anchors.not_after().as_secs()) });
    }
    let unfit = |error: webpki::Error| match error {
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            VerifyError::Signature { id: id.clone() }
        }
        other => VerifyError::Unfit { id: id.clone(), why: other.to_string() },
    };
    let length = |path: &VerifiedPath<'_>| match anchors.allows(path.anchor(), path.intermediate_certificates().count())
    {
        true => Ok(()),
        false => Err(webpki::Error::PathLenConstraintViolated),
    };
    let usage = KeyUsage::client_auth();
    EndEntityCert::try_from(first)
        .map_err(unfit)?
        .verify_for_usage(ALL_VERIFICATION_ALGS, &usable, intermediates, now, usage, None, Some(&length))
        .map_err(unfit)?;
    if !leaf.both_ends {
        return Err(VerifyError::Unfit { id, why: "it may not be used at both ends of a connection".into() });
    }
    if !expect.takes(&id) {
        return Err(VerifyError::Unexpected { id, expected: expect.to_string() });
    }
    Ok(PeerIdentity { id, common_name: leaf.common_name })
}

/// Verifies a chain of which only the root's hash and the server's identity are known beforehand.
pub(crate) fn verify_pinned(
    chain: &[CertificateDer<'_>],
    pin: &Pin,
    server: &SpiffeId,
    now: UnixTime,
) -> Result<PeerIdentity, VerifyError> {
    // Bounds first: hashing is cheap, but not for a chain of any length.
    let root = chain.iter().take(CHAIN_MAX).find(|certificate| Pin::of(certificate) == *pin);
    let root = root.ok_or(VerifyError::Pin { pin: *pin })?.clone().into_owned();
    let domain: TrustDomain = server.trust_domain().clone();
    let trust = TrustStore::from_anchors(domain, vec![root]).map_err(|_| VerifyError::Pin { pin: *pin })?;
    verify(chain, &trust, &Expect::id(server.clone()), now)
}

/// Who the other side of a finished handshake is. Reads only; the handshake has verified.
pub fn peer_identity(chain: Option<&[CertificateDer<'_>]>) -> Option<PeerIdentity> {
    let leaf = certificate::leaf(chain?.first()?).ok()?;
    Some(PeerIdentity { id: leaf.id, common_name: leaf.common_name })
}

#[cfg(test)]
mod tests;
