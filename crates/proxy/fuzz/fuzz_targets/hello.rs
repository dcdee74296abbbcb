//! The server name of a ClientHello: once the bytes so far say something, more bytes never say something else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::edge::sni::{Hello, read};
use proxy::limits::CLIENT_HELLO_MAX;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(CLIENT_HELLO_MAX)];
    let whole = read(bytes);
    let mut decided = false;
    // Every cut of a short input, some of a long one.
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        match read(&bytes[..cut]) {
            Hello::Partial => assert!(!decided, "undecided again at {cut}"),
            said => {
                assert_eq!(said, whole, "at {cut} of {}", bytes.len());
                decided = true;
            }
        }
    }
    if let Hello::For(name) = whole {
        assert!(!name.is_empty() && name.len() <= 253 && name == name.to_ascii_lowercase());
    }
});
