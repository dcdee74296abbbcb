//! Answers names of the mesh with virtual addresses, and hands every other question to the host's own resolvers.
//!
//! `.mesh` never leaves the host: an unknown name in it does not exist, whatever a resolver would say.

mod answer;
mod forward;

pub use answer::{Answer, answer};
pub use forward::{Resolvers, resolvers};

use crate::vips::Names;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::debug;

/// Seconds an app may keep an answer. Addresses never change hands, so this only bounds how long a removed service is
/// still called (CoreDNS answers Kubernetes services with 5 to 30).
pub const TTL_SECONDS: u32 = 10;
/// Largest question or answer over UDP (RFC 6891 recommends 4096 as the ceiling).
const UDP_BYTES_MAX: usize = 4096;
/// Questions waiting for a resolver; beyond, they go unanswered and the app asks again (CoreDNS: 1000 and more).
const WAITING_MAX: usize = 512;
/// Connections over TCP.
const TCP_MAX: usize = 64;
/// A TCP connection without a question is closed after this (RFC 7766 section 6.2.3: a few seconds).
const TCP_IDLE: Duration = Duration::from_secs(5);

/// Serves UDP and TCP on one address until dropped.
///
/// # Errors
/// When a socket fails for good. A single bad question is never an error.
pub async fn serve(
    udp: Arc<UdpSocket>,
    tcp: Arc<TcpListener>,
    names: watch::Receiver<Arc<Names>>,
    resolvers: Resolvers,
) -> std::io::Result<()> {
    let resolvers = Arc::new(resolvers);
    tokio::try_join!(serve_udp(udp, names.clone(), resolvers.clone()), serve_tcp(tcp, names, resolvers)).map(drop)
}

async fn serve_udp(
    socket: Arc<UdpSocket>,
    names: watch::Receiver<Arc<Names>>,
    resolvers: Arc<Resolvers>,
) -> std::io::Result<()> {
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let question = &buffer[..length];
        let answered = answer(question, &names.borrow());
        match answered {
            Answer::Now(bytes) => send(&socket, &bytes, from).await,
            Answer::Nothing => {}
            Answer::Elsewhere => {
                let Ok(permit) = waiting.clone().try_acquire_owned() else { continue };
                let (socket, resolvers, question) = (socket.clone(), resolvers.clone(), question.to_vec());
                tokio::spawn(async move {
                    let bytes = resolvers.ask_udp(&question).await.or_else(|| answer::failed(&question));
                    if let Some(bytes) = bytes {
                        send(&socket, &bytes, from).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        debug!(%to, %error, "an answer could not be sent");
    }
}

async fn serve_tcp(
    listener: Arc<TcpListener>,
    names: watch::Receiver<Arc<Names>>,
    resolvers: Arc<Resolvers>,
) -> std::io::Result<()> {
    let open = Arc::new(Semaphore::new(TCP_MAX));
    loop {
        let permit = open.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, _) = listener.accept().await?;
        let (names, resolvers) = (names.clone(), resolvers.clone());
        tokio::spawn(async move {
            let _ = converse(stream, names, &resolvers).await;
            drop(permit);
        });
    }
}

/// Questions and answers with a two-byte length before each (RFC 1035 section 4.2.2).
async fn converse(
    mut stream: TcpStream,
    names: watch::Receiver<Arc<Names>>,
    resolvers: &Resolvers,
) -> std::io::Result<()> {
    while let Ok(length) = timeout(TCP_IDLE, stream.read_u16()).await {
        let mut question = vec![0; usize::from(length?)];
        timeout(TCP_IDLE, stream.read_exact(&mut question)).await??;
        let answered = answer(&question, &names.borrow());
        let bytes = match answered {
            Answer::Now(bytes) => bytes,
            Answer::Nothing => return Ok(()),
            Answer::Elsewhere => match resolvers.ask_tcp(&question).await.or_else(|| answer::failed(&question)) {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
        };
        let Ok(length) = u16::try_from(bytes.len()) else { return Ok(()) };
        stream.write_u16(length).await?;
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
