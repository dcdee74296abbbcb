//! A listener: TLS, who is there, HTTP/2, and then any gRPC services.

use crate::io::Connection;
use crate::limits::{ACCEPT_TIMEOUT, DRAIN_TIMEOUT, HANDSHAKES_MAX, SILENCE_MAX, WINDOW_BYTES};
use crate::silence::Silence;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

/// Why a listener stopped.
#[derive(Debug, thiserror::Error)]
#[error("serving gRPC failed: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// How long to leave a listener alone whose `accept` failed: the reason is usually a lack of file descriptors.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Serves `routes` until cancelled, then lets open calls end for up to [`DRAIN_TIMEOUT`]. Requests carry a
/// [`Peer`](crate::Peer) in their extensions. A peer that freezes, at any stage, is dropped within 3 s.
pub async fn serve(
    listener: TcpListener,
    acceptor: Arc<ServerConfig>,
    routes: Routes,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let (connections, incoming) = mpsc::channel(1);
    let silence = Arc::new(Silence::new(SILENCE_MAX));
    let ringing = silence.clone();
    let ringing = tokio::spawn(async move { ringing.run().await });
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(acceptor), connections, silence, cancel.clone()));
    let server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), cancel.clone().cancelled_owned());
    let drained = async {
        cancel.cancelled().await;
        sleep(DRAIN_TIMEOUT).await;
    };
    let served = tokio::select! {
        served = server => served,
        () = drained => Ok(()),
    };
    accepting.abort();
    ringing.abort();
    Ok(served?)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<io::Result<Connection>>,
    silence: Arc<Silence>,
    cancel: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let permit = handshakes.clone().acquire_owned().await.expect("this semaphore is never closed");
        let (tcp, addr) = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection accepted; are there file descriptors left?");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (acceptor, connections, cancel) = (acceptor.clone(), connections.clone(), cancel.clone());
        let silence = silence.clone();
        tokio::spawn(async move {
            match timeout(ACCEPT_TIMEOUT, handshake(acceptor, tcp)).await {
                Ok(Ok(tls)) => {
                    drop(connections.send(Ok(Connection::accepted(tls, addr, cancel, silence.watch()))).await)
                }
                Ok(Err(error)) => tracing::debug!(%addr, %error, "handshake failed"),
                Err(_) => tracing::debug!(%addr, "handshake took too long"),
            }
            drop(permit);
        });
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    acceptor.accept(tcp).await
}
