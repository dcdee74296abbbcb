//! Certificates of listeners: files on this host, read again when they change. Keys never leave it.
//!
//! `FOLDER/NAMESPACE/NAME/tls.crt` and `tls.key`, PEM: what a mounted Kubernetes Secret looks like. A pair that cannot be
//! read leaves the one before in place, and is told.

use super::about_certificate;
use crate::limits::CERTIFICATE_BYTES_MAX;
use crate::state::State;
use arc_swap::ArcSwap;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

/// Files of one pair change one after the other.
const GATHER: Duration = Duration::from_millis(200);

/// What is shown, by `NAMESPACE/NAME`.
pub struct Certificates {
    folder: PathBuf,
    held: ArcSwap<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Nothing read yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, held: ArcSwap::default() }
    }

    /// The pair of this name.
    pub fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.held.load().get(name).cloned()
    }

    /// Reads what listeners need, and again when it changes, until the proxy drains.
    pub async fn keep(&self, state: &State) {
        let mut changed = state.changed();
        loop {
            changed.borrow_and_update();
            let running = state.running().clone();
            let hosts = running.listeners.values().flat_map(|listener| listener.hosts());
            let wanted: BTreeSet<String> = hosts.filter_map(|host| host.certificate.clone()).collect();
            // Watched before it is read, so that no change falls in between.
            let watch = self.watch(&wanted);
            self.read(state, &wanted);
            let touched = async {
                match &watch {
                    Ok(watch) => drop(watch.readable().await),
                    Err(error) => {
                        tracing::warn!(%error, "certificates are not watched; restart the gateway after changing them");
                        std::future::pending().await
                    }
                }
            };
            tokio::select! {
                () = state.drain.cancelled() => return,
                () = touched, if !wanted.is_empty() => sleep(GATHER).await,
                more = changed.changed() => if more.is_err() { return },
            }
        }
    }

    fn read(&self, state: &State, wanted: &BTreeSet<String>) {
        let before = self.held.load_full();
        let mut now = BTreeMap::new();
        let mut news = false;
        for name in wanted {
            let problem = match pair(&self.folder.join(name)) {
                Ok(pair) => {
                    now.insert(name.clone(), Arc::new(pair));
                    None
                }
                Err(what) => Some(match before.get(name) {
                    Some(held) => {
                        now.insert(name.clone(), held.clone());
                        format!("{what}; the certificate read before is still shown")
                    }
                    None => what,
                }),
            };
            news |= state.listener_problems.set(&about_certificate(name), problem);
        }
        self.held.store(Arc::new(now));
        let about: BTreeSet<String> = wanted.iter().map(|name| about_certificate(name)).collect();
        state.listener_problems.keep(|name| !name.starts_with("certificate ") || about.contains(name));
        if news {
            state.tell();
        }
    }

    /// Watches each folder, or the nearest above that is there.
    fn watch(&self, wanted: &BTreeSet<String>) -> io::Result<Receiver> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ATTRIB;
        for name in wanted {
            let folder = self.folder.join(name);
            let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
            inotify.add_watch(there, changes)?;
        }
        // Not a pipe, but read like one: any byte means that something changed.
        Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))
    }
}

/// A pair, or why not.
fn pair(folder: &Path) -> Result<CertifiedKey, String> {
    let text = |file: &str| {
        let path = folder.join(file);
        bounded(&path)
            .map(|text| (text, path.display().to_string()))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let ((certificate, certificate_path), (key, key_path)) = (text("tls.crt")?, text("tls.key")?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let chain = chain.map_err(|error| format!("{certificate_path} is no PEM certificate: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{certificate_path} holds no certificate"));
    }
    // The error names no part of the key.
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| format!("{key_path} holds no private key in PEM"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key =
        provider.key_provider.load_private_key(key).map_err(|_| format!("the key in {key_path} cannot be used"))?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match().map_err(|error| format!("{certificate_path} and {key_path} do not belong together: {error}"))?;
    Ok(pair)
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CERTIFICATE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > CERTIFICATE_BYTES_MAX { Err(io::Error::other("the file is too long")) } else { Ok(bytes) }
}
