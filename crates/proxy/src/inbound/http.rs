//! A request from another proxy: who asks, may they, and on to the app.

use super::Caller;
use super::app::AppError;
use super::authorize::{Asked, Verdict, decide};
use crate::compile::Running;
use crate::error::{Dialect, Failure};
use crate::filter::pace::Pace;
use crate::filter::rate_limit::{self, What};
use crate::http::body::{Answer, Outgoing};
use crate::http::entire::Entire;
use crate::http::{deadline, headers, path, upgrade};
use crate::pool::server::Seat;
use crate::record::{Direction, Record};
use crate::worker::Worker;
use api::RouteReason;
use api::config::Inbound;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An upgraded connection without a byte in either direction (Envoy's stream default).
const UPGRADED_IDLE: Duration = Duration::from_secs(300);

/// Serves one request.
pub async fn serve(worker: &Arc<Worker>, caller: &Caller, request: Request<Incoming>) -> Response<Answer<Seat>> {
    let started = Instant::now();
    let running = worker.running().clone();
    let (parts, body) = request.into_parts();
    let body = Entire::new(parts.version, body);
    let (method, uri, dialect) = (parts.method.clone(), parts.uri.clone(), Dialect::of(&parts.headers));
    // Proxies take the mark away from what apps send, so only a proxy can have set it.
    let mirrored = caller.id.is_some() && parts.headers.contains_key(headers::MIRROR);
    let inbound = running.inbound.as_ref();
    let admitted = worker.admit();
    let served = match (inbound, &admitted) {
        (_, Err(refused)) => Err(refused.clone()),
        (Some(inbound), Ok(_)) => admit(worker, caller, &running, inbound, parts, body, started).await,
        (None, Ok(_)) => Err(Failure::new(RouteReason::NoRoute, "this proxy has no configuration yet")),
    };
    let mut reason = if mirrored { RouteReason::Mirrored } else { RouteReason::Local };
    let mut response = served.unwrap_or_else(|failure| {
        reason = failure.reason;
        failure.answer(&dialect)
    });
    worker.state.load.tell(response.headers_mut());
    if worker.state.answer_headers {
        response.headers_mut().insert(headers::WORKLOAD, headers::value(&worker.state.own.workload));
    }
    worker.cells.add(&Record {
        direction: Direction::Inbound,
        service: inbound.and_then(|inbound| inbound.service.as_ref()),
        zone: Some(&worker.state.own.zone),
        code: response.status().as_u16(),
        reason,
        latency: started.elapsed(),
        method: method.as_str(),
        path: uri.path(),
        tries: 1,
        peer: &caller.name,
    });
    upgrade::ignored(&mut response);
    response
}

async fn admit(
    worker: &Arc<Worker>,
    caller: &Caller,
    running: &Running,
    inbound: &Inbound,
    mut parts: Parts,
    body: Entire,
    started: Instant,
) -> Result<Response<Answer<Seat>>, Failure> {
    let bad = |text: String| Failure::new(RouteReason::BadRequest, text);
    if !headers::within_limits(&parts.headers) {
        return Err(bad("the request has too many or too large header fields".into()));
    }
    headers::one_reading(&parts).map_err(Failure::refused)?;
    let port = caller.target(inbound).ok_or_else(|| {
        Failure::new(RouteReason::NoRoute, format!("port {} is not one of this workload", caller.port))
    })?;
    let wanted = upgrade::wanted(&mut parts);
    if parts.method == Method::CONNECT {
        return Err(bad("CONNECT is not served here".into()));
    }
    // A question about the whole server has no path (RFC 9110 section 9.3.7).
    if parts.method != Method::OPTIONS || parts.uri.path() != "*" {
        path::normalise(&mut parts.uri).map_err(|error| bad(error.to_string()))?;
    }
    let asked = Asked { port: caller.port, request: Some((parts.method.as_str(), parts.uri.path())) };
    let audited = |policy: &str| tracing::info!(target: "audit", policy, caller = caller.name, "would be refused");
    match decide(&inbound.authorization, caller.peer.as_ref(), asked, audited) {
        Verdict::Allowed => {}
        Verdict::Denied(policy) => {
            worker.state.counters.denied(policy.unwrap_or_default());
            return Err(Failure::denied(&caller.name, policy));
        }
    }
    let limits = running.rate_limits.about(caller.id.as_ref(), asked);
    if !limits.is_empty() {
        rate_limit::admit(&limits, What::Request, caller.id.as_ref(), worker.now_us())?;
    }
    let mirror = parts.headers.remove(headers::MIRROR).filter(|_| caller.id.is_some());
    let left = deadline::left(&parts.headers);
    headers::strip_ours(&mut parts.headers);
    headers::strip_hop(&mut parts.headers);
    if let Some(left) = left {
        // For the app, that may pass it on to whom it calls in turn.
        deadline::tell(&mut parts.headers, left.saturating_sub(started.elapsed()));
    }
    if let Some(mirror) = mirror {
        parts.headers.insert(headers::MIRROR, mirror);
    }
    if let Some(id) = &caller.header {
        parts.headers.insert(headers::PEER, id.clone());
    }
    let http2 = !matches!(port.protocol, api::kinds::Protocol::Http | api::kinds::Protocol::Tcp);
    for_app(&mut parts, http2);
    if let Some(wanted) = &wanted {
        upgrade::ask_app(&mut parts.headers, wanted);
    }
    let body = if wanted.is_some() { Outgoing::Empty } else { Outgoing::Once(body) };
    let sending = worker.apps.send(worker, port.target, http2, Request::from_parts(parts, body));
    let sent = match left {
        None => sending.await,
        Some(left) => timeout_at(started + left, sending).await.map_err(|_| {
            let text =
                format!("the app on port {} did not answer in the {} ms its caller had", port.target, left.as_millis());
            Failure::new(RouteReason::RequestTimeout, text)
        })?,
    };
    let (response, lease) = sent.map_err(|error| refused(error, port.target))?;
    let (mut parts, body) = response.into_parts();
    let body = Entire::new(parts.version, body);
    headers::strip_ours(&mut parts.headers);
    let hold = match wanted {
        None => Some(lease),
        Some(wanted) => upgrade::answered_inbound(&mut parts, wanted, UPGRADED_IDLE, lease),
    };
    headers::strip_hop(&mut parts.headers);
    parts.version = Version::HTTP_2;
    let body = match (hold, Pace::shared(&worker.state, &limits, caller.id.as_ref())) {
        (None, _) => Answer::text(""),
        (Some(lease), None) => Answer::upstream(body, lease),
        (Some(lease), Some(pace)) => Answer::paced(body, pace, Some(lease)),
    };
    Ok(Response::from_parts(parts, body))
}

/// The form the app's protocol wants: origin form and `Host` for HTTP/1.1, an absolute URI for HTTP/2.
fn for_app(parts: &mut Parts, http2: bool) {
    let authority = parts.uri.authority().cloned();
    if http2 {
        parts.version = Version::HTTP_2;
        return;
    }
    parts.version = Version::HTTP_11;
    headers::join_cookies(&mut parts.headers);
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        parts.headers.insert(HOST, host);
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
}

fn refused(error: AppError, port: u16) -> Failure {
    match error {
        AppError::Unreachable(error) => Failure::new(
            RouteReason::AppUnreachable,
            format!("the app does not accept connections on port {port}: {error}"),
        ),
        AppError::Caller(broken) => broken.failure(),
        AppError::Broken(error) => {
            Failure::new(RouteReason::UpstreamReset, format!("the app on port {port} broke off: {error}"))
        }
    }
}
