//! One zone as global knows it: what it told us, kept on disk, and what we tell it.

use api::ZoneName;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use sync::Absence;
use sync_grpc::{Follower, JournalError, Progress, Published};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which history of the store the zone was created in; tells a deleted zone from a store that was lost.
const HISTORY_FILE: &str = "history";

/// A zone's channels. They outlive its connections.
pub struct Uplink {
    /// Which zone.
    pub zone: ZoneName,
    /// What it offers others. On disk, so that a restarted global still passes it on.
    pub exports: Follower,
    /// What it reports of itself. Not waited for on its way to the disk: a zone that connects tells it anew.
    pub report: Follower,
    /// What it may see.
    pub policy: Published,
    /// What it acknowledged of `policy`.
    pub progress: watch::Sender<BTreeMap<String, Progress>>,
    directory: PathBuf,
    session: Mutex<CancellationToken>,
}

/// Data folders of all zones below the data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join("zones")
}

/// Zones that have a data folder, with the history they were created in.
pub fn known(data: &Path) -> std::io::Result<Vec<(ZoneName, u64)>> {
    let folder = folder(data);
    std::fs::create_dir_all(&folder)?;
    let mut zones = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(zone) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let text = std::fs::read_to_string(entry.path().join(HISTORY_FILE)).unwrap_or_default();
        if let Ok(history) = text.trim().parse() {
            zones.push((zone, history));
        }
    }
    Ok(zones)
}

impl Uplink {
    /// Opens what is kept of a zone, or begins it.
    pub fn open(data: &Path, zone: &ZoneName, lineage: sync::Lineage) -> Result<Arc<Self>, JournalError> {
        let directory = folder(data).join(zone.as_str());
        let (of, by) = (zone.clone(), zone.clone());
        if let Err(error) = std::fs::create_dir_all(&directory) {
            tracing::error!(%zone, %error, "the zone's data folder cannot be made");
        }
        let exports = Follower::durable(&directory.join("exports"), Absence::Follow)?
            .accepting(move |key, payload| control::claims::export(&of, key, payload));
        let report = Follower::kept(&directory.join("report"), Absence::Follow)?
            .accepting(move |key, payload| control::claims::report(&by, key, payload));
        Ok(Arc::new(Self {
            zone: zone.clone(),
            exports,
            report,
            policy: Published::new(lineage),
            progress: watch::Sender::new(BTreeMap::new()),
            directory,
            session: Mutex::new(CancellationToken::new()),
        }))
    }

    /// Writes down in which history the zone exists.
    pub fn remember(&self, history: u64) {
        let path = self.directory.join(HISTORY_FILE);
        if let Err(error) = process::write_atomic(&path, history.to_string().as_bytes(), 0o600) {
            tracing::warn!(zone = %self.zone, %error, "the zone's history is not written down");
        }
    }

    /// Ends the session before this one: a zone that comes back under a live connection has lost the old one.
    pub fn begin_session(&self) -> CancellationToken {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.cancel();
        *session = CancellationToken::new();
        session.clone()
    }

    /// Cuts the zone off and forgets what it told us.
    pub fn close(&self, forget: bool) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        if forget && let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(zone = %self.zone, %error, "files of a deleted zone stay behind");
        }
    }

    /// Whether it has ever been connected.
    pub fn joined(&self) -> bool {
        let link = self.report.link();
        self.report.held().lineage.is_some() || link.borrow().connected
    }
}
