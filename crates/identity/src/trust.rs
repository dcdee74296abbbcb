//! Which authorities speak for which trust domain. Nothing here is ever a union of them.

use crate::certificate;
use crate::files;
use api::config::Trust;
use api::name::TrustDomain;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Anchors of one domain: previous, present and next authority during a rotation. More is somebody's mistake.
const ANCHORS_MAX: usize = 8;

/// Why a bundle was refused; what was held before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A bundle without anchors would switch a domain off by accident; leaving is explicit ([`TrustStore::remove`]).
    #[error("trust bundle of {domain} is empty; the anchors held before stay in use")]
    Empty {
        /// Whose.
        domain: TrustDomain,
    },
    /// More than a rotation can need.
    #[error("trust bundle of {domain} holds {count} anchors, at most {ANCHORS_MAX} are taken; are old ones retired?")]
    Many {
        /// Whose.
        domain: TrustDomain,
        /// As given.
        count: usize,
    },
    /// An anchor that is no certificate.
    #[error("anchor {index} of {domain} cannot be read: {why}")]
    Anchor {
        /// Whose.
        domain: TrustDomain,
        /// Counted from 1.
        index: usize,
        /// In the words of the parser.
        why: String,
    },
    /// The file of the store.
    #[error("trust file {path}: {why}")]
    File {
        /// Which file.
        path: String,
        /// What went wrong.
        why: String,
    },
}

/// Anchors of one trust domain.
#[derive(Debug)]
pub struct Anchors {
    sequence: u64,
    held: Vec<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    certificate: CertificateDer<'static>,
    usable: TrustAnchor<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
    /// Intermediates allowed below it.
    path_max: Option<u32>,
}

impl Anchors {
    fn new(
        domain: &TrustDomain,
        sequence: u64,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TrustError> {
        match certificates.len() {
            0 => return Err(TrustError::Empty { domain: domain.clone() }),
            count if count > ANCHORS_MAX => return Err(TrustError::Many { domain: domain.clone(), count }),
            _ => {}
        }
        let mut held = Vec::new();
        for (index, certificate) in certificates.into_iter().enumerate() {
            let refused = |why: String| TrustError::Anchor { domain: domain.clone(), index: index + 1, why };
            let usable = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| refused(format!("{error:?}")))?
                .to_owned();
            let certificate::Root { not_before, not_after, path_max } =
                certificate::root(&certificate).map_err(|error| refused(error.to_string()))?;
            held.push(Anchor { certificate, usable, not_before, not_after, path_max });
        }
        Ok(Self { sequence, held })
    }

    /// Grows with every change at the authority.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.held.iter().map(|anchor| &anchor.certificate)
    }

    /// webpki asks no anchor for its dates; we do, so that an authority forgotten for a quarter cannot sign for ever.
    pub(crate) fn usable_at(&self, now: UnixTime) -> Vec<TrustAnchor<'static>> {
        let valid = |anchor: &&Anchor| anchor.not_before <= now && now <= anchor.not_after;
        self.held.iter().filter(valid).map(|anchor| anchor.usable.clone()).collect()
    }

    /// webpki drops an anchor's extensions, so its own word on the length of chains is kept here.
    pub(crate) fn allows(&self, anchor: &TrustAnchor<'_>, intermediates: usize) -> bool {
        let this = |held: &&Anchor| {
            held.usable.subject == anchor.subject
                && held.usable.subject_public_key_info == anchor.subject_public_key_info
        };
        let path_max = self.held.iter().filter(this).find_map(|held| held.path_max);
        path_max.is_none_or(|max| intermediates <= max as usize)
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        self.held.iter().map(|anchor| anchor.not_after).max().expect("a bundle is never empty")
    }

    fn keeps_all_of(&self, older: &Self) -> bool {
        older.certificates().all(|certificate| self.certificates().any(|kept| kept == certificate))
    }
}

/// All trust domains known to this process. Cheap to clone; clones share their content.
#[derive(Clone, Default)]
pub struct TrustStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    domains: ArcSwap<BTreeMap<TrustDomain, Arc<Anchors>>>,
    /// How often an anchor was taken away: what was verified with it before must be verified anew.
    withdrawals: AtomicU64,
    writing: Mutex<()>,
}

