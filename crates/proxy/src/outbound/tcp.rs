//! Connections of bytes from the app: one mutual-TLS connection to a peer for each, tried again until it stands.

use super::breaker::Taken;
use super::callee::{identities, name};
use crate::compile::split;
use crate::error::ConnectError;
use crate::filter::fault::Injected;
use crate::filter::pace::Slowed;
use crate::limits::UNSENT_TRIES_MAX;
use crate::pool::transport::Carries;
use crate::record::{Direction, Record};
use crate::tcp::copy::{self, Copied};
use crate::tcp::preamble::Preamble;
use crate::vips::Named;
use crate::worker::Worker;
use api::{RouteReason, ZoneName};
use balance::{Ask, Candidate, CandidateId, ConnectionId, Outcome, Target};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// A standing connection to a peer, and what is to be told when it ends.
struct Standing {
    io: TlsStream<TcpStream>,
    zone: ZoneName,
    peer: Arc<str>,
    reason: RouteReason,
    told: Told,
}

/// Tells the balancer that the connection ended, however it ended.
struct Told {
    callee: Arc<super::callee::Callee>,
    worker: Arc<Worker>,
    target: Target,
    connection: Option<ConnectionId>,
    latency_us: u64,
    _taken: Taken,
}

impl Drop for Told {
    fn drop(&mut self) {
        let outcome = Outcome::Answered { latency_us: self.latency_us, status: 200 };
        self.callee.finished(self.target, self.worker.now_us(), outcome);
        if let Some(connection) = self.connection {
            self.callee.connection_closed(connection);
        }
    }
}

/// Serves one connection to one port of a service. `app` hears whether the other side stands or why not, and gives the
/// app's side, which may come only then.
pub async fn serve<I, F>(worker: &Arc<Worker>, named: &Named, port: u16, app: impl FnOnce(Result<(), RouteReason>) -> F)
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Option<I>>,
{
    let started = Instant::now();
    let running = worker.running().clone();
    let service = running.services.get(&named.service);
    let rule = service.and_then(|service| service.ports.get(&port)).and_then(|port| port.rules.first());
    let (Some(service), Some(rule)) = (service, rule) else { return drop(app(Err(RouteReason::NoRoute))) };
    let injected = match &rule.fault {
        Some(fault) => match fault.connection(worker).await {
            Ok(injected) => injected,
            Err(failure) => {
                drop(app(Err(failure.reason)));
                return aborted(worker, named, failure.reason, started.elapsed());
            }
        },
        None => Injected::default(),
    };
    if service.config.external.is_some() {
        let limit = Duration::from_millis(rule.timeouts.connect_ms);
        let relayed = super::external::relay(worker, service, port, app, limit).await;
        return worker.cells.add(&Record {
            direction: Direction::Outbound,
            service: Some(&named.service),
            zone: None,
            code: if relayed.is_ok() { 200 } else { 503 },
            reason: relayed.err().unwrap_or(RouteReason::Local),
            latency: relayed.unwrap_or_else(|_| started.elapsed()),
            method: "-",
            path: "-",
            tries: 1,
            peer: "",
        });
    }
    let ready = |backend: &api::config::Backend| {
        let only = named.zone.as_ref().or(backend.zone.as_ref());
        running.places.get(&backend.service).is_some_and(|places| places.ready(only) > 0)
    };
    let mut tries = 0;
    let standing = match split(&rule.backends, ready, worker.chance()) {
        Some(backend) => {
            let zone = named.zone.as_ref().or(backend.zone.as_ref());
            let connect = Duration::from_millis(rule.timeouts.connect_ms);
            connected(worker, backend, zone, connect, &mut tries).await
        }
        None => Err(RouteReason::NoEndpoint),
    };
    let (reason, zone, peer, latency) = match standing {
        Err(reason) => {
            tracing::debug!(service = %named.service, %reason, "no connection for an app's connection");
            drop(app(Err(reason)));
            (reason, None, Arc::default(), started.elapsed())
        }
        Ok(Standing { io, zone, peer, reason, told }) => {
            let latency = started.elapsed();
            let idle = Duration::from_millis(rule.timeouts.idle_ms);
            let copied = match (app(Ok(())).await, injected.pace) {
                (None, _) => Ok(Copied::default()),
                (Some(app), None) => copy::both(app, io, idle).await,
                (Some(app), pace) => copy::both(Slowed::new(app, pace), io, idle).await,
            };
            if let Err(error) = copied {
                tracing::debug!(service = %named.service, %error, "connection of bytes ended");
            }
            drop(told);
            (reason, Some(zone), peer, latency)
        }
    };
    worker.cells.add(&Record {
        direction: Direction::Outbound,
        service: Some(&named.service),
        code: if zone.is_some() { 200 } else { 503 },
        zone: zone.as_ref(),
        reason,
        latency,
        method: "-",
        path: "-",
        tries,
        peer: &peer,
    });
}

