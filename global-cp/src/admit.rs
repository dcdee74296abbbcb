//! Who may open a stream: zones, by the name in their certificate, as long as nobody deleted them.

use crate::hub::Hub;
use api::sync_v1::Open;
use api::{SpiffeId, ZoneName};
use std::time::Duration;
use sync_grpc::{Admit, Channels, Peer, Refusal, Session};
use tracing::info;

/// A refused zone asks again: an operator may create it anew.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// A zone that was created this moment asks again.
const SOON: Duration = Duration::from_millis(200);

/// Channel on which a zone follows what it may see.
pub const POLICY: &str = "policy";
/// Channel on which a zone publishes what it offers.
pub const EXPORTS: &str = "exports";
/// Channel on which a zone publishes how it is.
pub const REPORT: &str = "report";

/// Lets zones in.
pub struct Zones {
    /// Their uplinks.
    pub hub: Hub,
}

/// The zone's name, from the certificate and nowhere else.
pub fn zone_of(peer: &Peer) -> Option<ZoneName> {
    peer.id.as_ref().and_then(SpiffeId::as_zone)
}

impl Admit for Zones {
    fn admit(&self, peer: &Peer, open: &Open) -> Result<Session, Refusal> {
        let refuse = |reason: String| Refusal { reason, retry_after: Some(ASK_AGAIN) };
        let Some(zone) = zone_of(peer) else {
            return Err(refuse("only zones with a certificate of this control plane may connect; join first".into()));
        };
        let Some(uplink) = self.hub.uplink(&zone) else {
            if self.hub.expects(&zone) {
                return Err(Refusal { reason: format!("zone {zone} has just been created"), retry_after: Some(SOON) });
            }
            return Err(refuse(format!("zone {zone} was deleted, or never created here; create it and join again")));
        };
        let cancel = uplink.begin_session();
        info!(%zone, addr = %peer.addr, version = open.version, "zone connected");
        Ok(Session {
            channels: Channels {
                publish: vec![(POLICY.into(), uplink.policy.clone())],
                follow: vec![(EXPORTS.into(), uplink.exports.clone()), (REPORT.into(), uplink.report.clone())],
            },
            progress: uplink.progress.clone(),
            cancel,
            guard: Box::new(Parting { zone }),
        })
    }
}

/// Dropped when the stream ends.
struct Parting {
    zone: ZoneName,
}

impl Drop for Parting {
    fn drop(&mut self) {
        info!(zone = %self.zone, "zone disconnected");
    }
}
