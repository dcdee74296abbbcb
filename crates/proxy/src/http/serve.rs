//! Serves HTTP on one connection: HTTP/1.1 or HTTP/2 from the app, always HTTP/2 from a peer's proxy.

use super::body::{Answer, UntilEnd};
use super::gate::{Gate, Side, Told};
use super::headers;
use super::joined::Joined;
use super::meter::Meter;
use super::parting::Parting;
use super::turns::{Begun, Turns};
use crate::error::{Dialect, Failure};
use crate::limits::{
    APP_IDLE, CONNECTION_WINDOW, EDGE_HEADER_BYTES_MAX, EDGE_NEXT_HEAD, EDGE_SEND_BUFFER, EDGE_STREAM_WINDOW,
    EDGE_STREAMS_MAX, EDGE_WINDOW, HEADER_BYTES_MAX, HEADERS_MAX, LAST_REQUEST, LINGER, LINGERING_MAX,
    LOCAL_ERROR_RESETS_MAX, PEER_LOCAL_ERROR_RESETS_MAX, PEER_PENDING_RESETS_MAX, PENDING_RESETS_MAX,
    STREAM_SEND_BUFFER, STREAM_WINDOW, STREAMS_MAX,
};
use crate::listen::opening::Opening;
use crate::pool::gather::gather;
use api::RouteReason;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Serves an app, or anybody on the plaintext `side`. When `drain` is cancelled, requests in flight are finished and the connection ends.
pub async fn app<I, S, F, G>(io: I, side: Side, drain: CancellationToken, serve: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Answer<G>>> + Send + 'static,
    G: UntilEnd + Unpin + Send + 'static,
{
    let begun = Begun::default();
    let mut builder = auto::Builder::new(begun.clone());
    // hyper counts an idle keep-alive as waiting for a head. The gate gives it whole heads, and bounds their time.
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(APP_IDLE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX);
    kept(builder, begun, io, side, drain, serve).await;
}

/// Serves a peer's proxy.
pub async fn peer<I, S, F, G>(io: I, drain: CancellationToken, serve: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Answer<G>>> + Send + 'static,
    G: UntilEnd + Unpin + Send + 'static,
{
    let (gate, told) = Gate::http2(io, Meter::peer());
    let (handle, io) = gather(gate);
    let begun = Begun::default();
    let mut builder = http2::Builder::new(begun.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_pending_accept_reset_streams(PEER_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(PEER_LOCAL_ERROR_RESETS_MAX);
    let began = told.clone();
    let service = service_fn(move |request| {
        began.begin();
        // Boxed where it is made: hyper moves it several times, and it is some kilobytes.
        let answer = Box::pin(serve(request));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
    let mut driven = handle.drive(Turns::new(told.clone(), begun, connection));
    let served = tokio::select! {
        served = &mut driven => served,
        () = drain.cancelled() => {
            told.leave();
            driven.task().connection.as_mut().graceful_shutdown();
            (&mut driven).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a peer ended");
    }
    linger(&told, &drain).await;
}

/// Serves a caller outside the mesh, with the narrower limits of an edge. `http2`: what TLS agreed on; `None`: found out
/// from the first bytes.
pub async fn outside<I, S, F, G>(io: I, http2: Option<bool>, drain: CancellationToken, serve: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Answer<G>>> + Send + 'static,
    G: UntilEnd + Unpin + Send + 'static,
{
    let begun = Begun::default();
    let mut builder = auto::Builder::new(begun.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(EDGE_NEXT_HEAD)
        .max_headers(HEADERS_MAX)
        .max_buf_size(EDGE_HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(EDGE_STREAMS_MAX)
        .initial_stream_window_size(EDGE_STREAM_WINDOW)
        .initial_connection_window_size(EDGE_WINDOW)
        .max_header_list_size(EDGE_HEADER_BYTES_MAX as u32)
        .max_send_buf_size(EDGE_SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX);
    let builder = match http2 {
        None => builder,
        Some(true) => builder.http2_only(),
        Some(false) => builder.http1_only(),
    };
    kept(builder, begun, io, Side::Edge, drain, serve).await;
}

/// Serves a connection that callers keep between requests, to its end or that of the proxy. What the gate refuses is
/// answered here, too, and the gate hears of every answer.
async fn kept<I, S, F, G>(
    builder: auto::Builder<Begun>,
    begun: Begun,
    io: I,
    side: Side,
    drain: CancellationToken,
    serve: S,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Answer<G>>> + Send + 'static,
    G: UntilEnd + Unpin + Send + 'static,
{
    let (io, told) = Gate::new(Opening::new(Joined(io)), side);
    let parting = Arc::new(Parting::new(drain.clone()));
    let (leaving, began) = (parting.clone(), told.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let tunnel = request.method() == Method::CONNECT;
        let (kind, parting, told) = (leaving.begins(&request), leaving.clone(), began.clone());
        // Boxed where it is made: hyper moves it several times, and it is some kilobytes.
        let answer = told.begin().map_or_else(|| Ok(Box::pin(serve(request))), Err);
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await,
                Err(bad) => Failure::refused(bad).answer(&Dialect::Http),
            };
            let status = answer.status();
            let switched = status == StatusCode::SWITCHING_PROTOCOLS || (tunnel && status.is_success());
            let blamed = status == StatusCode::BAD_REQUEST
                && answer
                    .headers()
                    .get(headers::REASON)
                    .is_some_and(|reason| reason == RouteReason::BadRequest.as_str());
            told.answered(switched, blamed);
            parting.ends(kind, &mut answer);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut turns = Turns::new(told.clone(), begun, connection);
    let served = tokio::select! {
        served = &mut turns => served,
        () = drain.cancelled() => {
            let waited = if parting.waits() { timeout(LAST_REQUEST, &mut turns).await.ok() } else { None };
            match waited {
                Some(served) => served,
                None => {
                    told.leave();
                    turns.connection.as_mut().graceful_shutdown();
                    (&mut turns).await
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
    linger(&told, &drain).await;
}

/// Places for connections that linger.
static LINGERING: Semaphore = Semaphore::const_new(LINGERING_MAX);

/// A connection that ended by its caller's fault has been told, and is closed a little later: a caller that floods comes
/// again as soon as it may, and a connection that nobody reads costs less than a new one.
async fn linger(told: &Told, drain: &CancellationToken) {
    if !told.is_held() {
        return;
    }
    let Ok(_place) = LINGERING.try_acquire() else { return };
    tokio::select! {
        () = sleep(LINGER) => {}
        () = drain.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::meter::PREFACE;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    /// All that a caller hears that says this and then only listens, and how long until the connection is closed.
    /// `leaves`: it closes its own side.
    async fn answer(bytes: Vec<u8>, leaves: bool, drain: CancellationToken) -> (Vec<u8>, Duration) {
        let (near, mut far) = duplex(1 << 20);
        let serving = tokio::spawn(app(near, Side::Mesh, drain, |request| async move {
            let bad = request.uri().path() == "/bad";
            let reason = if bad { RouteReason::BadRequest } else { RouteReason::NoRoute };
            Failure::new(reason, "").answer::<()>(&Dialect::Http)
        }));
        let begun = Instant::now();
        far.write_all(&bytes).await.unwrap();
        if leaves {
            far.shutdown().await.unwrap();
        }
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        serving.await.unwrap();
        (all, begun.elapsed())
    }

    /// The kind of the last frame that a caller of HTTP/2 hears, and how long until the connection is closed.
    async fn heard(frames: Vec<u8>, leaves: bool, drain: CancellationToken) -> (u8, Duration) {
        let hello = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &frames[..]].concat();
        let (all, took) = answer(hello, leaves, drain).await;
        let (mut rest, mut last) = (&all[..], 0);
        while let [a, b, c, kind, ..] = *rest {
            last = kind;
            rest = &rest[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
        }
        (last, took)
    }

    #[tokio::test]
    async fn whoever_is_refused_has_its_answer_and_the_connection_closed_later() {
        let good = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let chunk = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n";
        for (request, first, kept) in [
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", true),
            (&good.replace("host", &"x".repeat(HEADER_BYTES_MAX)), "HTTP/1.1 431 ", true),
            (chunk, "HTTP/1.1 400 ", true),
            (&good.replacen("/", "/bad", 1), "HTTP/1.1 400 ", true),
            (good, "HTTP/1.1 404 ", false),
        ] {
            let (all, took) = answer(request.into(), false, CancellationToken::new()).await;
            let text = String::from_utf8(all).unwrap();
            assert!(text.starts_with(first), "{first}: {text}");
            assert_eq!(took >= LINGER, kept, "{first}: {took:?}");
        }
    }

    #[tokio::test]
    async fn whoever_is_at_fault_is_told_at_once_and_the_connection_closed_later() {
        const GOAWAY: u8 = 7;
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        // A window of the whole connection that does not grow (RFC 9113 section 6.9): found by h2, not by the gate.
        let malformed = vec![0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let stays = |frames| heard(frames, false, CancellationToken::new());
        let (flooded, broken) = tokio::join!(stays(ping.repeat(2_000)), stays(malformed));
        for (last, took) in [flooded, broken] {
            assert_eq!(last, GOAWAY);
            assert!(took >= LINGER, "{took:?}");
        }
        let goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (frames, closes) in [(ping.to_vec(), true), (goaway.to_vec(), false)] {
            let (_, took) = heard(frames, closes, CancellationToken::new()).await;
            assert!(took < LINGER, "who leaves is not kept: {took:?}, {closes}");
        }
        let drain = CancellationToken::new();
        drain.cancel();
        assert!(heard(ping.repeat(2_000), false, drain).await.1 < LINGER, "a proxy that leaves waits for nobody");
    }
}
