//! HTTP/2 as no library would send it: frames byte by byte, and what came back.

use tokio::io::{AsyncRead, AsyncReadExt};

/// How a client begins (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and settings of one's own: pairs of number and value.
pub fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// A header block without compression: method by its number in the static table (2 GET, 3 POST), `/`, a host.
pub fn block(method: u8, host: &str) -> Vec<u8> {
    let mut bytes = vec![0x80 | method, 0x86, 0x84, 0x01];
    text(&mut bytes, host.as_bytes());
    bytes
}

/// A field that is not put into the table.
pub fn field(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.push(0);
    text(bytes, name);
    text(bytes, value);
}

/// A string with its length (RFC 7541 section 5).
pub fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text);
}

/// What a server said until the end of the connection.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Code of its GOAWAY.
    pub goaway: Option<u32>,
    /// Streams it reset.
    pub resets: u32,
    /// Heads of answers.
    pub answers: u32,
}

/// Reads frames to the end.
pub async fn listen(mut io: impl AsyncRead + Unpin, said: &mut Said) {
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while io.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        payload.resize(length, 0);
        if io.read_exact(&mut payload).await.is_err() {
            return;
        }
        match (head[3], payload.get(4..8)) {
            (GOAWAY, Some(code)) => said.goaway = code.try_into().ok().map(u32::from_be_bytes),
            (RST_STREAM, _) => said.resets += 1,
            (HEADERS, _) => said.answers += 1,
            _ => {}
        }
    }
}
