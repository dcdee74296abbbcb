//! Services outside the mesh: one request, or one connection of bytes, to the best of their endpoints.

use super::breaker::{Limit, Taken};
use super::forward::{Forward, NO_LIMIT, absolute};
use super::http::{Hold, Notes};
use super::outside::{Endpoint, NoSeat, Outside};
use crate::compile::{Port, Service};
use crate::error::Failure;
use crate::http::body::{Answer, Replay};
use crate::http::entire::Entire;
use crate::http::idle::Idle;
use crate::http::retry::{Ended, Tries, safe};
use crate::http::{headers, upgrade};
use crate::pool::server::Seat;
use crate::tcp::copy;
use crate::worker::Worker;
use api::RouteReason;
use api::kinds::Protocol;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Response, Uri, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

/// An external connection without a byte in either direction (Envoy's TCP proxy: 1 h).
const IDLE: Duration = Duration::from_secs(3600);

/// A try without an answer to pass on.
struct Failed {
    ended: Ended,
    failure: Failure,
    /// Of the endpoint, where it is at fault.
    endpoint: Option<usize>,
    /// The answer after all, when it is one we were told to try again and cannot.
    answer: Option<(Response<Incoming>, Seat)>,
}

/// What all tries share, besides the request.
struct Call<'a> {
    this: &'a Forward<'a>,
    outside: Arc<Outside>,
    http2: bool,
    deadline: Instant,
}

/// Sends one request, and gives the answer's head with its body behind it.
pub async fn forward(
    this: &Forward<'_>,
    port: &Port,
    parts: &mut Parts,
    body: Entire,
    notes: &mut Notes,
) -> Result<Response<Answer<Hold>>, Failure> {
    let Forward { worker, service, rule, .. } = this;
    let outside = worker
        .outside(service, port.port)
        .ok_or_else(|| Failure::new(RouteReason::NoEndpoint, "the external service has no endpoint"))?;
    let admitted = outside.admit(&this.arrival.share, worker.now_us());
    let admitted = admitted.map_err(|open| open.failure(&service.config.service))?;
    let http2 = matches!(port.protocol, Protocol::Http2 | Protocol::Grpc);
    // With a body it goes without its wish; so does what extended CONNECT cannot say to strangers.
    let wishes = body.is_end_stream() && (!http2 || parts.method == Method::GET);
    let asked = if wishes { upgrade::asked(parts) } else { None };
    headers::strip_hop(&mut parts.headers);
    shape(this, parts, http2)?;
    if let (false, Some(asked)) = (http2, &asked) {
        upgrade::ask_app(&mut parts.headers, asked);
    }
    let deadline = this.started + this.limit.unwrap_or(NO_LIMIT);
    let call = Call { this, outside, http2, deadline };
    let replay = Replay::new(body);
    let mut tries = Tries::default();
    let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
    let mut retrying: Option<Taken> = None;
    loop {
        notes.tries += 1;
        let failed = match attempt(&call, parts, &asked, &replay, &tried, notes).await {
            Ok((response, seat)) => {
                let taken = retrying.into_iter().chain([admitted]).collect();
                return Ok(answer(&call, response, Hold::Server(seat, taken), asked, &replay, notes));
            }
            Err(failed) => failed,
        };
        // The retry is over; what it took is free for the next one.
        drop(retrying.take());
        let Failed { ended, failure, endpoint, answer: last } = failed;
        let may = Instant::now() < deadline && safe(ended, &parts.method, &rule.retry, replay.replayable());
        let take = || {
            retrying = call.outside.take_retry(&rule.retry, worker.now_us());
            retrying.is_some()
        };
        tried.extend(endpoint);
        // Every endpoint refused: asking again is for the caller to decide.
        let refused = ended == Ended::Unsent && endpoint.is_some() && call.outside.exhausted(&tried);
        let again = may && !refused;
        let pause = if again { tries.again(ended, &rule.retry, take, worker.chance()) } else { None };
        let Some(pause) = pause else {
            return match last {
                Some((response, seat)) => {
                    let hold = Hold::Server(seat, SmallVec::from_iter([admitted]));
                    Ok(answer(&call, response, hold, asked, &replay, notes))
                }
                None => Err(failure),
            };
        };
        drop(last);
        tracing::debug!(service = %service.config.service, ?ended, tries = notes.tries, text = failure.text, "trying again");
        if !pause.is_zero() {
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }
}

/// The form the other side wants: origin form and `Host` for HTTP/1.1, an absolute URI for HTTP/2.
fn shape(this: &Forward<'_>, parts: &mut Parts, http2: bool) -> Result<(), Failure> {
    let authority = this.authority.as_ref();
    if http2 {
        let tls = this.service.origination.is_some();
        parts.uri = absolute(parts, if tls { Scheme::HTTPS } else { Scheme::HTTP }, authority, this.service)?;
        parts.headers.remove(header::HOST);
        parts.version = Version::HTTP_2;
        return Ok(());
    }
    headers::join_cookies(&mut parts.headers);
    let held = parts.headers.get(header::HOST).map(HeaderValue::as_bytes);
    if let Some(authority) = authority.filter(|authority| held != Some(authority.as_str().as_bytes()))
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, value);
    }
    if parts.uri.authority().is_some() || parts.uri.path_and_query().is_none() {
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
    parts.version = Version::HTTP_11;
    Ok(())
}

