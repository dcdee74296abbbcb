//! The head of an opaque connection: what is read is what would be written, and not a byte after it is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::tcp::preamble::{HOPS_MAX, Preamble};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fuzz_target!(|bytes: &[u8]| {
    let mut io = bytes;
    let read = {
        let reading = pin!(Preamble::read(&mut io));
        match reading.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("a slice never makes anybody wait"),
        }
    };
    if let Ok(preamble) = read {
        assert!(preamble.hops <= HOPS_MAX);
        let taken = bytes.len() - io.len();
        assert_eq!(preamble.to_bytes(), &bytes[..taken]);
    }
});
