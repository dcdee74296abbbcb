//! What an app speaks, where nobody declared it: a look at the first bytes, without taking them.
//!
//! Used only for redirected connections to addresses the mesh does not know. Protocols in which the server speaks
//! first show nothing; they wait [`DETECT`](crate::limits::DETECT) and go on as bytes. A declared port never waits.

use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// HTTP/2 with prior knowledge (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Longest method we look for, with the space behind it.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"TRACE ", b"CONNECT "];
/// A TLS handshake record.
const TLS: u8 = 22;
/// While some bytes are there and more are needed.
const AGAIN: Duration = Duration::from_millis(5);

/// What the first bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// TLS.
    Tls,
    /// Something else, or nothing yet.
    Bytes,
}

/// Looks at what comes within `limit`.
pub async fn detect(stream: &TcpStream, limit: Duration) -> io::Result<Speaks> {
    let deadline = Instant::now() + limit;
    let mut bytes = [0; PREFACE.len()];
    loop {
        let Ok(count) = timeout_at(deadline, stream.peek(&mut bytes)).await else { return Ok(Speaks::Bytes) };
        match judge(&bytes[..count?]) {
            Some(speaks) => return Ok(speaks),
            None if Instant::now() >= deadline => return Ok(Speaks::Bytes),
            // A look does not take bytes away, so waiting for readability would not wait.
            None => sleep(AGAIN).await,
        }
    }
}

/// `None`: could still become HTTP.
fn judge(bytes: &[u8]) -> Option<Speaks> {
    if bytes.is_empty() {
        return Some(Speaks::Bytes);
    }
    if bytes[0] == TLS {
        return Some(Speaks::Tls);
    }
    let mut possible = false;
    for beginning in METHODS.iter().copied().chain([PREFACE]) {
        if bytes.starts_with(beginning) {
            return Some(Speaks::Http);
        }
        possible |= beginning.starts_with(bytes);
    }
    (!possible).then_some(Speaks::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, expect) in [
            (&b"GET / HTTP/1.1"[..], Some(Speaks::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(Speaks::Http)),
            (b"PR", None),
            (b"P", None),
            (b"GETS", Some(Speaks::Bytes)),
            (b"\x16\x03\x01", Some(Speaks::Tls)),
            (b"SSH-2.0", Some(Speaks::Bytes)),
            (b"", Some(Speaks::Bytes)),
        ] {
            assert_eq!(judge(bytes), expect, "{bytes:?}");
        }
    }
}
