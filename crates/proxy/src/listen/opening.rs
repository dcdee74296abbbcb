//! The first line an app says where HTTP is expected. What is not HTTP at all gets no answer: whoever speaks another protocol
//! would take a `400` of HTTP for something of its own (h2spec asks for it: an invalid preface of HTTP/2 is such a line).

use crate::limits::HEADER_BYTES_MAX;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads through, and ends the connection when its first line is none of HTTP.
pub struct Opening<I> {
    io: I,
    /// The line so far; `None` once it was judged.
    line: Option<Line>,
}

/// What must be remembered of a line to judge it: where in it we are, and how the current word began. The second word tells:
/// it is a request's target (RFC 9112 section 3.2), also in the preface of HTTP/2 (RFC 9113 section 3.4).
#[derive(Default)]
struct Line {
    read: usize,
    words: usize,
    /// Beginning of the current word.
    word: Vec<u8>,
    connect: bool,
}

const CONNECT: &[u8] = b"CONNECT";
/// Of a word, enough to tell what kind of target it is: schemes are short.
const BEGINNING: usize = 16;
/// What is taken of the rest at once, and how often: as much as one head may have.
const REST_BYTES: usize = 1024;
const REST_PIECES_MAX: usize = HEADER_BYTES_MAX / REST_BYTES;

impl<I> Opening<I> {
    /// Of a new connection.
    pub fn new(io: I) -> Self {
        Self { io, line: Some(Line::default()) }
    }
}

impl Line {
    /// Whether the line is one of HTTP, once that can be said. Other mistakes are for the reader of requests to refuse, with
    /// words.
    fn judge(&mut self, bytes: &[u8]) -> Option<bool> {
        for byte in bytes {
            self.read += 1;
            match byte {
                // Empty lines before the first request are to be ignored (RFC 9112 section 2.2).
                b'\r' | b'\n' if self.words == 0 && self.word.is_empty() => {}
                b' ' | b'\r' | b'\n' => {
                    if self.words == 1 {
                        return Some(self.connect || is_target(&self.word));
                    }
                    if *byte == b'\n' {
                        return Some(false);
                    }
                    self.words += 1;
                    self.connect = self.word == CONNECT;
                    self.word.clear();
                }
                byte if self.word.len() < BEGINNING => self.word.push(*byte),
                _ => {}
            }
        }
        (self.read > HEADER_BYTES_MAX).then_some(true)
    }
}

/// A path, everything, or an address with its scheme.
fn is_target(word: &[u8]) -> bool {
    matches!(word.first(), Some(b'/' | b'*')) || word.windows(3).any(|part| part == b"://")
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if let Some(line) = &mut self.line {
            match line.judge(&buffer.filled()[before..]) {
                None => {}
                Some(true) => self.line = None,
                Some(false) => {
                    self.take_rest(cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP")));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> Opening<I> {
    /// Takes what has come already: a socket that is closed with bytes unread resets the connection instead of ending it.
    fn take_rest(&mut self, cx: &mut Context<'_>) {
        let mut piece = [0; REST_BYTES];
        for _ in 0..REST_PIECES_MAX {
            let mut rest = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.io).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                _ => return,
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_whether_it_is_http() {
        for (bytes, expect) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(true)),
            (b"\r\nGET /a HTTP/1.0\n", Some(true)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(true)),
            (b"GET http://cart.shop.mesh/ HTTP/1.1\r\n", Some(true)),
            (b"CONNECT cart.shop.mesh:80 HTTP/1.1\r\n", Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(true)),
            // Wrong, but HTTP: it is told so.
            (b"GET / HTTP/9.9\r\n", Some(true)),
            (b"GET /\r\n", Some(true)),
            (b"INVALID CONNECTION PREFAC", Some(false)),
            (b"*1\r\n$4\r\nPING\r\n", Some(false)),
            (b"EHLO mail.example\r\n", Some(false)),
            (b"SSH-2.0-OpenSSH_9.2 Debian\r\n", Some(false)),
            (b"GET /", None),
            (b"", None),
        ] {
            assert_eq!(Line::default().judge(bytes), expect, "{}", String::from_utf8_lossy(bytes));
            let mut line = Line::default();
            let by_byte = bytes.chunks(1).find_map(|byte| line.judge(byte));
            assert_eq!(by_byte, expect, "byte by byte: {}", String::from_utf8_lossy(bytes));
        }
    }
}
