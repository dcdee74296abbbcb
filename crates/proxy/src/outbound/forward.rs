//! Brings one request to a backend: choose, send, and where that is safe, again.

use super::callee::{Callee, Lease, Refused, name};
use super::hashing::Key;
use super::http::{Arrival, Hold, Notes};
use crate::compile::{Rule, Running, Service, split};
use crate::error::Failure;
use crate::filter::mirror;
use crate::http::body::{Answer, Replay};
use crate::http::entire::Entire;
use crate::http::idle::{self, Idle, Over};
use crate::http::retry::{Ended, Tries, safe};
use crate::http::upgrade;
use crate::http::{deadline, headers};
use crate::worker::Worker;
use api::config::Backend;
use api::{RouteReason, ZoneName};
use balance::{Ask, CandidateId};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A request without a time limit still ends; a day is nobody's intention.
pub const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// What all tries of one request share.
pub struct Forward<'a> {
    /// Whose connections are used.
    pub worker: &'a Arc<Worker>,
    /// How the request came.
    pub arrival: &'a Arrival,
    /// The configuration it began with; each try asks for endpoints of its own moment.
    pub running: &'a Arc<Running>,
    /// Called service.
    pub service: &'a Arc<Service>,
    /// Rule that matched.
    pub rule: &'a Arc<Rule>,
    /// Only this zone, because the caller named it.
    pub zone: Option<ZoneName>,
    /// Host the backend sees.
    pub authority: Option<Authority>,
    /// When it came.
    pub started: Instant,
    /// Its time: the rule's, or what the caller gives if that is less. `None`: no limit.
    pub limit: Option<Duration>,
}

/// A try without an answer to pass on.
struct Failed {
    ended: Ended,
    failure: Failure,
    candidate: Option<CandidateId>,
    /// The answer after all, when it is one we were told to try again and cannot.
    answer: Option<(Response<Incoming>, Lease)>,
}

