//! How a proxy gets its certificate: once with a workload token, later with the certificate it has.

use crate::admit::Door;
use crate::authorities::workload_key;
use api::Key;
use api::identity_v1::workloads_server;
use api::identity_v1::{BootstrapRequest, BootstrapResponse, RenewRequest, RenewResponse};
use control::Invitations;
use identity::{CertificateDer, Token, TokenKind};
use resolve::WorkloadEntry;
use std::sync::Arc;
use sync_grpc::Peer;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

/// Version of this conversation.
const PROTOCOL: u32 = 1;

/// Serves `weft.identity.v1.Workloads`.
#[derive(Clone)]
pub struct Bootstrap {
    /// Who may be what.
    pub door: Door,
    /// Tokens handed out.
    pub invitations: Arc<Invitations>,
    /// Where proxies follow their configuration.
    pub addresses: Vec<String>,
}

#[tonic::async_trait]
impl workloads_server::Workloads for Bootstrap {
    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<BootstrapResponse>, Status> {
        let addr = request.extensions().get::<Peer>().map(|peer| peer.addr.to_string()).unwrap_or_default();
        let BootstrapRequest { protocol, version, token, csr, clock_ms: _ } = request.into_inner();
        if protocol != PROTOCOL {
            let hint = format!("this zone speaks protocol {PROTOCOL}, the proxy {protocol}; use equal versions");
            return Err(Status::failed_precondition(hint));
        }
        let refuse = |reason: String| {
            warn!(addr, reason, "a proxy was refused");
            Status::permission_denied(reason)
        };
        let token: Token = token.parse().map_err(|error| refuse(format!("{error}")))?;
        if token.kind != TokenKind::Workload {
            return Err(refuse("this is a join token; it is used by a zone control plane".into()));
        }
        // Signed before the token is used up, so that a bad request costs nothing; handed out only afterwards.
        let (key, entry) = self.registered(&token.subject).map_err(refuse)?;
        let chain = self.door.authorities.issue(&csr, &key, &entry).map_err(Status::invalid_argument)?;
        let subject = self.invitations.redeem(&token).map_err(|error| refuse(error.to_string()))?;
        if workload_key(&self.door.zone, &subject).as_ref() != Some(&key) {
            return Err(refuse("the token does not speak about this workload".into()));
        }
        info!(workload = %key, addr, version, "proxy got its first certificate");
        Ok(Response::new(BootstrapResponse {
            zone: self.door.zone.to_string(),
            mesh: key.mesh.clone().unwrap_or_default().to_string(),
            namespace: key.namespace.clone().unwrap_or_default().to_string(),
            workload: key.name.to_string(),
            chain: ders(&chain),
            anchors: self.anchors(),
            sync: self.addresses.clone(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("a certificate of this zone is needed"))?;
        let (key, entry) = self.door.workload(&peer).map_err(|reason| {
            warn!(addr = %peer.addr, reason, "a certificate was not renewed");
            Status::permission_denied(reason)
        })?;
        let csr = request.into_inner().csr;
        let chain = self.door.authorities.issue(&csr, &key, &entry).map_err(Status::invalid_argument)?;
        Ok(Response::new(RenewResponse { chain: ders(&chain), anchors: self.anchors() }))
    }
}

impl Bootstrap {
    fn registered(&self, subject: &str) -> Result<(Key, WorkloadEntry), String> {
        let key = workload_key(&self.door.zone, subject).ok_or_else(|| format!("`{subject}` is not a workload"))?;
        let installed = self.door.installed.borrow().clone();
        let snapshot = installed.snapshot.as_ref();
        let snapshot = snapshot.ok_or("this zone control plane has no policy yet; try again in a moment")?;
        let entry = snapshot.workloads.get(&key).cloned();
        entry.map(|entry| (key, entry)).ok_or_else(|| format!("workload {subject} is not registered (any more)"))
    }

    fn anchors(&self) -> Vec<bytes::Bytes> {
        ders(&self.door.authorities.control().authority().anchors())
    }
}

fn ders(certificates: &[CertificateDer<'static>]) -> Vec<bytes::Bytes> {
    certificates.iter().map(|der| bytes::Bytes::copy_from_slice(der)).collect()
}
