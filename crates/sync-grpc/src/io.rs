//! A TLS connection that knows its peer and when it was last heard.

use crate::silence::Patience;
use api::SpiffeId;
use api::sync_v1::Open;
use process::clock::unix_ms;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Who is at the other end of a connection; in the extensions of every request on a [`serve`](crate::serve)d listener.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From the certificate; `None` without one, or when it names no SPIFFE identity.
    pub id: Option<SpiffeId>,
    /// The certificate's common name.
    pub common_name: Option<String>,
    /// Where the connection comes from.
    pub addr: SocketAddr,
    /// What it said of itself; for status only. `None` outside of `Replicate`.
    pub open: Option<Open>,
    pub(crate) heard: Heard,
    /// The listener stops.
    pub(crate) closing: CancellationToken,
}

impl Peer {
    /// A peer as a listener would describe it.
    pub fn new(id: Option<SpiffeId>, common_name: Option<String>, addr: SocketAddr) -> Self {
        Self { id, common_name, addr, open: None, heard: Heard::default(), closing: CancellationToken::new() }
    }
}

/// When anything came from the peer, pings included; Unix milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(crate) fn last_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn now(&self) {
        self.0.store(unix_ms(), Ordering::Relaxed);
    }
}

/// The bytes of a connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    heard: Heard,
    peer: Option<Peer>,
    /// On the listener's side only.
    patience: Option<Patience>,
}

impl Connection {
    pub(crate) fn dialled(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Self { stream: stream.into(), heard: Heard::default(), peer: None, patience: None }
    }

    pub(crate) fn accepted(
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        addr: SocketAddr,
        closing: CancellationToken,
        patience: Patience,
    ) -> Self {
        let identity = identity::peer_identity(stream.get_ref().1.peer_certificates());
        let (id, common_name) = identity.map(|identity| (Some(identity.id), identity.common_name)).unwrap_or_default();
        let peer = Peer { closing, ..Peer::new(id, common_name, addr) };
        Self { stream: stream.into(), heard: peer.heard.clone(), peer: Some(peer), patience: Some(patience) }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone().expect("only accepted connections are served")
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.now();
            if let Some(patience) = &self.patience {
                patience.heard();
            }
        } else if polled.is_pending() && self.patience.as_mut().is_some_and(|patience| patience.is_over(cx)) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
