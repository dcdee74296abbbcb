//! Joins what is small. A message of HTTP/1.1 is written as its head and its body, in two slices; to gather slices costs the
//! kernel more than a copy of a few of them and a plain `send` (with answers of 1 KiB, a twentieth of a write to loopback).

use crate::limits::JOINED_BYTES_MAX;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is given slices.
pub struct Joined<I>(pub I);

impl<I: AsyncRead + Unpin> AsyncRead for Joined<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Joined<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.0);
        if let [only] = slices {
            return io.poll_write(cx, only);
        }
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > JOINED_BYTES_MAX {
            return io.poll_write_vectored(cx, slices);
        }
        let mut joined = SmallVec::<[u8; JOINED_BYTES_MAX]>::new();
        slices.iter().for_each(|slice| joined.extend_from_slice(slice));
        io.poll_write(cx, &joined)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Sizes of the plain writes it was given; slices are counted by their number below zero.
    #[derive(Default)]
    struct Sizes(Vec<isize>);

    impl AsyncWrite for Sizes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len() as isize);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0.push(-(slices.len() as isize));
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_small_or_one_piece_is_one_plain_write() {
        let large = [0; JOINED_BYTES_MAX];
        for (slices, written) in [
            (&[&b"head"[..], b"body"][..], 8),
            (&[b"head", b"", b"body"], 8),
            (&[&large[..]], JOINED_BYTES_MAX as isize),
            (&[&large[1..], b"x"], JOINED_BYTES_MAX as isize),
            (&[&large[..], b"x"], -2),
        ] {
            let mut joined = Joined(Sizes::default());
            let slices: Vec<_> = slices.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let count = joined.write_vectored(&slices).await.unwrap();
            assert_eq!(count, slices.iter().map(|slice| slice.len()).sum::<usize>());
            assert_eq!(joined.0.0, [written]);
        }
    }
}
