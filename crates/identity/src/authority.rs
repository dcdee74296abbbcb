//! The issuing key of one trust domain, and its slow change.
//!
//! A rotation has three steps. *Prepared*: the next generation exists and both are published, so that everybody can
//! learn to trust it. *Switched*: it issues; leaves of the previous one stay good. *Retired*: no such leaf can be alive
//! any more, and the previous anchor is withdrawn. At no moment is a valid leaf without a published anchor.

use crate::credentials::{Credentials, CredentialsError};
use crate::files;
use crate::issue::{self, Issue, IssueError, LEAF_LIFETIME, after, before, serial, set_validity};
use crate::key::{KeyError, KeyPair};
use crate::trust::Pin;
use api::config::Trust;
use api::name::{SpiffeId, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod stored;

/// Lifetime of an authority's certificate (cert-manager's default).
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// The next generation is prepared after this share of the lifetime, in percent: over a month remains for the steps.
const PREPARE_PERCENT: u32 = 60;
/// How long both generations are published before the new one issues: a zone that is cut off for less than this
/// meets no certificate it cannot verify.
const OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// After the switch, until the last leaf of the previous generation has ended, and an hour for slow clocks.
const RETIRE_AFTER: Duration = Duration::from_secs(LEAF_LIFETIME.as_secs() + 3_600);

/// Why an authority could not do it. State and file are as before.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key.
    #[error("authority of {domain}: {source}")]
    Key {
        /// Whose.
        domain: TrustDomain,
        /// From the key.
        #[source]
        source: KeyError,
    },
    /// Its certificate.
    #[error("authority of {domain}: its certificate could not be made: {why}")]
    Make {
        /// Whose.
        domain: TrustDomain,
        /// In the library's words.
        why: String,
    },
    /// Reading or writing.
    #[error("authority of {domain}: {path}: {source}")]
    File {
        /// Whose.
        domain: TrustDomain,
        /// Which file.
        path: String,
        /// From the system.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged. It is never replaced by itself: a new authority would cut off everybody.
    #[error("authority of {domain}: {path} is damaged: {why}; restore it from a backup, or remove it to begin anew")]
    Damaged {
        /// Whose.
        domain: TrustDomain,
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// A step of a rotation that was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The next generation is published beside the present one.
    Prepared,
    /// The next generation issues.
    Switched,
    /// The previous generation is no longer an anchor.
    Retired,
}

/// One key and its self-signed certificate, with a subject of its own: path building goes by subject, and two anchors
/// of one name would be told apart by trial only.
pub(crate) struct Generation {
    pub number: u64,
    pub key: KeyPair,
    pub certificate: CertificateDer<'static>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

/// The authority of one trust domain.
pub struct Authority {
    domain: TrustDomain,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    sequence: u64,
    /// When the latest step was done.
    stepped: UnixTime,
    present: Arc<Generation>,
    beside: Beside,
}

/// At most one neighbour: a rotation begins only after the one before has ended.
#[derive(Clone)]
enum Beside {
    Nobody,
    Next(Arc<Generation>),
    Previous(Arc<Generation>),
}

impl Authority {
    /// A new authority that lives in memory.
    pub fn create(domain: TrustDomain, now: UnixTime) -> Result<Self, AuthorityError> {
        let state = State::first(&domain, now)?;
        Ok(Self { domain, file: None, state: Mutex::new(state) })
    }

    /// The authority kept in `directory`; made there at first start. The file is readable by its owner only.
    pub fn load_or_create(directory: &Path, domain: TrustDomain, now: UnixTime) -> Result<Self, AuthorityError> {
        let file = directory.join(format!("authority-{domain}.json"));
        let file_error =
            |source| AuthorityError::File { domain: domain.clone(), path: file.display().to_string(), source };
        let held = match files::read(&file).map_err(file_error)? {
            Some(bytes) => Some(stored::read(&domain, &file, bytes)?),
            None => None,
        };
        let state = match held {
            Some(state) if now < state.present.not_after => {
                return Ok(Self { domain, file: Some(file), state: Mutex::new(state) });
            }
            Some(ended) => {
                tracing::warn!(%domain, "authority ended while this process was down; a new one takes over");
                let fresh = Generation::make(&domain, ended.present.number + 1, now)?;
                ended.step(now, Arc::new(fresh), Beside::Nobody)
            }
            None => State::first(&domain, now)?,
        };
        stored::write(&domain, &file, &state)?;
        Ok(Self { domain, file: Some(file), state: Mutex::new(state) })
    }

    /// Whose names it gives.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Present authority first, then its neighbour during a rotation.
    pub fn anchors(&self) -> Vec<CertificateDer<'static>> {
        self.state().generations().map(|generation| generation.certificate.clone()).collect()
    }

    /// Hash of the authority that issues now, for tokens.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.present().certificate)
    }

    /// The bundle to publish. Its sequence follows the clock, so that an authority that had to begin anew is newer
    /// than what the world remembers of it.
    pub fn trust(&self) -> Trust {
        let state = self.state();
        let anchors = state.generations().map(|generation| crate::pem::certificate(&generation.certificate)).collect();
        Trust { domain: self.domain.clone(), anchors, sequence: state.sequence }
    }

    /// A leaf, with the authority's certificate behind it.
    pub fn issue(&self, request: Issue<'_>) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        issue::leaf(&self.domain, &self.present(), request)
    }

    /// Key and leaf for the process that holds this authority.
    pub fn certify(
        &self,
        id: SpiffeId,
        common_name: Option<&str>,
        dns_names: &[&str],
        now: UnixTime,
    ) -> Result<Credentials, CredentialsError> {
        let key = KeyPair::generate()?;
        let csr_der = &key.csr()?;
        let chain = self.issue(Issue { csr_der, id, common_name, dns_names, lifetime: LEAF_LIFETIME, now })?;
        Credentials::new(chain, key)
    }

    /// Does the step of a rotation whose time has come, if one has. Call it every few minutes.
    pub fn advance(&self, now: UnixTime) -> Result<Option<Step>, AuthorityError> {
        let due = {
            let state = self.state();
            now >= match &state.beside {
                Beside::Nobody => after(state.present.not_before, AUTHORITY_LIFETIME * PREPARE_PERCENT / 100),
                Beside::Next(_) => after(state.stepped, OVERLAP),
                Beside::Previous(_) => after(state.stepped, RETIRE_AFTER),
            }
        };
        if due { self.rotate(now).map(Some) } else { Ok(None) }
    }

    /// Does the next step now, without waiting. For a leaked key: call until it says [`Step::Retired`]; what the old
    /// key signed is then refused, and everybody must have renewed before.
    pub fn rotate(&self, now: UnixTime) -> Result<Step, AuthorityError> {
        let mut state = self.state();
        let (step, fresh) = match state.beside.clone() {
            Beside::Nobody => {
                let next = Generation::make(&self.domain, state.present.number + 1, now)?;
                (Step::Prepared, state.step(now, state.present.clone(), Beside::Next(Arc::new(next))))
            }
            Beside::Next(next) => (Step::Switched, state.step(now, next, Beside::Previous(state.present.clone()))),
            Beside::Previous(_) => (Step::Retired, state.step(now, state.present.clone(), Beside::Nobody)),
        };
        if let Some(file) = &self.file {
            stored::write(&self.domain, file, &fresh)?;
        }
        *state = fresh;
        tracing::info!(domain = %self.domain, ?step, generation = state.present.number, "authority rotation");
        Ok(step)
    }

    /// Withdraws the previous generation, if there is one, without waiting. Says whether there was.
    pub fn retire(&self, now: UnixTime) -> Result<bool, AuthorityError> {
        let has_previous = matches!(self.state().beside, Beside::Previous(_));
        if has_previous {
            self.rotate(now)?;
        }
        Ok(has_previous)
    }

    /// Number of the generation that issues, counted from 1.
    pub fn generation(&self) -> u64 {
        self.state().present.number
    }

    pub(crate) fn present(&self) -> Arc<Generation> {
        self.state().present.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first(domain: &TrustDomain, now: UnixTime) -> Result<Self, AuthorityError> {
        let present = Arc::new(Generation::make(domain, 1, now)?);
        Ok(Self { sequence: now.as_secs().max(1), stepped: now, present, beside: Beside::Nobody })
    }

    fn step(&self, now: UnixTime, present: Arc<Generation>, beside: Beside) -> Self {
        Self { sequence: now.as_secs().max(self.sequence + 1), stepped: now, present, beside }
    }

    fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let beside = match &self.beside {
            Beside::Nobody => None,
            Beside::Next(generation) | Beside::Previous(generation) => Some(generation),
        };
        std::iter::once(&self.present).chain(beside)
    }
}

impl Generation {
    fn make(domain: &TrustDomain, number: u64, now: UnixTime) -> Result<Self, AuthorityError> {
        let make = |why: String| AuthorityError::Make { domain: domain.clone(), why };
        let key = KeyPair::generate().map_err(|source| AuthorityError::Key { domain: domain.clone(), source })?;
        let (not_before, not_after) = (before(now), after(now, AUTHORITY_LIFETIME));
        let serial = serial().map_err(make)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "Weft");
        // The serial number tells it from a generation of the same number that was lost with its disk.
        subject.push(DnType::CommonName, format!("{domain} {number} {serial}"));
        params.distinguished_name = subject;
        params.serial_number = Some(serial);
        // It signs leaves and no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, not_before, not_after);
        let certificate = params.self_signed(&key).map_err(|error| make(error.to_string()))?.der().clone();
        Ok(Self { number, key, certificate, not_before, not_after })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Authority")
            .field("domain", &self.domain.as_str())
            .field("generation", &state.present.number)
            .field("sequence", &state.sequence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
