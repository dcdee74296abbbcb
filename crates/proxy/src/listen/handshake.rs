//! Connections that begin with TLS.

use crate::http::line::Place;
use crate::limits::HANDSHAKE;
use rustls::ServerConfig;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The handshake of a caller, within [`HANDSHAKE`]. Who takes longer is closed in turn: a crowd that came together and says
/// nothing ends together, and others would wait for all of it.
pub async fn accept<I>(tls: Arc<ServerConfig>, io: I) -> io::Result<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut shaking = pin!(TlsAcceptor::from(tls).accept(io));
    match timeout(HANDSHAKE, &mut shaking).await {
        Ok(done) => done,
        Err(_) => {
            Place::last().await;
            Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time"))
        }
    }
}
