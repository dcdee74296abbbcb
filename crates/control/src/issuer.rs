//! An authority together with the server certificate it gives its own process, both kept on disk and kept fresh.

use crate::renewal::keep_fresh;
use api::SpiffeId;
use identity::{
    Authority, AuthorityError, CertificateDer, Credentials, CredentialsError, Issue, IssueError, KeyPair,
    LEAF_LIFETIME, LiveCredentials, Pin, TrustStore, UnixTime,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How often an authority is asked whether a step of its rotation is due.
const ADVANCE_EVERY: Duration = Duration::from_secs(300);

/// An authority and what it issued to us.
#[derive(Clone)]
pub struct Issuer {
    authority: Arc<Authority>,
    /// Trusts the authority's own domain; follows its rotation.
    trust: TrustStore,
    live: LiveCredentials,
    id: SpiffeId,
    directory: Arc<PathBuf>,
}

/// Why an issuer could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Our own certificate, from disk.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Our own certificate, anew.
    #[error("cannot make a certificate for {id}: {why}")]
    Issue {
        /// Whose.
        id: SpiffeId,
        /// In the library's words.
        why: String,
    },
}

impl Issuer {
    /// Opens the authority of `id`'s trust domain in `directory` and gives `id` a certificate.
    pub fn open(directory: &Path, id: SpiffeId) -> Result<Self, IssuerError> {
        let now = UnixTime::now();
        let authority = Arc::new(Authority::load_or_create(directory, id.trust_domain().clone(), now)?);
        let trust = TrustStore::new();
        let why = |why: String| IssuerError::Issue { id: id.clone(), why };
        trust.set(&authority.trust()).map_err(|error| why(error.to_string()))?;
        // A certificate of our own is made anew at every start: it costs a millisecond and is always whole.
        let key = KeyPair::generate().map_err(|error| why(error.to_string()))?;
        let csr = key.csr().map_err(|error| why(error.to_string()))?;
        let chain = issue(&authority, &csr, id.clone(), None).map_err(|error| why(error.to_string()))?;
        let credentials = Credentials::new(chain, key)?;
        let live = LiveCredentials::new(credentials);
        Ok(Self { authority, trust, live, id, directory: Arc::new(directory.to_owned()) })
    }

    /// The authority.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Trusts the authority's domain only.
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// Our own certificate.
    pub fn live(&self) -> LiveCredentials {
        self.live.clone()
    }

    /// What a newcomer pins.
    pub fn pin(&self) -> Pin {
        Pin::of(self.authority.anchors().first().expect("an authority has a certificate"))
    }

    /// A leaf of full lifetime.
    pub fn issue(
        &self,
        csr: &[u8],
        id: SpiffeId,
        name: Option<&str>,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        issue(&self.authority, csr, id, name)
    }

    /// Keeps certificate and authority fresh; `rotated` is called after each step of a rotation.
    pub async fn run(self, rotated: impl Fn() + Send) {
        let fresh = keep_fresh(self.live.clone(), &self.directory, |csr| {
            let answer = self.issue(&csr, self.id.clone(), None);
            async move { answer }
        });
        let advance = async {
            loop {
                tokio::time::sleep(ADVANCE_EVERY).await;
                advance(&self.authority, Some(&self.trust), &rotated);
            }
        };
        tokio::join!(fresh, advance);
    }
}

/// Does the step of a rotation that is due, if one is.
pub fn advance(authority: &Authority, trust: Option<&TrustStore>, rotated: &impl Fn()) {
    match authority.advance(UnixTime::now()) {
        Ok(None) => {}
        Ok(Some(step)) => {
            info!(domain = %authority.domain(), ?step, "authority rotates");
            if let Some(Err(error)) = trust.map(|trust| trust.set(&authority.trust())) {
                warn!(%error, "own trust not updated");
            }
            rotated();
        }
        Err(error) => warn!(%error, "authority could not rotate; trying again"),
    }
}

fn issue(
    authority: &Authority,
    csr_der: &[u8],
    id: SpiffeId,
    common_name: Option<&str>,
) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let now = UnixTime::now();
    authority.issue(Issue { csr_der, id, common_name, dns_names: &[], lifetime: LEAF_LIFETIME, now })
}
