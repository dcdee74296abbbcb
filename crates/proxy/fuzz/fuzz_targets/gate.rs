//! The gate before HTTP/1: what passes does not depend on how the bytes were cut, but that a chunk which is bad where its
//! head is read refuses the request; and a head that passes has one reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http::gate::{Gate, REFUSED, Side};
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf, join, sink};
use tokio::runtime::{Builder, Runtime};

/// The gate has timers, which need one; none of them fires.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// Bytes that come so many at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.bytes.split_at(self.size.min(out.remaining()).min(self.bytes.len()));
        out.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// How reading ended.
#[derive(Debug, Eq, PartialEq)]
enum End {
    Whole,
    Refused,
    Broken(String),
}

/// What passes.
fn passed(bytes: &[u8], size: usize, side: Side) -> (Vec<u8>, End) {
    let (mut gate, _told) = Gate::new(join(Pieces { bytes, size }, sink()), side);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut all, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let mut out = ReadBuf::new(&mut buffer);
        match Pin::new(&mut gate).poll_read(&mut cx, &mut out) {
            Poll::Ready(Ok(())) if out.filled().is_empty() => return (all, End::Whole),
            Poll::Ready(Ok(())) => all.extend_from_slice(out.filled()),
            Poll::Ready(Err(error)) => return (all, End::Broken(error.to_string())),
            // The gate waits for the answer to what it refused.
            Poll::Pending => return (all, End::Refused),
        }
    }
}

fn alike(one: &(Vec<u8>, End), other: &(Vec<u8>, End)) -> bool {
    match (one, other) {
        // Where a body breaks, the last bytes before that may have passed or not: nobody is given them.
        ((one, End::Broken(why)), (other, End::Broken(same))) => {
            why == same && (one.starts_with(other) || other.starts_with(one))
        }
        ((begun, End::Broken(_)), (refused, End::Refused)) | ((refused, End::Refused), (begun, End::Broken(_))) => {
            refused.strip_suffix(REFUSED).is_some_and(|before| begun.starts_with(before))
        }
        _ => one == other,
    }
}

fn told((bytes, end): &(Vec<u8>, End)) -> String {
    format!("{} ({end:?})", bytes.escape_ascii())
}

fn has_one_reading(head: &[u8]) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{text:?}");
    let count = |name: &str| text.lines().skip(1).filter(|line| line.starts_with(name)).count();
    assert!(count("content-length:") + count("transfer-encoding:") <= 1, "{text:?}");
    assert!(count("host:") <= 1, "{text:?}");
    assert!(text.lines().skip(1).all(|line| !line.starts_with([' ', '\t'])), "{text:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let _entered = RUNTIME.enter();
    for side in [Side::Mesh, Side::Edge] {
        let whole = passed(bytes, usize::MAX, side);
        for size in [1, 7] {
            let cut = passed(bytes, size, side);
            assert!(alike(&cut, &whole), "in pieces of {size}: {} and {}", told(&cut), told(&whole));
        }
        let http2 = bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        if let Some(end) = whole.0.windows(4).position(|four| four == b"\r\n\r\n").filter(|_| !http2) {
            has_one_reading(&whole.0[..end + 2]);
        }
    }
});
