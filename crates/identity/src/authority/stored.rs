//! An authority's file: one JSON document with keys and certificates together, so that no crash can part them.

use super::{AuthorityError, Beside, Generation, State};
use crate::certificate;
use crate::files;
use crate::key::KeyPair;
use api::name::TrustDomain;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

#[derive(Deserialize, Serialize)]
struct Document {
    domain: TrustDomain,
    sequence: u64,
    /// Unix seconds.
    stepped: u64,
    present: Entry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    number: u64,
    certificate: String,
    key: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Entry {
    fn of(generation: &Generation) -> Self {
        Self {
            number: generation.number,
            certificate: crate::pem::certificate(&generation.certificate),
            key: generation.key.to_pem().to_string(),
        }
    }

    fn read(&self) -> Result<Arc<Generation>, String> {
        let key = KeyPair::from_pem(self.key.as_bytes()).map_err(|error| error.to_string())?;
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|error| error.to_string())?;
        let root = certificate::root(&certificate).map_err(|error| error.to_string())?;
        if !certificate::is_of_key(&certificate, &key) {
            return Err(format!("key and certificate of generation {} do not belong together", self.number));
        }
        let certificate::Root { not_before, not_after, path_max: _ } = root;
        Ok(Arc::new(Generation { number: self.number, key, certificate, not_before, not_after }))
    }
}

pub(super) fn write(domain: &TrustDomain, path: &Path, state: &State) -> Result<(), AuthorityError> {
    let State { sequence, stepped, present, beside } = state;
    let (next, previous) = match beside {
        Beside::Nobody => (None, None),
        Beside::Next(generation) => (Some(Entry::of(generation)), None),
        Beside::Previous(generation) => (None, Some(Entry::of(generation))),
    };
    let present = Entry::of(present);
    let document =
        Document { domain: domain.clone(), sequence: *sequence, stepped: stepped.as_secs(), present, next, previous };
    let text = Zeroizing::new(serde_json::to_vec_pretty(&document).expect("an authority is plain data"));
    files::write_secret(path, &text).map_err(|source| AuthorityError::File {
        domain: domain.clone(),
        path: path.display().to_string(),
        source,
    })
}

pub(super) fn read(domain: &TrustDomain, path: &Path, bytes: Vec<u8>) -> Result<State, AuthorityError> {
    let damaged =
        |why: String| AuthorityError::Damaged { domain: domain.clone(), path: path.display().to_string(), why };
    let bytes = Zeroizing::new(bytes);
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let Document { domain: of, sequence, stepped, present, next, previous } = document;
    if of != *domain {
        return Err(damaged(format!("it is of {of}")));
    }
    let beside = match (next, previous) {
        (None, None) => Beside::Nobody,
        (Some(next), None) => Beside::Next(next.read().map_err(damaged)?),
        (None, Some(previous)) => Beside::Previous(previous.read().map_err(damaged)?),
        (Some(_), Some(_)) => return Err(damaged("it holds a next and a previous generation".into())),
    };
    let stepped = UnixTime::since_unix_epoch(Duration::from_secs(stepped));
    Ok(State { sequence, stepped, present: present.read().map_err(damaged)?, beside })
}