impl TrustStore {
    /// Knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows one domain, by anchors that arrived with a certificate. Any published bundle of the domain replaces them.
    pub fn from_anchors(domain: TrustDomain, anchors: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let store = Self::new();
        let anchors = Anchors::new(&domain, 0, anchors)?;
        store.change(|domains| domains.insert(domain, Arc::new(anchors)));
        Ok(store)
    }

    /// Takes a bundle if it is newer than the one held. `Ok(false)` says that it is not, and nothing changed.
    ///
    /// Who may speak for which domain is the caller's to know: a zone's bundle is taken for that zone's domains only.
    pub fn set(&self, trust: &Trust) -> Result<bool, TrustError> {
        let Trust { domain, anchors, sequence } = trust;
        if self.get(domain).is_some_and(|held| held.sequence >= *sequence) {
            return Ok(false);
        }
        let mut certificates = Vec::new();
        for (index, text) in anchors.iter().enumerate() {
            let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| TrustError::Anchor {
                domain: domain.clone(),
                index: index + 1,
                why: error.to_string(),
            })?;
            certificates.push(certificate);
        }
        let fresh = Arc::new(Anchors::new(domain, *sequence, certificates)?);
        Ok(self.change(|domains| {
            let newer = domains.get(domain).is_none_or(|held| held.sequence < *sequence);
            if newer {
                domains.insert(domain.clone(), fresh);
            }
            newer
        }))
    }

    /// Forgets a domain: its certificates are refused from now on. Says whether it was known.
    pub fn remove(&self, domain: &TrustDomain) -> bool {
        self.change(|domains| domains.remove(domain).is_some())
    }

    /// Anchors of a domain.
    pub fn get(&self, domain: &TrustDomain) -> Option<Arc<Anchors>> {
        self.shared.domains.load().get(domain).cloned()
    }

    /// All domains known.
    pub fn domains(&self) -> Vec<TrustDomain> {
        self.shared.domains.load().keys().cloned().collect()
    }

    /// All bundles, as they travel.
    pub fn bundles(&self) -> Vec<Trust> {
        let domains = self.shared.domains.load();
        let bundle = |(domain, anchors): (&TrustDomain, &Arc<Anchors>)| Trust {
            domain: domain.clone(),
            anchors: anchors.certificates().map(crate::pem::certificate).collect(),
            sequence: anchors.sequence,
        };
        domains.iter().map(bundle).collect()
    }

    /// Writes all bundles (JSON, atomically), so that a restart needs nobody.
    pub fn save(&self, path: &Path) -> Result<(), TrustError> {
        let text = serde_json::to_vec_pretty(&self.bundles()).expect("bundles are plain data");
        files::write_secret(path, &text).map_err(|error| file_error(path, error))
    }

    /// Reads what [`save`](Self::save) wrote; knows nobody when there is no file.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let store = Self::new();
        let Some(text) = files::read(path).map_err(|error| file_error(path, error))? else { return Ok(store) };
        let bundles: Vec<Trust> = serde_json::from_slice(&text).map_err(|error| file_error(path, error))?;
        for trust in &bundles {
            store.set(trust)?;
        }
        Ok(store)
    }

    /// Grows when an anchor is withdrawn; additions do not count, they can make nothing false that was true.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.shared.withdrawals.load(Ordering::Acquire)
    }

    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<TrustDomain, Arc<Anchors>>) -> R) -> R {
        let _one_at_a_time = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.domains.load_full();
        let mut after = BTreeMap::clone(&before);
        let answer = change(&mut after);
        let kept = |(domain, anchors): (&TrustDomain, &Arc<Anchors>)| {
            after.get(domain).is_some_and(|present| present.keeps_all_of(anchors))
        };
        let withdrawn = !before.iter().all(kept);
        self.shared.domains.store(Arc::new(after));
        if withdrawn {
            self.shared.withdrawals.fetch_add(1, Ordering::Release);
        }
        answer
    }
}

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.domains().iter().map(TrustDomain::as_str)).finish()
    }
}

fn file_error(path: &Path, why: impl fmt::Display) -> TrustError {
    TrustError::File { path: path.display().to_string(), why: why.to_string() }
}

/// SHA-256 of a root certificate: how a newcomer recognises the authority it was told about. 64 hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Pin of this certificate.
    pub fn of(root: &CertificateDer<'_>) -> Self {
        let hash = digest(&SHA256, root);
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a pin is 64 hexadecimal digits, the SHA-256 of a root certificate")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(PinError);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| PinError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests;
