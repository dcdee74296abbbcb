//! Who may be programmed: proxies whose certificate names a registered workload, and the identity that workload has.

use crate::authorities::{Authorities, workload_key};
use crate::program::Installed;
use crate::registry::{CONFIG, Opened, REPORT, Registry};
use api::sync_v1::Open;
use api::{Key, ZoneName};
use resolve::WorkloadEntry;
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::{Admit, Channels, Peer, Refusal, Session};
use tokio::sync::watch;
use tracing::{info, warn};

/// We have just started and know nothing yet.
const SOON: Duration = Duration::from_millis(200);
/// A refused proxy asks again: its workload may be registered anew.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Lets proxies in.
#[derive(Clone)]
pub struct Door {
    /// Our zone.
    pub zone: ZoneName,
    /// What is programmed.
    pub installed: watch::Receiver<Arc<Installed>>,
    /// Who is who.
    pub authorities: Authorities,
    /// Who is connected.
    pub registry: Registry,
}

impl Door {
    /// The workload a certificate speaks of, if certificate and registration agree.
    pub fn workload(&self, peer: &Peer) -> Result<(Key, WorkloadEntry), String> {
        let Some(id) = &peer.id else {
            return Err("a certificate of this zone is needed; begin with a workload token".into());
        };
        let name = peer.common_name.as_deref().unwrap_or_default();
        let key =
            workload_key(&self.zone, name).ok_or_else(|| format!("the certificate names no workload (`{name}`)"))?;
        let installed = self.installed.borrow().clone();
        let entry = installed.snapshot.as_ref().and_then(|snapshot| snapshot.workloads.get(&key).cloned());
        let entry = entry.ok_or_else(|| format!("workload {name} is not registered in zone {}", self.zone))?;
        let expected = self.authorities.identity(&key, &entry);
        if *id != expected {
            return Err(format!("the certificate says {id}, but workload {name} is {expected}"));
        }
        Ok((key, entry))
    }
}

impl Admit for Door {
    fn admit(&self, peer: &Peer, open: &Open) -> Result<Session, Refusal> {
        let installed = self.installed.borrow().clone();
        if installed.snapshot.is_none() {
            let reason = "this zone control plane has no policy yet; keep what you run".into();
            return Err(Refusal { reason, retry_after: Some(SOON) });
        }
        let refuse = |reason: String| {
            warn!(addr = %peer.addr, reason, "a proxy was refused");
            Refusal { reason, retry_after: Some(ASK_AGAIN) }
        };
        let (key, _) = self.workload(peer).map_err(refuse)?;
        let Some(class) = installed.views.get(&key) else {
            return Err(Refusal { reason: format!("{key} is not programmed yet"), retry_after: Some(SOON) });
        };
        let Opened { report, progress, cancel, parting } =
            self.registry.connect(&key, class.view.clone(), open.version.clone());
        info!(workload = %key, addr = %peer.addr, version = open.version, "proxy connected");
        Ok(Session {
            channels: Channels {
                publish: vec![(CONFIG.into(), class.view.clone())],
                follow: vec![(REPORT.into(), report)],
            },
            progress,
            cancel,
            guard: Box::new(parting),
        })
    }
}
