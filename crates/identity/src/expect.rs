//! Whom a connection expects at its other end.

use api::name::{MeshName, SpiffeId, TrustDomain};
use std::fmt;
use std::sync::Arc;

/// Applied after the certificate was verified against its own domain's anchors; it never replaces that check.
#[derive(Clone)]
pub enum Expect {
    /// One of these identities. An empty list expects nobody.
    Ids(Vec<SpiffeId>),
    /// Anybody of this trust domain.
    Domain(TrustDomain),
    /// Anybody of one of these trust domains.
    Domains(Vec<TrustDomain>),
    /// Any workload of this mesh, of whichever zone.
    Mesh(MeshName),
    /// Anybody of any domain whose anchors we hold; who may do what is decided later, by the identity.
    Any,
    /// Whoever the closure takes; `what` completes "but … was expected". Its answer may change over time, so
    /// connections that use it never resume sessions.
    Fits {
        /// Who is expected, for messages.
        what: String,
        /// The decision.
        fits: Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>,
    },
}

impl Expect {
    /// Exactly this identity.
    pub fn id(id: SpiffeId) -> Self {
        Self::Ids(vec![id])
    }

    /// Whoever `fits` takes.
    pub fn fits(what: impl Into<String>, fits: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static) -> Self {
        Self::Fits { what: what.into(), fits: Arc::new(fits) }
    }

    /// Whether this identity is one of those expected.
    pub fn takes(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(id),
            Self::Domain(domain) => id.trust_domain() == domain,
            Self::Domains(domains) => domains.contains(id.trust_domain()),
            Self::Mesh(mesh) => id.as_workload().is_some_and(|(_, of, _, _)| of == *mesh),
            Self::Any => true,
            Self::Fits { fits, .. } => fits(id),
        }
    }

    /// Whether the answer for an identity never changes, so that it may be remembered in a session.
    pub(crate) fn is_fixed(&self) -> bool {
        !matches!(self, Self::Fits { .. })
    }
}

/// Completes "but … was expected here".
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[String]| match items {
            [] => f.write_str("nobody"),
            [one] => f.write_str(one),
            many => write!(f, "one of {}", many.join(", ")),
        };
        match self {
            Self::Ids(ids) => list(f, &ids.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Self::Domain(domain) => write!(f, "somebody of {domain}"),
            Self::Domains(domains) => {
                f.write_str("somebody of ")?;
                list(f, &domains.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            Self::Mesh(mesh) => write!(f, "a workload of mesh {mesh}"),
            Self::Any => f.write_str("anybody known"),
            Self::Fits { what, .. } => f.write_str(what),
        }
    }
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expect({self})")
    }
}
