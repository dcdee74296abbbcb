//! From other proxies to the app.

pub mod app;
pub mod authorize;
pub mod health;
pub mod http;
pub mod load;
pub mod ready;
pub mod tcp;

use self::authorize::Peer;
use crate::error::{Dialect, Failure};
use crate::filter::rate_limit::{self, What};
use crate::http::headers;
use crate::limits::REFUSED_CONNECTION;
use crate::listen::handshake;
use crate::pool::transport::Carries;
use crate::state::State;
use crate::worker::Worker;
use ::http::HeaderValue;
use api::config::{Inbound, InboundPort, ServiceRef};
use api::{SpiffeId, TrustDomain};
use authorize::Asked;
use identity::peer_identity;
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// A connection of a verified caller to one port.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who calls; `None` only where plaintext is accepted.
    pub id: Option<SpiffeId>,
    /// The same taken apart, for rules.
    pub peer: Option<Peer>,
    /// The same for the app; made once for all requests of a connection.
    pub header: Option<HeaderValue>,
    /// The same for records and answers.
    pub name: String,
    /// Port, as callers name it.
    pub port: u16,
}

impl Caller {
    /// Of a connection.
    pub fn new(id: Option<SpiffeId>, port: u16) -> Self {
        let header = id.as_ref().map(|id| headers::value(&id.to_string()));
        let name = id.as_ref().map_or_else(|| "a caller without identity".to_owned(), ToString::to_string);
        Self { peer: id.as_ref().map(Peer::of), id, header, name, port }
    }

    /// The port as configured now.
    pub fn target<'a>(&self, inbound: &'a Inbound) -> Option<&'a InboundPort> {
        inbound.ports.iter().find(|port| port.port == self.port)
    }
}

/// Serves one connection on the mutual-TLS listener.
pub async fn serve(worker: Arc<Worker>, tls: Arc<ServerConfig>, tcp: TcpStream) {
    let stream = match handshake::accept(tls, tcp).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a caller failed the handshake"),
    };
    let Some((caller, carries)) = caller(&worker, &stream) else { return };
    let domain = caller.id.as_ref().map(|id| id.trust_domain().clone());
    let withdrawn = withdrawn(worker.state.clone(), domain);
    tokio::select! {
        () = carry(worker, caller, carries, stream) => {}
        () = withdrawn => tracing::info!("a connection was cut: its caller's zone is not trusted any more"),
    }
}

/// Resolves when the domain of a caller is not trusted any more; never for a caller of none.
pub(crate) async fn withdrawn(state: Arc<State>, domain: Option<TrustDomain>) {
    match domain {
        Some(domain) => state.distrusted(&domain).await,
        None => std::future::pending().await,
    }
}

async fn carry(worker: Arc<Worker>, caller: Caller, carries: Carries, stream: TlsStream<TcpStream>) {
    match carries {
        Carries::Http => {
            if let Err(failure) = counted(&worker, &caller) {
                return refuse(failure, stream).await;
            }
            let drain = worker.state.drain.clone();
            let caller = Arc::new(caller);
            crate::http::serve::peer(stream, drain, move |request| {
                let (worker, caller) = (worker.clone(), caller.clone());
                async move { http::serve(&worker, &caller, request).await }
            })
            .await;
        }
        Carries::Bytes => tcp::serve(&worker, &caller, stream).await,
    }
}

/// Counts a connection that carries requests.
fn counted(worker: &Worker, caller: &Caller) -> Result<(), Failure> {
    let limits = worker.running().rate_limits.about(caller.id.as_ref(), Asked { port: caller.port, request: None });
    rate_limit::admit(&limits, What::Connection, caller.id.as_ref(), worker.now_us())
}

/// Requests that were sent along with a connection too many hear why; then it ends.
async fn refuse(failure: Failure, stream: TlsStream<TcpStream>) {
    tracing::debug!(text = failure.text, "a connection too many");
    let end = CancellationToken::new();
    end.cancel();
    let failure = Arc::new(failure);
    let answering = crate::http::serve::peer(stream, end, move |request| {
        let failure = failure.clone();
        async move { failure.answer::<()>(&Dialect::of(request.headers())) }
    });
    let _ = timeout(REFUSED_CONNECTION, answering).await;
}

fn caller(worker: &Worker, stream: &TlsStream<TcpStream>) -> Option<(Caller, Carries)> {
    let (_, session) = stream.get_ref();
    let peer = peer_identity(session.peer_certificates())?;
    let carries = [Carries::Http, Carries::Bytes].into_iter().find(|c| session.alpn_protocol() == Some(c.alpn()));
    let running = worker.running();
    let inbound = running.inbound.as_ref()?;
    let asked = session.server_name().and_then(ServiceRef::parse_server_name);
    match (asked, carries) {
        (Some((service, port, zone)), Some(carries))
            if Some(&service) == inbound.service.as_ref() && zone == inbound.zone =>
        {
            Some((Caller::new(Some(peer.id), port), carries))
        }
        (asked, _) => {
            tracing::debug!(peer = %peer.id, ?asked, "a caller asked for something that is not here");
            None
        }
    }
}
