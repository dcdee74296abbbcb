//! Credentials that are exchanged while connections come and go.

use crate::credentials::Credentials;
use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The present credentials of a process. Cheap to clone; clones see every replacement.
///
/// A handshake under way finishes with what it began with; the next one uses the new certificate. Connections stay.
#[derive(Clone, Debug)]
pub struct LiveCredentials {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    present: ArcSwap<Credentials>,
    replacements: AtomicU64,
}

impl LiveCredentials {
    /// Begins with these.
    pub fn new(credentials: Credentials) -> Self {
        let present = ArcSwap::from_pointee(credentials);
        Self { shared: Arc::new(Shared { present, replacements: AtomicU64::new(0) }) }
    }

    /// From now on, these. Sessions that could be resumed are dropped.
    pub fn replace(&self, credentials: Credentials) {
        self.shared.present.store(Arc::new(credentials));
        self.shared.replacements.fetch_add(1, Ordering::Release);
    }

    /// What the next handshake shows.
    pub fn current(&self) -> Arc<Credentials> {
        self.shared.present.load_full()
    }

    /// How often they were replaced.
    pub fn replacements(&self) -> u64 {
        self.shared.replacements.load(Ordering::Acquire)
    }
}

/// Which certificates go with the leaf.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chain {
    /// A newcomer knows only the root's hash, so it must see the root.
    WithRoot,
    /// A member holds the anchors: some 450 bytes less in each handshake.
    WithoutRoot,
}

#[derive(Debug)]
pub(crate) struct Shown {
    pub credentials: LiveCredentials,
    pub chain: Chain,
}

impl Shown {
    fn certified(&self) -> Arc<CertifiedKey> {
        let present = self.credentials.shared.present.load();
        match self.chain {
            Chain::WithRoot => present.with_root.clone(),
            Chain::WithoutRoot => present.without_root.clone(),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
