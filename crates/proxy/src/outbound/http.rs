//! Requests of the app: whom they are for, and the steps of serving one.

use super::breaker::{Share, Taken};
use super::callee::Lease;
use super::forward::{Forward, forward};
use super::tunnel;
use crate::compile::{Port, Running, Service};
use crate::edge::egress::Leaving;
use crate::edge::ingress::serve::At;
use crate::error::{Dialect, Failure};
use crate::filter::fault::Injected;
use crate::http::body::{Answer, UntilEnd};
use crate::http::entire::Entire;
use crate::http::gate::Side;
use crate::http::{deadline, filter, headers};
use crate::pool::server::Seat;
use crate::record::{Direction, Record};
use crate::vips::Named;
use crate::worker::Worker;
use api::config::ServiceRef;
use api::{RouteReason, ZoneName};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// How a request reached us.
#[derive(Clone, Debug)]
pub enum Via {
    /// By the address of the proxy: `Host` says whom it is for.
    Host,
    /// By a virtual address and port.
    Service(Named, u16),
    /// From outside, by a listener of a Gateway.
    Listener(At),
    /// From a sidecar, on its way out of the mesh.
    Egress(Leaving),
}

/// One connection of callers: how its requests reach us, and how many have.
#[derive(Debug)]
pub struct Arrival {
    via: Via,
    /// What it has under way.
    pub share: Arc<Share>,
}

impl Arrival {
    /// A new one.
    pub fn new(via: Via) -> Arc<Self> {
        Arc::new(Self { via, share: Arc::default() })
    }
}

/// What an answer holds on to until its end.
pub enum Hold {
    /// A connection to a peer.
    Peer(Box<Lease>),
    /// A connection to an external service, and what its breaker counts: the request, seldom a retry.
    Server(Seat, SmallVec<[Taken; 1]>),
}

impl UntilEnd for Hold {
    fn cut(&mut self, reason: RouteReason) {
        match self {
            Self::Peer(lease) => lease.cut(reason),
            Self::Server(..) => {}
        }
    }
}

/// Whom a request is for.
pub struct Destination<'a> {
    /// Service.
    pub service: &'a Arc<Service>,
    /// Its port.
    pub port: &'a Port,
    /// Only this zone.
    pub zone: Option<ZoneName>,
}

/// What the record says, gathered along the way.
#[derive(Debug, Default)]
pub struct Notes {
    /// Called service.
    pub service: Option<ServiceRef>,
    /// Zone that answered.
    pub zone: Option<ZoneName>,
    /// Why there.
    pub reason: Option<RouteReason>,
    /// Tries made.
    pub tries: u32,
    /// Who answered.
    pub peer: Option<Arc<str>>,
}

/// Serves one connection of the app.
pub async fn app<I>(worker: Arc<Worker>, via: Via, stream: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, arrival) = (worker.state.drain.clone(), Arrival::new(via));
    crate::http::serve::app(stream, Side::Mesh, drain, move |request| {
        let (worker, arrival) = (worker.clone(), arrival.clone());
        async move { serve(&worker, &arrival, request).await }
    })
    .await;
}

/// Serves one request.
pub async fn serve(worker: &Arc<Worker>, arrival: &Arrival, request: Request<Incoming>) -> Response<Answer<Hold>> {
    let started = Instant::now();
    let running = worker.running().clone();
    let (mut parts, body) = request.into_parts();
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let dialect = Dialect::of(&parts.headers);
    let body = match (&arrival.via, Entire::new(parts.version, body)) {
        (Via::Listener(_), body) => body.from_outside(&parts.headers),
        (_, body) => body,
    };
    let mut notes = Notes::default();
    let served = match worker.admit() {
        Ok(_under_way) => route(worker, &running, arrival, &mut parts, body, started, &mut notes).await,
        Err(refused) => Err(refused),
    };
    let response = served.unwrap_or_else(|failure| {
        notes.reason = Some(failure.reason);
        failure.answer(&dialect)
    });
    worker.cells.add(&Record {
        // The caller's own proxy counts what it sends; once is enough.
        direction: if matches!(arrival.via, Via::Egress(_)) { Direction::Inbound } else { Direction::Outbound },
        service: notes.service.as_ref(),
        zone: notes.zone.as_ref(),
        code: response.status().as_u16(),
        reason: notes.reason.unwrap_or(RouteReason::Local),
        latency: started.elapsed(),
        method: method.as_str(),
        path: uri.path(),
        tries: notes.tries,
        peer: notes.peer.as_deref().unwrap_or_default(),
    });
    response
}

