//! Copies bytes both ways until both sides have ended; a half that ended is passed on as such.
//!
//! A buffer exists only while bytes flow: each direction waits for readability without one, borrows one for as long
//! as reading goes on without waiting, and lets it go. Ten thousand idle connections hold none.

use crate::limits::RELAY_BYTES;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// First read of a wait; tells that bytes flow without holding [`RELAY_BYTES`].
const PROBE_BYTES: usize = 2048;

/// Bytes copied: towards `b`, and towards `a`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// From `a` to `b`.
    pub forth: u64,
    /// From `b` to `a`.
    pub back: u64,
}

/// Copies until both directions ended, one failed, or nothing moved for `idle`.
pub async fn both<A, B>(a: A, b: B, idle: Duration) -> io::Result<Copied>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    leaving(a, b, idle, &CancellationToken::new(), idle).await
}

/// As [`both`]; once `drain` is cancelled, the first pause of `quiet` ends it too. A pause is no proof that nothing was
/// about to come, but proxies keep connections open for later, and never end one by themselves.
pub async fn leaving<A, B>(a: A, b: B, idle: Duration, drain: &CancellationToken, quiet: Duration) -> io::Result<Copied>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (read_a, write_a) = tokio::io::split(a);
    let (read_b, write_b) = tokio::io::split(b);
    let moved = Moved::new();
    let copying = async { tokio::try_join!(one(read_a, write_b, &moved), one(read_b, write_a, &moved)) };
    tokio::pin!(copying);
    loop {
        let limit = if drain.is_cancelled() { quiet } else { idle };
        tokio::select! {
            done = timeout_at(moved.at() + limit, &mut copying) => match done {
                Ok(done) => return done.map(|(forth, back)| Copied { forth, back }),
                Err(_) if moved.at().elapsed() < limit => {}
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved in either direction")),
            },
            () = drain.cancelled(), if !drain.is_cancelled() => {}
        }
    }
}

/// When bytes last moved, to the millisecond. Atomic only so that the future may change threads.
#[derive(Debug)]
pub struct Moved {
    start: Instant,
    after_ms: AtomicU64,
}

impl Moved {
    /// They did now.
    #[allow(clippy::new_without_default)] // The time of making it counts.
    pub fn new() -> Self {
        Self { start: Instant::now(), after_ms: AtomicU64::new(0) }
    }

    /// They did now.
    pub fn now(&self) {
        self.after_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// When they last did.
    pub fn at(&self) -> Instant {
        self.start + Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }
}

async fn one<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    moved: &Moved,
) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let mut probe = [0; PROBE_BYTES];
        let mut count = read(&mut from, &mut probe).await?;
        if count == 0 {
            to.shutdown().await?;
            return Ok(total);
        }
        moved.now();
        to.write_all(&probe[..count]).await?;
        total += count as u64;
        // A full probe: more is coming. Take a large buffer until reading would wait.
        if count == PROBE_BYTES {
            let mut buffer = vec![0; RELAY_BYTES];
            while let Some(next) = read_ready(&mut from, &mut buffer).await? {
                count = next;
                if count == 0 {
                    break;
                }
                moved.now();
                to.write_all(&buffer[..count]).await?;
                total += count as u64;
            }
        }
        to.flush().await?;
    }
}

async fn read<R: AsyncRead>(from: &mut ReadHalf<R>, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// As [`read`], but `None` instead of waiting.
async fn read_ready<R: AsyncRead>(from: &mut ReadHalf<R>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Some(buffer.filled().len()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Ready(Ok(None)),
        }
    })
    .await
}

/// IO of which the first bytes were already read.
pub struct Prefixed<I> {
    prefix: Vec<u8>,
    at: usize,
    io: I,
}

impl<I> Prefixed<I> {
    /// `prefix` is read first.
    pub fn new(prefix: Vec<u8>, io: I) -> Self {
        Self { prefix, at: 0, io }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { prefix, at, io } = self.get_mut();
        if *at == prefix.len() {
            return Pin::new(io).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(prefix.len() - *at);
        buffer.put_slice(&prefix[*at..*at + count]);
        *at += count;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_half_that_ended_leaves_the_other_open() {
        let (client, a) = tokio::io::duplex(256);
        let (b, server) = tokio::io::duplex(256);
        let copying = tokio::spawn(both_send(a, b));
        let (mut client_read, mut client_write) = tokio::io::split(client);
        let (mut server_read, mut server_write) = tokio::io::split(server);
        let big = vec![7; 300_000];
        let sent = big.clone();
        tokio::spawn(async move {
            client_write.write_all(&sent).await.unwrap();
            client_write.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        server_read.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), big.len());
        server_write.write_all(b"late answer").await.unwrap();
        server_write.shutdown().await.unwrap();
        let mut answer = String::new();
        client_read.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "late answer");
        assert_eq!(copying.await.unwrap().unwrap(), Copied { forth: 300_000, back: 11 });
    }

    #[tokio::test]
    async fn a_connection_in_which_nothing_moves_ends() {
        let (_client, a) = tokio::io::duplex(256);
        let (b, _server) = tokio::io::duplex(256);
        let error = both(a, b, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_drain_waits_for_a_pause_only() {
        let (mut client, a) = tokio::io::duplex(256);
        let (b, mut server) = tokio::io::duplex(256);
        let drain = CancellationToken::new();
        let (draining, day) = (drain.clone(), Duration::from_secs(86_400));
        let copying =
            tokio::spawn(async move { leaving(a, b, day, &draining, Duration::from_millis(20)).await.unwrap_err() });
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        drain.cancel();
        assert_eq!(copying.await.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    async fn both_send(a: tokio::io::DuplexStream, b: tokio::io::DuplexStream) -> io::Result<Copied> {
        both(a, b, Duration::from_secs(60)).await
    }
}
