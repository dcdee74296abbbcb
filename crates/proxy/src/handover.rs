//! Hot restart: the next process of this proxy takes over its sockets, its data folder and its place at the zone's
//! control plane, while requests go on. Who says what to whom is in [`process::Offer`]'s module.
//!
//! What the running process gives up while somebody asks, and takes back if that one fails: writing down configuration,
//! and calling the control plane anew. Its stream stays as it is, so that the zone sees no gap: the next process's
//! stream takes the place of this one, and readiness is carried over.

use crate::listen::open::{TCP, UDP};
use crate::state::State;
use process::{DataDir, DataDirError, HandoverError, Heir, Inherited, Offer, Process};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::Follower;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

/// Name of the data folder's lock on the line between two processes.
const LOCK: &str = "lock";
/// A look at each port of the app; see [`crate::limits::APP_CONNECT`].
const LOOKED: Duration = Duration::from_secs(2);
/// Tells a program to take over; the same as `--take-over`.
const TAKE_OVER: &str = "WEFT_TAKE_OVER";

/// Opens the data folder: with `take_over` that of a running process, if there is one.
pub async fn data_dir(
    process: &Process,
    format: u32,
    take_over: bool,
    version: &str,
) -> Result<(DataDir, Option<Inherited>), TakeOverError> {
    let folder = process.options.data_dir_or_default(process.name);
    let inherited = match take_over {
        true => Inherited::ask(&folder, process.name, version).await?,
        false => None,
    };
    let Some(mut inherited) = inherited else { return Ok((process.data_dir(format)?, None)) };
    let lock = inherited.take(LOCK).pop().ok_or(HandoverError::Confused)?;
    let data = DataDir::inherit(&folder, process.name, format, lock)?;
    tracing::info!("taking over from the process that serves");
    Ok((data, Some(inherited)))
}

/// Why a process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The other process.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// There is nothing to serve by.
    #[error("the configuration on disk cannot be served; the running process goes on")]
    Unconfigured,
}

/// Takes what was left into use, as far as that changes nothing for the process that serves.
pub fn receive(state: &State, inherited: &mut Inherited, workers: usize) {
    state.listening.inherit(inherited.take(TCP), inherited.take(UDP), workers);
}

/// The socket of the admin endpoint, if somebody left one there.
pub fn admin(state: &State, address: std::net::SocketAddr) -> Option<TcpListener> {
    state.listening.left(address, 0).pop()
}

/// Ready to serve as the process before us did; returns when the sockets are ours alone.
pub async fn complete(state: &State, inherited: Inherited, data: &DataDir) -> Result<(), TakeOverError> {
    if !state.running().is_configured() {
        return Err(TakeOverError::Unconfigured);
    }
    // So that the first word to the zone is not "unready".
    if timeout(LOOKED, state.apps.looked()).await.is_err() {
        tracing::debug!("taking over without having seen the app");
    }
    inherited.ready().await?;
    data.announce();
    tracing::info!("took over");
    Ok(())
}

/// What a running process has to give.
pub struct Giver {
    /// Its sockets.
    pub state: Arc<State>,
    /// Its data folder.
    pub data: DataDir,
    /// Its copy of the configuration.
    pub follower: Follower,
    /// Where it calls its control plane.
    pub control: watch::Sender<Vec<String>>,
}

impl Giver {
    /// Serves until the next process has everything.
    pub async fn given(self, offer: Offer) {
        loop {
            let heir = offer.next().await;
            tracing::info!(pid = heir.pid, version = heir.version, "a next process takes over");
            let known = self.control.send_replace(Vec::new());
            self.follower.leave_disk();
            match self.give(&heir).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "nothing was handed over; going on");
                    if let Err(error) = self.follower.back_to_disk() {
                        tracing::warn!(%error, "configuration is not written down");
                    }
                    self.control.send_replace(known);
                }
            }
        }
    }

    async fn give(&self, heir: &Heir) -> Result<(), HandoverError> {
        {
            let open = self.state.listening.open();
            let sockets = open.iter().map(|(name, socket)| (*name, socket.as_fd()));
            let all: Vec<_> = [(LOCK, self.data.lock())].into_iter().chain(sockets).collect();
            heir.give(&all).await?;
        }
        heir.ready().await?;
        heir.yours().await
    }
}

/// Starts the next process whenever SIGUSR2 comes, as nginx does: the same command line, told to take over. For whoever
/// runs us in a way that wants new processes to be children of old ones, such as systemd.
pub async fn on_signal() {
    let Ok(mut asked) = signal(SignalKind::user_defined2()) else { return };
    while asked.recv().await.is_some() {
        let mut words = std::env::args_os();
        let program = words.next().map_or_else(PathBuf::new, PathBuf::from);
        let mut command = tokio::process::Command::new(present(&program));
        let started = command.args(words).env(TAKE_OVER, "true").spawn();
        match started {
            Ok(mut child) => {
                tracing::info!(pid = child.id(), "started the next process");
                tokio::spawn(async move {
                    if let Ok(status) = child.wait().await {
                        tracing::warn!(%status, "the next process ended");
                    }
                });
            }
            Err(error) => tracing::warn!(program = %program.display(), %error, "cannot start the next process"),
        }
    }
}

/// The file that was started. After an upgrade the kernel only knows the old one, which is deleted.
fn present(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_path_buf();
    }
    let own = std::env::current_exe().unwrap_or_else(|_| program.to_path_buf());
    let text = own.to_string_lossy();
    text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(own)
}