async fn route(
    worker: &Arc<Worker>,
    running: &Arc<Running>,
    arrival: &Arrival,
    parts: &mut Parts,
    body: Entire,
    started: Instant,
    notes: &mut Notes,
) -> Result<Response<Answer<Hold>>, Failure> {
    if !headers::within_limits(&parts.headers) {
        return Err(Failure::new(RouteReason::BadRequest, "the request has too many or too large header fields"));
    }
    let via = &arrival.via;
    headers::one_reading(parts).map_err(Failure::refused)?;
    if parts.method == Method::CONNECT {
        return tunnel::open(worker, running, via, parts).await;
    }
    match via {
        Via::Listener(at) => at.receive(parts)?,
        Via::Egress(leaving) => leaving.admit(worker, running, parts)?,
        Via::Host | Via::Service(..) => {}
    }
    let asked = filter::authority(parts);
    let Destination { service, port, zone } = destination(running, via, asked.as_ref())?;
    notes.service = Some(service.config.service.clone());
    let (rule, matched) =
        port.rule(parts).ok_or_else(|| Failure::new(RouteReason::NoRoute, "no rule of the service's route matches"))?;
    if let Via::Listener(_) = via {
        // Counted for the service behind the Gateway, as if it had been called by name.
        notes.service = rule.backends.first().map(|backend| backend.service.clone());
    }
    if let Some((status, location)) = rule.filters.redirect(parts, matched) {
        let mut response = Response::new(Answer::text(""));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::LOCATION, location);
        return Ok(response);
    }
    let injected = match &rule.fault {
        Some(fault) => {
            let limit = rule.timeouts.request_ms.map(|ms| started + Duration::from_millis(ms));
            fault.request(worker, &parts.headers, Dialect::of(&parts.headers).is_grpc(), limit).await?
        }
        None => Injected::default(),
    };
    let patience = deadline::asked(&parts.headers);
    headers::strip_ours(&mut parts.headers);
    rule.filters.on_request(parts, matched);
    let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = match (host, asked) {
        // As it came, nearly always.
        (Some(host), Some(asked)) if host == asked.as_str() => Some(asked),
        (Some(host), asked) => host.parse().ok().or(asked),
        (None, asked) => filter::authority(parts).or(asked),
    };
    let limit = rule.timeouts.request_ms.map(Duration::from_millis).into_iter().chain(patience).min();
    let forwarded = Forward { worker, arrival, running, service, rule, zone, authority, started, limit };
    let mut response = match &service.config.external {
        Some(_) => super::external::forward(&forwarded, port, parts, body, notes).await?,
        None => forward(&forwarded, parts, body, notes).await?,
    };
    rule.filters.on_response(response.headers_mut());
    if injected.is_anything() {
        // A refusal keeps its own reason.
        let reason = HeaderValue::from_static(RouteReason::FaultInjected.as_str());
        if response.status().is_success() {
            notes.reason = Some(RouteReason::FaultInjected);
            response.headers_mut().insert(headers::REASON, reason);
        }
        return Ok(match injected.pace {
            Some(pace) => response.map(|answer| answer.at_pace(pace)),
            None => response,
        });
    }
    Ok(response)
}

/// Whom a request is for, by how it reached us and what it says.
pub fn destination<'a>(running: &'a Running, via: &Via, asked: Option<&Authority>) -> Result<Destination<'a>, Failure> {
    let called = called(running, via, asked)?;
    let Destination { service, port, .. } = &called;
    if !port.protocol.is_http() {
        let text = format!("port {} of {} carries bytes, not HTTP", port.port, service.config.service);
        return Err(Failure::new(RouteReason::NoRoute, text));
    }
    Ok(called)
}

/// Whom a request or a connection is for.
pub fn called<'a>(running: &'a Running, via: &Via, asked: Option<&Authority>) -> Result<Destination<'a>, Failure> {
    let asked = asked.map(|asked| (asked, filter::host_and_port(asked)));
    let by_host = asked.and_then(|(_, (host, _))| running.by_host(host));
    let (service, zone, number) = match via {
        Via::Host => {
            let (service, zone) = by_host.ok_or_else(|| {
                let host = asked.map_or("nobody", |(asked, _)| asked.as_str());
                let text =
                    format!("no service is called `{host}`; names are NAME.NAMESPACE.mesh, see `weft get services`");
                Failure::new(RouteReason::NoRoute, text)
            })?;
            (service, zone, asked.and_then(|(_, (_, port))| port))
        }
        Via::Listener(at) => return at.destination(running, asked.map(|(asked, _)| asked)),
        Via::Egress(leaving) => return leaving.destination(running),
        Via::Service(named, number) => {
            let service = running
                .services
                .get(&named.service)
                .ok_or_else(|| Failure::new(RouteReason::NoRoute, format!("service {} is gone", named.service)))?;
            // The host may narrow the service to a zone; it cannot change the service.
            let narrowed = by_host.filter(|(by_host, _)| by_host.config.service == named.service);
            (service, named.zone.clone().or_else(|| narrowed.and_then(|(_, zone)| zone)), Some(*number))
        }
    };
    let port = service.port(number).ok_or_else(|| {
        let has = service.ports.keys().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let asked = number.unwrap_or_default();
        Failure::new(RouteReason::NoRoute, format!("{} has no port {asked}; it has {has}", service.config.service))
    })?;
    Ok(Destination { service, port, zone })
}
