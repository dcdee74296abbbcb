//! Calls that leave the mesh through an edge gateway. The caller's identity is verified here as at any workload,
//! Authorization decides, and TLS towards the outside begins here.

use crate::compile::{Running, Service};
use crate::error::Failure;
use crate::http::path;
use crate::inbound::authorize::{Asked, Verdict, decide};
use crate::inbound::{Caller, withdrawn};
use crate::limits::PREAMBLE;
use crate::listen::handshake;
use crate::outbound::external;
use crate::outbound::http::{Arrival, Destination, Via, serve as route};
use crate::pool::transport::Carries;
use crate::record::{Direction, Record};
use crate::tcp::preamble::Preamble;
use crate::worker::Worker;
use api::RouteReason;
use api::config::{Authorization, External, ServiceRef};
use http::request::Parts;
use identity::peer_identity;
use rustls::ServerConfig;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

/// A verified caller, and the service outside that its connection is for.
#[derive(Clone, Debug)]
pub struct Leaving {
    caller: Caller,
    service: ServiceRef,
}

/// Serves one connection of a sidecar.
pub async fn serve(worker: Arc<Worker>, tls: Arc<ServerConfig>, tcp: TcpStream) {
    let stream = match handshake::accept(tls, tcp).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a caller failed the handshake"),
    };
    let Some((leaving, carries)) = leaving(&worker, &stream) else { return };
    let domain = leaving.caller.id.as_ref().map(|id| id.trust_domain().clone());
    let withdrawn = withdrawn(worker.state.clone(), domain);
    tokio::select! {
        () = carry(worker, leaving, carries, stream) => {}
        () = withdrawn => tracing::info!("a connection was cut: its caller's zone is not trusted any more"),
    }
}

/// Who calls, and for what; nobody gets further who asks for something that does not leave through us.
fn leaving(worker: &Worker, stream: &TlsStream<TcpStream>) -> Option<(Leaving, Carries)> {
    let (_, session) = stream.get_ref();
    let peer = peer_identity(session.peer_certificates())?;
    let carries = [Carries::Http, Carries::Bytes].into_iter().find(|c| session.alpn_protocol() == Some(c.alpn()))?;
    let (service, port, zone) = session.server_name().and_then(ServiceRef::parse_server_name)?;
    let leaving = Leaving { caller: Caller::new(Some(peer.id), port), service };
    let known = zone == worker.state.own.zone && leaving.outside(&worker.running()).is_ok();
    if !known {
        let caller = &leaving.caller.name;
        tracing::debug!(caller, service = %leaving.service, "a caller asked for something that does not leave here");
    }
    known.then_some((leaving, carries))
}

async fn carry(worker: Arc<Worker>, leaving: Leaving, carries: Carries, stream: TlsStream<TcpStream>) {
    match carries {
        Carries::Http => {
            let (drain, arrival) = (worker.state.drain.clone(), Arrival::new(Via::Egress(leaving)));
            crate::http::serve::peer(stream, drain, move |request| {
                let (worker, arrival) = (worker.clone(), arrival.clone());
                async move { route(&worker, &arrival, request).await }
            })
            .await;
        }
        Carries::Bytes => leaving.bytes(&worker, stream).await,
    }
}

impl Leaving {
    /// The service, as it leaves here now.
    fn outside<'a>(
        &self,
        running: &'a Running,
    ) -> Result<(&'a Arc<Service>, &'a External, &'a Authorization), Failure> {
        let service = running.services.get(&self.service);
        let found = service.and_then(|service| {
            let external = service.config.external.as_ref()?;
            Some((service, external, external.authorization.as_ref()?))
        });
        found.ok_or_else(|| {
            Failure::new(RouteReason::NoRoute, format!("{} does not leave the mesh through this gateway", self.service))
        })
    }

    /// Refuses a request that Authorization does not allow.
    pub fn admit(&self, worker: &Worker, running: &Running, parts: &mut Parts) -> Result<(), Failure> {
        path::normalise(&mut parts.uri).map_err(|error| Failure::new(RouteReason::BadRequest, error.to_string()))?;
        self.decide(worker, running, Some((parts.method.as_str(), parts.uri.path())))
    }

    fn decide(&self, worker: &Worker, running: &Running, request: Option<(&str, &str)>) -> Result<(), Failure> {
        let (_, _, authorization) = self.outside(running)?;
        let Caller { peer, name, port, .. } = &self.caller;
        let audited = |policy: &str| tracing::info!(target: "audit", policy, caller = name, "would be refused");
        match decide(authorization, peer.as_ref(), Asked { port: *port, request }, audited) {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(policy) => {
                worker.state.counters.denied(policy.unwrap_or_default());
                Err(Failure::denied(name, policy))
            }
        }
    }

    /// The rules its requests follow.
    pub fn destination<'a>(&self, running: &'a Running) -> Result<Destination<'a>, Failure> {
        let (service, ..) = self.outside(running)?;
        let number = self.caller.port;
        let no_port = || Failure::new(RouteReason::NoRoute, format!("{} has no port {number}", self.service));
        Ok(Destination { service, port: service.port(Some(number)).ok_or_else(no_port)?, zone: None })
    }

    async fn bytes(&self, worker: &Arc<Worker>, mut io: TlsStream<TcpStream>) {
        match timeout(PREAMBLE, Preamble::read(&mut io)).await {
            Ok(Ok(preamble)) if preamble.port == self.caller.port => {}
            _ => return tracing::debug!(caller = self.caller.name, "a connection of bytes began wrongly"),
        }
        let started = Instant::now();
        let running = worker.running().clone();
        let relayed = match (self.outside(&running), self.decide(worker, &running, None)) {
            (Ok((service, ..)), Ok(())) => {
                let rule = service.ports.get(&self.caller.port).and_then(|port| port.rules.first());
                let limit = Duration::from_millis(rule.map(|rule| rule.timeouts.connect_ms).unwrap_or_default());
                external::relay(worker, service, self.caller.port, |_| ready(Some(io)), limit).await.map(drop)
            }
            (Err(failure), _) | (_, Err(failure)) => Err(failure.reason),
        };
        worker.cells.add(&Record {
            direction: Direction::Inbound,
            service: Some(&self.service),
            zone: Some(&worker.state.own.zone),
            code: match relayed {
                Ok(()) => 200,
                Err(RouteReason::Denied) => 403,
                Err(_) => 503,
            },
            reason: relayed.err().unwrap_or(RouteReason::Local),
            latency: started.elapsed(),
            method: "-",
            path: "-",
            tries: 1,
            peer: &self.caller.name,
        });
    }
}
