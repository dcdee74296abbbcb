//! `weft dev relay`: a road of a chosen length before a gateway. Bytes arrive late and in order.

use crate::exit::Failure;
use api::Span;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces on the road of one direction; then the sender waits, as on a real one.
const PIECES_MAX: usize = 256;

/// Flags of the relay.
#[derive(Clone, Debug, clap::Args)]
pub struct RelayArgs {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Where to pass connections on to
    #[arg(long)]
    to: SocketAddr,
    /// Added to each piece of data in each direction, such as 20ms
    #[arg(long)]
    delay: Span,
}

/// Serves until it is ended.
pub async fn serve(args: RelayArgs) -> Result<(), Failure> {
    let RelayArgs { listen, to, delay } = args;
    let delay = Duration::from(delay);
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::no(format!("could not listen on {listen}: {error}")))?;
    loop {
        let Ok((near, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::join!(road(near_read, far_write, delay), road(far_read, near_write, delay));
        });
    }
}

async fn road(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            match from.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(length) => piece.truncate(length),
            }
            if sender.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