/// Sends the request, and gives the answer's head with its body behind it.
pub async fn forward(
    this: &Forward<'_>,
    parts: &mut Parts,
    body: Entire,
    notes: &mut Notes,
) -> Result<Response<Answer<Hold>>, Failure> {
    let Forward { worker, running, service, rule, .. } = this;
    let backend = backend(this)?;
    let callee = worker.callee(&backend.service, backend.port);
    let admitted = callee.admit(running, &this.arrival.share, worker.now_us());
    let admitted = admitted.map_err(|open| open.failure(&backend.service))?;
    // A request with a body is sent without its wish, as one may (RFC 9110 section 7.8): bytes before the answer are its own.
    let asked = if body.is_end_stream() { upgrade::asked(parts) } else { None };
    headers::strip_hop(&mut parts.headers);
    parts.uri = absolute(parts, Scheme::HTTP, this.authority.as_ref(), service)?;
    parts.headers.remove(header::HOST);
    parts.version = Version::HTTP_2;
    let key = this.running.hashing.get(&backend.service).map(|hashing| hashing.of_request(worker, parts));
    let key = key.unwrap_or_default();
    let replay = Replay::new(body);
    if !rule.mirrors.is_empty() && asked.is_none() {
        let connect = Duration::from_millis(rule.timeouts.connect_ms);
        mirror::begin(worker, &rule.name, &rule.mirrors, connect, parts, &replay);
    }
    let deadline = this.started + this.limit.unwrap_or(NO_LIMIT);
    let mut tries = Tries::default();
    let mut tried: SmallVec<[CandidateId; 4]> = SmallVec::new();
    let mut retrying = None;
    loop {
        notes.tries += 1;
        let sending = attempt(this, &callee, backend, parts, key.hash, &asked, &replay, &tried, deadline);
        let failed = match sending.await {
            Ok((response, mut lease)) => {
                lease.hold(retrying.into_iter().chain([admitted]));
                return Ok(answer(this, response, lease, key, asked, &replay, notes));
            }
            Err(failed) => failed,
        };
        // The retry is over; what it took is free for the next one.
        drop(retrying.take());
        let Failed { ended, failure, candidate, answer: last } = failed;
        let may = Instant::now() < deadline && safe(ended, &parts.method, &rule.retry, replay.replayable());
        let take = || {
            retrying = callee.take_retry(&rule.retry, worker.now_us());
            retrying.is_some()
        };
        let pause = if may { tries.again(ended, &rule.retry, take, worker.chance()) } else { None };
        let Some(pause) = pause else {
            return match last {
                Some((response, mut lease)) => {
                    lease.hold([admitted]);
                    Ok(answer(this, response, lease, key, asked, &replay, notes))
                }
                None => Err(failure),
            };
        };
        drop(last);
        tried.extend(candidate);
        tracing::debug!(service = %service.config.service, ?ended, tries = notes.tries, text = failure.text, "trying again");
        if !pause.is_zero() {
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }
}

fn backend<'a>(this: &'a Forward<'_>) -> Result<&'a Backend, Failure> {
    let Forward { worker, running, rule, zone, .. } = this;
    let ready = |backend: &Backend| {
        let only = zone.as_ref().or(backend.zone.as_ref());
        running.places.get(&backend.service).is_some_and(|places| places.ready(only) > 0)
    };
    split(&rule.backends, ready, worker.chance()).ok_or_else(|| {
        Failure::new(RouteReason::NoEndpoint, format!("rule {} has no backend with a weight", rule.name))
    })
}

/// The URI that HTTP/2 wants.
pub fn absolute(
    parts: &Parts,
    scheme: Scheme,
    authority: Option<&Authority>,
    service: &Service,
) -> Result<Uri, Failure> {
    let mut uri = parts.uri.clone().into_parts();
    uri.scheme = Some(scheme);
    uri.authority = match authority {
        Some(authority) => Some(authority.clone()),
        None => service.config.service.host(None).parse().ok(),
    };
    if uri.path_and_query.is_none() {
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    Uri::from_parts(uri).map_err(|_| Failure::new(RouteReason::BadRequest, "the request names no valid host and path"))
}

#[allow(clippy::too_many_arguments)] // One try is all of these; a struct would only rename them.
async fn attempt(
    this: &Forward<'_>,
    callee: &Arc<Callee>,
    backend: &Backend,
    parts: &Parts,
    hash: Option<u64>,
    asked: &Option<upgrade::Asked>,
    replay: &Replay,
    tried: &[CandidateId],
    deadline: Instant,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Forward { worker, rule, zone, .. } = this;
    let running = worker.running().clone();
    let limits = &rule.timeouts;
    let zone = zone.as_ref().or(backend.zone.as_ref());
    let ask = Ask { zone, tried, hash, precious: !parts.method.is_idempotent() };
    let connect = Duration::from_millis(limits.connect_ms).min(deadline.saturating_duration_since(Instant::now()));
    let mut lease = callee.lease(worker, &running, &ask, connect).await.map_err(|refused| match refused {
        Refused::Nobody(reason) => Failed {
            ended: Ended::Nobody,
            failure: Failure::new(reason, format!("{} ({})", reason.about(), backend.service)),
            candidate: None,
            answer: None,
        },
        Refused::NoRoom(open) => {
            Failed { ended: Ended::NoRoom, failure: open.failure(&backend.service), candidate: None, answer: None }
        }
        Refused::Connect { id, error } => Failed {
            ended: Ended::Unsent,
            failure: Failure::new(error.reason(), format!("{}: {error}", backend.service)),
            candidate: Some(id),
            answer: None,
        },
    })?;
    let id = lease.choice.id;
    let try_deadline = match limits.per_try_ms {
        Some(ms) => deadline.min(Instant::now() + Duration::from_millis(ms)),
        None => deadline,
    };
    let mut request = upgrade::outgoing(parts, asked, replay.next_try());
    if this.limit.is_some() || limits.per_try_ms.is_some() {
        deadline::tell(request.headers_mut(), try_deadline.saturating_duration_since(Instant::now()));
    }
    let (idle, moved) = (Duration::from_millis(limits.idle_ms), replay.moved());
    let response = match idle::head(lease.send(request), try_deadline, idle, moved.as_deref()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            if let Some(broken) = replay.broken() {
                lease.blameless();
                return Err(Failed { ended: Ended::Nobody, failure: broken.failure(), candidate: None, answer: None });
            }
            let ended = if error.unsent { Ended::Unsent } else { Ended::Broken };
            let who = name(&lease.choice.candidate);
            let text = match error.hung {
                true => format!("{who} of {} showed no sign of life", backend.service),
                false => format!("{who} of {}: {}", backend.service, error.text),
            };
            // A connection that closed in good order says nothing about its peer: that one may be asked again.
            let candidate = (!error.unsent || error.hung).then_some(id);
            return Err(Failed {
                ended,
                failure: Failure::new(RouteReason::UpstreamReset, text),
                candidate,
                answer: None,
            });
        }
        Err(Over::Idle) => {
            // Where the caller owes the rest of its request, the endpoint is not to blame.
            if !replay.owed() {
                lease.late();
            }
            let text = format!("nothing moved between the caller and {} for {} ms", backend.service, limits.idle_ms);
            let failure = Failure::new(RouteReason::StreamIdle, text);
            return Err(Failed { ended: Ended::Idle, failure, candidate: Some(id), answer: None });
        }
        Err(Over::Late) => {
            lease.late();
            let ms = this.started.elapsed().as_millis();
            let text = format!("{} did not answer within {ms} ms", backend.service);
            let failure = Failure::new(RouteReason::RequestTimeout, text);
            return Err(Failed { ended: Ended::Late, failure, candidate: Some(id), answer: None });
        }
    };
    let status = response.status();
    let ended = match never_reached_the_app(&response) {
        true => Ended::Unsent,
        false if rule.retry.on_status.contains(&status.as_u16()) => Ended::Status(status),
        false => return Ok((response, lease)),
    };
    let failure = Failure::new(RouteReason::UpstreamReset, format!("{} answered {status}", backend.service));
    Err(Failed { ended, failure, candidate: Some(id), answer: Some((response, lease)) })
}

/// The peer's proxy answered, because it could not or would not bring the request to its app. Nobody but a proxy can
/// say so: they take `weft-` headers away from what apps answer.
fn never_reached_the_app(response: &Response<Incoming>) -> bool {
    let told = response.headers().get(headers::REASON).map(HeaderValue::as_bytes);
    let reasons = [RouteReason::AppUnreachable, RouteReason::Overloaded];
    response.status() == StatusCode::SERVICE_UNAVAILABLE
        && told.is_some_and(|told| reasons.iter().any(|reason| reason.as_str().as_bytes() == told))
}

fn answer(
    this: &Forward<'_>,
    mut response: Response<Incoming>,
    lease: Lease,
    key: Key,
    asked: Option<upgrade::Asked>,
    replay: &Replay,
    notes: &mut Notes,
) -> Response<Answer<Hold>> {
    let choice = &lease.choice;
    let reason = match choice.reason {
        _ if notes.tries > 1 => RouteReason::RetryElsewhere,
        RouteReason::Local if this.rule.backends.len() > 1 => RouteReason::Split,
        reason => reason,
    };
    let fields = response.headers_mut();
    let told = fields
        .remove(headers::REASON)
        .and_then(|told| RouteReason::ALL.iter().copied().find(|reason| reason.as_str().as_bytes() == told.as_bytes()));
    headers::strip_hop(fields);
    if this.worker.state.answer_headers {
        fields.insert(headers::ZONE, headers::value(choice.zone.as_str()));
    } else {
        fields.remove(headers::WORKLOAD);
    }
    // A refusal keeps the reason its proxy gave; an answer from an unusual place says why it came from there.
    if let Some(shown) = told.or((reason != RouteReason::Local).then_some(reason)) {
        fields.insert(headers::REASON, HeaderValue::from_static(shown.as_str()));
    }
    notes.reason = Some(told.unwrap_or(reason));
    notes.zone = Some(choice.zone.clone());
    notes.peer = Some(name(&choice.candidate));
    let (mut parts, body) = response.into_parts();
    let body = Entire::new(parts.version, body);
    parts.version = Version::HTTP_11;
    let idle = Duration::from_millis(this.rule.timeouts.idle_ms);
    let hold = match asked {
        None => Some(lease),
        Some(asked) => upgrade::answered_outbound(&mut parts, asked, idle, lease),
    };
    let body = match hold {
        None => Answer::text(""),
        Some(lease) => Answer::upstream(body, Hold::Peer(lease.into())).watched(Idle::new(idle, replay.moved())),
    };
    let mut response = Response::from_parts(parts, body);
    key.told(&mut response);
    response
}
