//! Reads the server name out of a TLS ClientHello, and nothing else (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Our own, because a gateway must not terminate TLS: it needs one field of one message, from bytes that anybody may
//! send. Every length is checked against what is there; nothing is allocated but the joined record.

use crate::limits::CLIENT_HELLO_MAX;

/// What the bytes so far are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hello {
    /// Not complete: read more.
    Partial,
    /// A ClientHello for this name, in lower case.
    For(String),
    /// A ClientHello that names nobody.
    Nameless,
    /// Not a ClientHello, or longer than [`CLIENT_HELLO_MAX`].
    Garbage,
}

const RECORD_HANDSHAKE: u8 = 22;
const RECORD_HEAD: usize = 5;
/// TLSPlaintext.length (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// A DNS name (RFC 1035 section 2.3.4).
const HOST_MAX: usize = 253;

/// Reads `bytes`, the beginning of a connection.
pub fn read(bytes: &[u8]) -> Hello {
    let message = match join(bytes) {
        Ok(message) => message,
        Err(hello) => return hello,
    };
    match server_name(&message) {
        Some(Some(name)) => Hello::For(name),
        Some(None) => Hello::Nameless,
        None => Hello::Garbage,
    }
}

/// The handshake message, joined from the records it may be split over, without its head.
fn join(mut bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    if bytes.len() > CLIENT_HELLO_MAX + RECORD_HEAD {
        return Err(Hello::Garbage);
    }
    let mut message: Vec<u8> = Vec::new();
    loop {
        if let Some(need) = message_length(&message)?
            && message.len() >= need
        {
            return Ok(message[4..need].to_vec());
        }
        match bytes {
            [] => return Err(Hello::Partial),
            [kind, ..] if *kind != RECORD_HANDSHAKE => return Err(Hello::Garbage),
            [_, major, ..] if *major != 3 => return Err(Hello::Garbage),
            [_, _, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 || length > RECORD_MAX {
                    return Err(Hello::Garbage);
                }
                let take = length.min(rest.len());
                message.extend_from_slice(&rest[..take]);
                if take < length {
                    // What is there may already be enough to refuse.
                    message_length(&message)?;
                    return Err(Hello::Partial);
                }
                bytes = &rest[take..];
            }
            _ => return Err(Hello::Partial),
        }
    }
}

/// Length of the handshake message with its head, once that is there.
fn message_length(message: &[u8]) -> Result<Option<usize>, Hello> {
    match message {
        [kind, ..] if *kind != CLIENT_HELLO => Err(Hello::Garbage),
        [_, a, b, c, ..] => {
            let length = 4 + usize::from(*a) * 65_536 + usize::from(*b) * 256 + usize::from(*c);
            if length > CLIENT_HELLO_MAX { Err(Hello::Garbage) } else { Ok(Some(length)) }
        }
        _ => Ok(None),
    }
}

/// `None`: malformed. `Some(None)`: no name.
fn server_name(message: &[u8]) -> Option<Option<String>> {
    let mut rest = Reader(message);
    rest.take(2 + 32)?; // version, random
    rest.vector8()?; // session id
    rest.vector16()?; // cipher suites
    rest.vector8()?; // compression
    if rest.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(rest.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == EXTENSION_SERVER_NAME {
            return first_host(content).map(Some);
        }
    }
    Some(None)
}

fn first_host(content: &[u8]) -> Option<String> {
    let mut names = Reader(Reader(content).vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == HOST_NAME {
            let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
            let valid = !name.is_empty() && name.len() <= HOST_MAX && name.iter().all(plain);
            return valid.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
    None
}

/// Takes from the front; `None` when that many bytes are not there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn number16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A real ClientHello, as our own clients send it.
    fn real(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn record(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 1];
        bytes.extend((message.len() as u16).to_be_bytes());
        bytes.extend(message);
        bytes
    }

    const NAME: &str = "p8080.cart.shop.east.default.weft";

    #[test]
    fn the_name_of_a_real_client_hello_is_read() {
        let bytes = real(NAME);
        assert_eq!(read(&bytes), Hello::For(NAME.into()));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Hello::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn a_message_split_over_records_is_joined() {
        let whole = &real(NAME)[RECORD_HEAD..];
        for size in [1, 2, 3, 5, 50, 200] {
            let split: Vec<u8> = whole.chunks(size).flat_map(record).collect();
            assert_eq!(read(&split), Hello::For(NAME.into()), "records of {size}");
        }
    }

    #[test]
    fn garbage_is_refused_at_once() {
        let sni = |list: &[u8]| hello(&[&[0, 0][..], &(list.len() as u16).to_be_bytes(), list].concat());
        let cases: &[(&str, Vec<u8>, Hello)] = &[
            ("http", b"GET / HTTP/1.1\r\n".to_vec(), Hello::Garbage),
            ("an alert", vec![21, 3, 3, 0, 2, 1, 0], Hello::Garbage),
            ("ssl 2", vec![22, 2, 0, 0, 1, 1], Hello::Garbage),
            ("an empty record", vec![22, 3, 1, 0, 0], Hello::Garbage),
            ("a record too long", vec![22, 3, 1, 0xff, 0xff], Hello::Garbage),
            ("a server hello", record(&[2, 0, 0, 1, 0]), Hello::Garbage),
            ("a message too long", record(&[1, 1, 0, 0]), Hello::Garbage),
            ("a body too short", record(&[1, 0, 0, 1, 3]), Hello::Garbage),
            ("no extensions", record(&hello(&[])), Hello::Nameless),
            ("other extensions", record(&hello(&[0, 43, 0, 1, 0])), Hello::Nameless),
            ("a lying extension", record(&hello(&[0, 0, 0, 9, 1])), Hello::Garbage),
            ("an empty name", record(&sni(&[0, 3, 0, 0, 0])), Hello::Garbage),
            ("an empty list", record(&sni(&[0, 0])), Hello::Garbage),
            ("a name with a space", record(&sni(&[0, 4, 0, 0, 1, b' '])), Hello::Garbage),
            ("an upper-case name", record(&sni(&[0, 4, 0, 0, 1, b'A'])), Hello::For("a".into())),
        ];
        for (what, bytes, expect) in cases {
            assert_eq!(read(bytes), *expect, "{what}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let seed = real(NAME);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            bytes.truncate((state >> 40) as usize % (seed.len() + 1));
            read(&bytes);
        }
    }
}
