//! How a zone gets its certificate: once with a join token, later with the certificate it has.

use crate::admit::zone_of;
use crate::hub::{Hub, key_of_zone};
use api::identity_v1::zones_server;
use api::identity_v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse};
use api::{SpiffeId, ZoneName};
use control::{Cache, Invitations, Issuer};
use identity::{CertificateDer, Token, TokenKind};
use std::sync::Arc;
use sync_grpc::Peer;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

/// Clocks further apart than this are worth a hint: certificates begin a little in the past for smaller ones.
const SKEW_MS_MAX: u64 = 30_000;
/// Version of this conversation.
const PROTOCOL: u32 = 1;

/// Serves `weft.identity.v1.Zones`.
#[derive(Clone)]
pub struct Joining {
    /// Tokens handed out.
    pub invitations: Arc<Invitations>,
    /// The authority that names zones.
    pub issuer: Issuer,
    /// Zones that exist.
    pub cache: Cache,
    /// Zones that may connect.
    pub hub: Hub,
}

#[tonic::async_trait]
impl zones_server::Zones for Joining {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let addr = request.extensions().get::<Peer>().map(|peer| peer.addr.to_string()).unwrap_or_default();
        let JoinRequest { protocol, version, token, csr, clock_ms } = request.into_inner();
        if protocol != PROTOCOL {
            let hint =
                format!("this control plane speaks protocol {PROTOCOL}, the zone {protocol}; use equal versions");
            return Err(Status::failed_precondition(hint));
        }
        let token: Token = token.parse().map_err(|error| refused(&addr, format!("{error}")))?;
        if token.kind != TokenKind::Join {
            return Err(refused(&addr, "this is a workload token; it is used at a zone, not at global".into()));
        }
        // The subject of the token counts only after the book has confirmed it; until then it only saves work.
        let zone: ZoneName = token.subject.parse().map_err(|error| refused(&addr, format!("{error}")))?;
        if !self.cache.now().items.contains_key(&key_of_zone(&zone)) {
            return Err(refused(&addr, format!("zone {zone} was deleted meanwhile; create it again")));
        }
        let id = SpiffeId::zone(&zone);
        let chain = self.issuer.issue(&csr, id, None).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let subject = self.invitations.redeem(&token).map_err(|error| refused(&addr, error.to_string()))?;
        if subject != zone.as_str() {
            return Err(refused(&addr, "the token does not speak about this zone".into()));
        }
        info!(%zone, addr, version, "zone joined");
        let anchors = ders(&self.issuer.authority().anchors());
        let hints = hints(clock_ms, &version);
        Ok(Response::new(JoinResponse { zone: subject, chain: ders(&chain), anchors, hints }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let zone = request.extensions().get::<Peer>().and_then(zone_of);
        let zone = zone.ok_or_else(|| Status::unauthenticated("only a zone with a certificate may renew it"))?;
        if self.hub.uplink(&zone).is_none() {
            return Err(Status::permission_denied(format!("zone {zone} was deleted; its certificate is not renewed")));
        }
        let csr = request.into_inner().csr;
        let chain = self.issuer.issue(&csr, SpiffeId::zone(&zone), None);
        let chain = chain.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let anchors = ders(&self.issuer.authority().anchors());
        Ok(Response::new(RenewResponse { chain: ders(&chain), anchors }))
    }
}

fn refused(addr: &str, reason: String) -> Status {
    warn!(addr, reason, "a zone was refused");
    Status::permission_denied(reason)
}

fn ders(certificates: &[CertificateDer<'static>]) -> Vec<bytes::Bytes> {
    certificates.iter().map(|der| bytes::Bytes::copy_from_slice(der)).collect()
}

fn hints(clock_ms: u64, version: &str) -> Vec<String> {
    let mut hints = Vec::new();
    let skew = clock_ms.abs_diff(process::clock::unix_ms());
    if clock_ms > 0 && skew > SKEW_MS_MAX {
        hints.push(format!("clocks of zone and global differ by {} s; synchronise them (NTP)", skew / 1000));
    }
    let ours = env!("CARGO_PKG_VERSION");
    if version != ours {
        hints.push(format!("the zone runs version {version}, global {ours}; upgrade the older one"));
    }
    hints
}
