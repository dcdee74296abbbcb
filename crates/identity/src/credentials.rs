//! What a process shows of itself: a key, and the chain that says whose it is.

use crate::certificate::{self, Leaf, Unreadable};
use crate::files;
use crate::issue::IssueError;
use crate::key::{KeyError, KeyPair};
use api::name::SpiffeId;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// One file, so that a crash never leaves a key beside somebody else's certificate.
const FILE: &str = "identity.pem";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// An issuer sent nothing.
    #[error("the issuer answered with an empty certificate chain")]
    Empty,
    /// The leaf names nobody.
    #[error(transparent)]
    Leaf(#[from] Unreadable),
    /// The leaf is about another key.
    #[error("certificate of {id} is for another key than ours")]
    Mismatch {
        /// Whom the certificate names.
        id: SpiffeId,
    },
    /// Our own authority would not.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Reading or writing.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// From the system.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged.
    #[error("{path} holds no readable certificate and key; remove it and join again")]
    Damaged {
        /// Which file.
        path: String,
    },
}

/// A key and its certificate. Debug tells the identity and never the key.
#[derive(Clone)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    leaf: Leaf,
    pub(crate) with_root: Arc<CertifiedKey>,
    pub(crate) without_root: Arc<CertifiedKey>,
}

impl Credentials {
    /// Joins a chain, leaf first, with its key. Fails when they do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, CredentialsError> {
        let leaf = certificate::leaf(chain.first().ok_or(CredentialsError::Empty)?)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain.clone(), key.to_rustls(), &provider)
            .map_err(|_| CredentialsError::Mismatch { id: leaf.id.clone() })?;
        let (first, rest) = chain.split_first().ok_or(CredentialsError::Empty)?;
        let short = std::iter::once(first).chain(rest.iter().filter(|der| !certificate::is_root(der)));
        let without_root = CertifiedKey::new(short.cloned().collect(), certified.key.clone());
        Ok(Self { chain, key, leaf, with_root: Arc::new(certified), without_root: Arc::new(without_root) })
    }

    /// Leaf first, with the authority's certificate.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// Whose.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// `MESH/NAMESPACE/WORKLOAD` of a proxy.
    pub fn common_name(&self) -> Option<&str> {
        self.leaf.common_name.as_deref()
    }

    /// Valid from.
    pub fn not_before(&self) -> UnixTime {
        self.leaf.not_before
    }

    /// Valid until.
    pub fn not_after(&self) -> UnixTime {
        self.leaf.not_after
    }

    /// Writes key and chain into `directory`, readable by the owner only, atomically.
    pub fn save(&self, directory: &Path) -> Result<(), CredentialsError> {
        let path = directory.join(FILE);
        let mut text: Zeroizing<String> = self.key.to_pem();
        for certificate in &self.chain {
            text.push_str(&crate::pem::certificate(certificate));
        }
        files::write_secret(&path, text.as_bytes()).map_err(|source| file_error(&path, source))
    }

    /// What [`save`](Self::save) wrote; `None` on first start.
    pub fn load(directory: &Path) -> Result<Option<Self>, CredentialsError> {
        let path = directory.join(FILE);
        let Some(text) = files::read(&path).map_err(|source| file_error(&path, source))? else { return Ok(None) };
        let text = Zeroizing::new(text);
        let damaged = || CredentialsError::Damaged { path: path.display().to_string() };
        let key = KeyPair::from_pem(&text).map_err(|_| damaged())?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        Self::new(chain.map_err(|_| damaged())?, key).map(Some).map_err(|_| damaged())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.leaf.id.to_string())
            .field("common_name", &self.leaf.common_name)
            .field("not_after", &self.leaf.not_after.as_secs())
            .finish_non_exhaustive()
    }
}

fn file_error(path: &Path, source: std::io::Error) -> CredentialsError {
    CredentialsError::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