async fn attempt(
    call: &Call<'_>,
    parts: &mut Parts,
    asked: &Option<upgrade::Asked>,
    replay: &Replay,
    tried: &[usize],
    notes: &mut Notes,
) -> Result<(Response<Incoming>, Seat), Failed> {
    let Call { this, outside, http2, deadline } = call;
    let Forward { worker, rule, service, .. } = this;
    let name = &service.config.service;
    let now = Instant::now();
    let (index, endpoint) = outside.choose(tried, worker.us(now)).ok_or_else(|| Failed {
        ended: Ended::Nobody,
        failure: Failure::new(RouteReason::NoEndpoint, format!("{name} has no endpoint")),
        endpoint: None,
        answer: None,
    })?;
    let failed = |ended, reason, text: String| Failed {
        ended,
        failure: Failure::new(reason, format!("{name}: {text}")),
        endpoint: Some(index),
        answer: None,
    };
    notes.peer = Some(endpoint.name.clone());
    let limits = &rule.timeouts;
    let connect = Duration::from_millis(limits.connect_ms).min(deadline.saturating_duration_since(now));
    let try_deadline = match limits.per_try_ms {
        Some(ms) => (*deadline).min(now + Duration::from_millis(ms)),
        None => *deadline,
    };
    let (response, seat) = loop {
        let mut seat =
            outside.seat(endpoint, this.authority.as_ref(), *http2, connect).await.map_err(|error| match error {
                NoSeat::NoRoom(open) => {
                    Failed { ended: Ended::NoRoom, failure: open.failure(name), endpoint: None, answer: None }
                }
                NoSeat::Connect(error) => {
                    endpoint.avoid(worker.now_us());
                    failed(Ended::Unsent, RouteReason::ConnectFailed, error.to_string())
                }
            })?;
        let mut request = match http2 {
            true => upgrade::outgoing(parts, asked, replay.next_try()),
            false => upgrade::outgoing(parts, &None, replay.next_try()),
        };
        if !http2 {
            // hyper puts the headers of the answer where those of the request were. What it read has room for them, a copy
            // has none.
            std::mem::swap(request.headers_mut(), &mut parts.headers);
        }
        match timeout_at(try_deadline, seat.send(request)).await {
            Ok(Ok(response)) => break (response, seat),
            // Closed while it was idle, and nothing went out: another connection costs nobody anything.
            Ok(Err(error)) if error.unsent && seat.used && replay.replayable() => {}
            Ok(Err(error)) => {
                if let Some(by_caller) = replay.broken() {
                    return Err(Failed {
                        ended: Ended::Nobody,
                        failure: by_caller.failure(),
                        endpoint: None,
                        answer: None,
                    });
                }
                return Err(broken(endpoint, worker, seat.used, error.unsent, |ended| {
                    failed(ended, RouteReason::UpstreamReset, format!("{endpoint}: {}", error.text))
                }));
            }
            Err(_) => {
                let ms = this.started.elapsed().as_millis();
                let text = format!("{endpoint} did not answer within {ms} ms");
                return Err(failed(Ended::Late, RouteReason::RequestTimeout, text));
            }
        }
    };
    let status = response.status();
    if !rule.retry.on_status.contains(&status.as_u16()) {
        return Ok((response, seat));
    }
    let answered = failed(Ended::Status(status), RouteReason::UpstreamReset, format!("{endpoint} answered {status}"));
    Err(Failed { answer: Some((response, seat)), ..answered })
}

