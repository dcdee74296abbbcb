//! What stands before a proxy that is to be frozen: bytes pass through it both ways, until nothing passes any more while
//! every connection stays open, and the kernel goes on accepting new ones.

use crate::ports::Port;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Bytes that are taken at once.
const CHUNK: usize = 16 * 1024;

/// A passage to one address.
pub struct Front {
    port: Port,
    frozen: watch::Sender<bool>,
    task: AbortHandle,
}

impl Front {
    /// Opens it.
    pub async fn open(to: SocketAddr) -> Self {
        let port = Port::claim();
        let listener = TcpListener::bind(port.at()).await.expect("the port is claimed");
        let frozen = watch::Sender::new(false);
        let mut seen = frozen.subscribe();
        let pass = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                thawed(&mut seen).await;
                connections.spawn(pass(stream, to, seen.clone()));
                while connections.try_join_next().is_some() {}
            }
        };
        let task = tokio::spawn(pass).abort_handle();
        Self { port, frozen, task }
    }

    /// Where others connect.
    pub fn number(&self) -> u16 {
        self.port.number()
    }

    /// Nothing passes any more, or everything does.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn thawed(frozen: &mut watch::Receiver<bool>) {
    // An error means that nobody will freeze anything any more.
    let _ = frozen.wait_for(|frozen| !frozen).await;
}

async fn pass(near: TcpStream, to: SocketAddr, frozen: watch::Receiver<bool>) -> io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::try_join!(pump(near_read, far_write, frozen.clone()), pump(far_read, near_write, frozen))?;
    Ok(())
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frozen: watch::Receiver<bool>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk).await?;
        thawed(&mut frozen).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..count]).await?;
    }
}
