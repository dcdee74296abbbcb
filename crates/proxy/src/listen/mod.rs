//! Listeners: what is bound, what accepts, and what each connection is.

pub mod detect;
pub mod handshake;
pub mod open;
pub mod opening;
pub mod origin;
pub mod redirected;
pub mod vips;

use crate::http::refused;
use crate::limits::{ACCEPTS_PER_TURN, CONNECTIONS_MAX};
use crate::overload::Connections;
use crate::pool::transport::tune;
use socket2::{Domain, Protocol, Socket, Type};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Connections the kernel holds for us while we are busy (Linux's own default bound).
const BACKLOG: i32 = 4_096;
/// After running out of file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Binds an address of which each worker has a socket; the kernel spreads connections over them.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop`; each connection is a task of its own, finished even after `stop`. A connection beyond a bound is
/// closed at once, so that its caller hears of it and does not wait in the kernel's queue.
pub async fn accept<S, F>(listener: Arc<TcpListener>, stop: CancellationToken, connections: Connections, serve: S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let own = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut turn = 0;
    loop {
        turn = (turn + 1) % ACCEPTS_PER_TURN;
        if turn == 0 {
            yield_now().await;
        }
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Closed at once: its caller goes elsewhere, or asks again.
            Ok(_) if !connections.admit() => {}
            Ok((stream, peer)) => {
                let Ok(place) = own.clone().try_acquire_owned() else {
                    refused::count(&refused::Crowd);
                    tracing::debug!(%peer, "a connection beyond a bound was closed");
                    continue;
                };
                tune(&stream);
                let served = serve(stream, peer);
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; raise the limit of open files if this goes on");
                sleep(EXHAUSTED).await;
            }
        }
    }
}