/// A connection that was idle may close in good order; only a new one that breaks says something of the endpoint.
fn broken(
    endpoint: &Endpoint,
    worker: &Worker,
    used: bool,
    unsent: bool,
    failed: impl FnOnce(Ended) -> Failed,
) -> Failed {
    let failed = failed(if unsent { Ended::Unsent } else { Ended::Broken });
    if used {
        return Failed { endpoint: None, ..failed };
    }
    endpoint.avoid(worker.now_us());
    failed
}

fn answer(
    call: &Call<'_>,
    mut response: Response<Incoming>,
    hold: Hold,
    asked: Option<upgrade::Asked>,
    replay: &Replay,
    notes: &mut Notes,
) -> Response<Answer<Hold>> {
    let fields = response.headers_mut();
    headers::strip_hop(fields);
    headers::strip_ours(fields);
    if notes.tries > 1 {
        let reason = RouteReason::RetryElsewhere;
        fields.insert(headers::REASON, HeaderValue::from_static(reason.as_str()));
        notes.reason = Some(reason);
    }
    let (mut parts, body) = response.into_parts();
    let body = Entire::new(parts.version, body);
    parts.version = Version::HTTP_11;
    let idle = Duration::from_millis(call.this.rule.timeouts.idle_ms);
    let hold = match asked {
        None => Some(hold),
        Some(asked) if call.http2 => upgrade::answered_outbound(&mut parts, asked, idle, hold),
        Some(asked) => upgrade::answered_by_server(&mut parts, asked, idle, hold),
    };
    let body = match hold {
        None => Answer::text(""),
        Some(hold) => Answer::upstream(body, hold).watched(Idle::new(idle, replay.moved())),
    };
    Response::from_parts(parts, body)
}

/// Copies one connection of bytes; the time it took to connect. `app` as for connections within the mesh.
pub async fn relay<I, F>(
    worker: &Worker,
    service: &Arc<Service>,
    port: u16,
    app: impl FnOnce(Result<(), RouteReason>) -> F,
    limit: Duration,
) -> Result<Duration, RouteReason>
where
    I: AsyncRead + AsyncWrite,
    F: Future<Output = Option<I>>,
{
    let began = Instant::now();
    match connected(worker, service, port, limit).await {
        Ok(io) => {
            let took = began.elapsed();
            if let Some(app) = app(Ok(())).await {
                let copied = copy::both(app, io, IDLE).await;
                tracing::debug!(?copied, "external connection ended");
            }
            Ok(took)
        }
        Err(reason) => {
            drop(app(Err(reason)));
            Err(reason)
        }
    }
}

async fn connected(
    worker: &Worker,
    service: &Arc<Service>,
    port: u16,
    limit: Duration,
) -> Result<impl AsyncRead + AsyncWrite + use<>, RouteReason> {
    let outside = worker.outside(service, port).ok_or(RouteReason::NoEndpoint)?;
    let taken = outside.take(Limit::Connections).map_err(|open| {
        let failure = open.failure(&service.config.service);
        tracing::debug!(text = failure.text, "no room for an app's connection");
        failure.reason
    })?;
    outside.connect(taken, limit, || worker.now_us()).await.map_err(|error| {
        tracing::debug!(%error, "no connection to an external service");
        RouteReason::ConnectFailed
    })
}
