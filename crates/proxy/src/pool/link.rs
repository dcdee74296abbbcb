//! One HTTP/2 connection to a peer.

use super::gather;
use crate::http::body::Outgoing;
use crate::http::gate::{Gate, Told};
use crate::limits::{
    CANCELLED_MAX, CONNECTION_WINDOW, HEADER_BYTES_MAX, PEER_LOCAL_ERROR_RESETS_MAX, PING_ANSWER, PING_EVERY,
    STREAM_SEND_BUFFER, STREAM_WINDOW, STREAMS_PER_LINK,
};
use futures_util::TryFutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// One connection. Its driver runs as a task of its own until the peer goes or nobody holds the link.
#[derive(Debug)]
pub struct Link {
    sender: http2::SendRequest<Outgoing>,
    in_flight: AtomicUsize,
    used_us: AtomicU64,
    closed: CancellationToken,
    told: Arc<Told>,
}

/// How sending failed.
#[derive(Debug)]
pub struct SendError {
    /// Nothing reached the app.
    pub unsent: bool,
    /// The peer showed no sign of life.
    pub hung: bool,
    /// For people.
    pub text: String,
}

impl Link {
    /// Begins HTTP/2 on `io`.
    pub async fn begin<I>(io: I) -> Result<Self, hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (gate, told) = Gate::link(io);
        let (handle, io) = gather::gather(gate);
        let handshake = http2::Builder::new(handle.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(STREAMS_PER_LINK)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .max_send_buf_size(STREAM_SEND_BUFFER)
            .max_concurrent_reset_streams(CANCELLED_MAX)
            .max_local_error_reset_streams(PEER_LOCAL_ERROR_RESETS_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(io));
        let (sender, connection) = handle.drive(handshake).await?;
        let closed = CancellationToken::new();
        let over = closed.clone().drop_guard();
        let driver = handle.drive(connection);
        tokio::spawn(async move {
            let _over = over;
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection to a peer ended");
            }
        });
        Ok(Self { sender, in_flight: AtomicUsize::new(0), used_us: AtomicU64::new(0), closed, told })
    }

    /// Resolves when the connection is gone.
    pub fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Whether a request may be sent.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.closed.is_cancelled() && !self.told.is_spent()
    }

    /// Requests without an end so far.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more or one less request.
    pub fn count(&self, begins: bool, now_us: u64) {
        match begins {
            true => self.in_flight.fetch_add(1, Ordering::Relaxed),
            false => self.in_flight.fetch_sub(1, Ordering::Relaxed),
        };
        self.used_us.store(now_us, Ordering::Relaxed);
    }

    /// When it was last used.
    pub fn used_us(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Sends at once, and waits for the head of the answer.
    pub fn send(
        &self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> + use<> {
        self.sender.clone().try_send_request(request).map_err(|mut error| {
            let never_left = error.take_message().is_some();
            let error = error.into_error();
            SendError { unsent: never_left || refused(&error), hung: error.is_timeout(), text: sentence(&error) }
        })
    }
}

/// Refused before anybody looked at it (RFC 9113 section 8.7).
fn refused(error: &hyper::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.is_remote() && (h2.reason() == Some(h2::Reason::REFUSED_STREAM) || h2.is_go_away());
        }
        source = error.source();
    }
    false
}

/// An error and its causes in one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