/// Nothing was asked for, so nothing else is known of it.
fn aborted(worker: &Worker, named: &Named, reason: RouteReason, latency: Duration) {
    worker.cells.add(&Record {
        direction: Direction::Outbound,
        service: Some(&named.service),
        code: 503,
        zone: None,
        reason,
        latency,
        method: "-",
        path: "-",
        tries: 0,
        peer: "",
    });
}

async fn connected(
    worker: &Arc<Worker>,
    backend: &api::config::Backend,
    zone: Option<&ZoneName>,
    limit: Duration,
    tries: &mut u32,
) -> Result<Standing, RouteReason> {
    let callee = worker.callee(&backend.service, backend.port);
    let taken = callee.admit_bytes(&worker.running(), worker.now_us()).map_err(|open| {
        let failure = open.failure(&backend.service);
        tracing::debug!(text = failure.text, "no room for an app's connection");
        failure.reason
    })?;
    let mut tried: SmallVec<[CandidateId; 4]> = SmallVec::new();
    loop {
        *tries += 1;
        let running = worker.running().clone();
        let hash = running.hashing.get(&backend.service).and_then(|hashing| hashing.of_connection(worker));
        let choice = callee.choose(worker, &running, &Ask { zone, tried: &tried, hash, precious: true })?;
        let began = worker.now_us();
        let server_name = backend.service.server_name(backend.port, &choice.zone);
        let through_gateway = matches!(*choice.candidate, Candidate::Gateway { .. });
        if let (true, Some(connection)) = (through_gateway, choice.connection) {
            // Offered an open HTTP/2 connection; bytes need one of their own, at the same gateway.
            tracing::trace!(?connection, "opening another connection for bytes");
        }
        if !through_gateway {
            callee.started(choice.id.into(), began);
        }
        let expected = identities(&choice.candidate);
        let address = choice.candidate.address();
        match open(worker, address, &server_name, expected, backend.port, limit).await {
            Ok(io) => {
                let now = worker.now_us();
                let connection = through_gateway.then(|| callee.connection_opened(choice.id, now));
                let target = connection.map_or_else(|| Target::from(choice.id), Target::from);
                if through_gateway {
                    callee.started(target, now);
                }
                let latency_us = now.saturating_sub(began);
                let told = Told { callee, worker: worker.clone(), target, connection, latency_us, _taken: taken };
                let reason = if *tries > 1 { RouteReason::RetryElsewhere } else { choice.reason };
                return Ok(Standing { io, zone: choice.zone, peer: name(&choice.candidate), reason, told });
            }
            Err(error) => {
                tracing::debug!(service = %backend.service, %error, "no connection");
                callee.finished(choice.id.into(), worker.now_us(), Outcome::ConnectFailed);
                if *tries > UNSENT_TRIES_MAX || tried.contains(&choice.id) {
                    return Err(error.reason());
                }
                tried.push(choice.id);
            }
        }
    }
}

async fn open(
    worker: &Worker,
    address: std::net::SocketAddr,
    server_name: &str,
    expected: &[api::SpiffeId],
    port: u16,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let mut io = worker.transport.connect(address, server_name, expected, Carries::Bytes, limit).await?;
    let preamble = Preamble { port, hops: 1, source: worker.state.own.zone.to_string() };
    io.write_all(&preamble.to_bytes()).await.map_err(|source| ConnectError::Connect { address, source })?;
    Ok(io)
}
