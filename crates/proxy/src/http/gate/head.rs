//! One HTTP/1 request head, line by line: what is malformed, and how the message is framed.
//!
//! Stricter than RFC 9112 allows receivers to be: where two servers could read a head differently, nobody gets to.
//! Each line is judged once, as soon as it is whole; nothing is copied.

use crate::limits::HEADERS_MAX;
use std::error::Error;
use std::io;

/// Why a message was refused. None of these has an honest use.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Bad {
    /// A line that ends in LF alone, or a CR inside of one.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// Not `METHOD TARGET HTTP/1.x`.
    #[error("the request line is malformed, or of a version that is not served")]
    RequestLine,
    /// Longer than the listener takes.
    #[error("the request line is too long")]
    RequestLineLong,
    /// Neither `/path`, nor `http://host/path`, nor `*` with OPTIONS, nor `host:port` with CONNECT.
    #[error("the request target is malformed")]
    Target,
    /// A line that begins with a space: `obs-fold`.
    #[error("a header field goes on in a second line")]
    Folded,
    /// A name that is not a token, or a space before the colon.
    #[error("a header field's name is malformed")]
    Name,
    /// NUL or another control character in a value.
    #[error("a header field's value has a control character")]
    Value,
    /// Too many fields, or too many bytes.
    #[error("the head has too many or too large header fields")]
    TooLarge,
    /// No `Host`, several, or one that is no host.
    #[error("the request needs exactly one valid Host")]
    Host,
    /// `Host` and an absolute target that name different hosts.
    #[error("Host and the request target name different hosts")]
    Authority,
    /// Several `Content-Length`, or one that is no number.
    #[error("Content-Length is malformed or given twice")]
    Length,
    /// Anything but one `chunked`, or one that HTTP/1.0 cannot have.
    #[error("Transfer-Encoding is not exactly one `chunked`")]
    Coding,
    /// Both, which is how requests are smuggled.
    #[error("both Content-Length and Transfer-Encoding are given")]
    Both,
    /// A field like `Transfer_Encoding`, which some servers read as the one with `-`.
    #[error("a header field pretends to be one that frames the message")]
    Pretender,
    /// The chunked body.
    #[error("a chunk of the body is malformed or exceeds a limit")]
    Chunk,
    /// The head took too long.
    #[error("the head did not arrive in time")]
    Slow,
    /// The body came too slowly.
    #[error("the body arrives too slowly")]
    SlowBody,
}

impl Bad {
    /// What is behind an error of a body, however it was passed on. `None`: not the gate.
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let bad = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
            if let Some(bad) = bad {
                return Some(*bad);
            }
            next = error.source();
        }
        None
    }

    /// Whether nothing was wrong but the time it took.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::SlowBody)
    }

    /// HTTP status of the answer.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::RequestLineLong => http::StatusCode::URI_TOO_LONG,
            Self::TooLarge => http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Slow | Self::SlowBody => http::StatusCode::REQUEST_TIMEOUT,
            _ => http::StatusCode::BAD_REQUEST,
        }
    }
}

/// A whole head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Bytes, the empty line included.
    pub bytes: usize,
    /// What follows.
    pub body: Framing,
    /// Asks for another protocol; what follows the message may be bytes of that one.
    pub switches: bool,
}

/// How long a message's body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a head may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadMax {
    /// Of the whole head.
    pub bytes: usize,
    /// Of its first line.
    pub line_bytes: usize,
    /// Names with `_` are taken. Many apps cannot tell them from those with `-`, so an edge does not.
    pub underscores: bool,
}

/// Reads one head. Call it again with the same bytes and more when it wants more.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// Start of the first line that is not judged yet.
    at: usize,
    /// No line ends before this.
    looked: usize,
    begun: bool,
    skipped_empty: bool,
    old: bool,
    connect: bool,
    /// Within the head: authority of an absolute target.
    authority: Option<(usize, usize)>,
    host: Option<(usize, usize)>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    connection_upgrade: bool,
    upgrade: bool,
}

impl HeadReader {
    /// `bytes` begin with the head. `None`: more is needed.
    pub fn read(&mut self, bytes: &[u8], max: &HeadMax) -> Result<Option<Head>, Bad> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &bytes[self.looked..]) else {
                self.looked = bytes.len();
                return match () {
                    () if !self.begun && bytes.len() > max.line_bytes => Err(Bad::RequestLineLong),
                    () if bytes.len() > max.bytes => Err(Bad::TooLarge),
                    () => Ok(None),
                };
            };
            let next = self.looked + end + 1;
            if next < self.at + 2 || bytes[next - 2] != b'\r' {
                return Err(Bad::LineEnd);
            }
            let line = self.at..next - 2;
            if next > max.bytes {
                return Err(if self.begun { Bad::TooLarge } else { Bad::RequestLineLong });
            }
            (self.at, self.looked) = (next, next);
            match (self.begun, line.is_empty()) {
                // Some clients end a body with one line end too many (RFC 9112 section 2.2).
                (false, true) if !self.skipped_empty => self.skipped_empty = true,
                (false, true) => return Err(Bad::RequestLine),
                (false, false) => {
                    if line.len() > max.line_bytes {
                        return Err(Bad::RequestLineLong);
                    }
                    self.request_line(&bytes[line.clone()], line.start)?;
                    self.begun = true;
                }
                (true, false) => self.field(&bytes[line.clone()], line.start, max)?,
                (true, true) => return self.end(bytes, next).map(Some),
            }
        }
    }

    fn request_line(&mut self, line: &[u8], start: usize) -> Result<(), Bad> {
        let space = line.iter().position(|b| *b == b' ').ok_or(Bad::RequestLine)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
            return Err(Bad::RequestLine);
        }
        let space = rest.iter().position(|b| *b == b' ').ok_or(Bad::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(if version.contains(&b'\r') { Bad::LineEnd } else { Bad::RequestLine }),
        };
        // Controls have ended the line or are refused here; a fragment is never sent (RFC 9112 section 3.2).
        if target.iter().any(|b| *b <= b' ' || *b == 0x7f || *b == b'#') {
            return Err(Bad::Target);
        }
        self.connect = method == b"CONNECT";
        let target_at = start + method.len() + 1;
        match target {
            _ if self.connect => self.authority = Some((target_at, target_at + target.len())),
            [b'/', ..] => {}
            b"*" if method == b"OPTIONS" => {}
            _ => {
                let scheme = [&b"http://"[..], b"https://"]
                    .into_iter()
                    .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
                    .ok_or(Bad::Target)?
                    .len();
                let rest = &target[scheme..];
                let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
                self.authority = Some((target_at + scheme, target_at + scheme + end));
            }
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8], start: usize, max: &HeadMax) -> Result<(), Bad> {
        self.fields += 1;
        if self.fields > HEADERS_MAX {
            return Err(Bad::TooLarge);
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Bad::Folded);
        }
        let colon = line.iter().position(|b| !is_token(*b)).ok_or(Bad::Name)?;
        if colon == 0 || line[colon] != b':' {
            return Err(Bad::Name);
        }
        let (name, raw) = (&line[..colon], &line[colon + 1..]);
        // Without a way out before its end, so that it is done many bytes at a time.
        if !raw.iter().fold(true, |fits, b| fits & is_value(*b)) {
            return Err(if raw.contains(&b'\r') { Bad::LineEnd } else { Bad::Value });
        }
        let value = raw.trim_ascii();
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // Told by length first: almost every field stops here.
        match name.len() {
            4 if is(b"host") => {
                if self.host.is_some() || !is_host(value) {
                    return Err(Bad::Host);
                }
                let lead = raw.len() - raw.trim_ascii_start().len();
                let at = start + colon + 1 + lead;
                self.host = Some((at, at + value.len()));
            }
            14 if is(b"content-length") => {
                if self.length.is_some() {
                    return Err(Bad::Length);
                }
                self.length = Some(number(value).ok_or(Bad::Length)?);
            }
            17 if is(b"transfer-encoding") => {
                if self.chunked || self.old || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Bad::Coding);
                }
                self.chunked = true;
            }
            10 if is(b"connection") => {
                let upgrade = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"upgrade");
                self.connection_upgrade |= value.split(|b| *b == b',').any(upgrade);
            }
            7 if is(b"upgrade") => self.upgrade = true,
            _ if name.contains(&b'_') && (!max.underscores || frames(name)) => return Err(Bad::Pretender),
            _ => {}
        }
        Ok(())
    }

    fn end(&self, bytes: &[u8], end: usize) -> Result<Head, Bad> {
        let host = self.host.map(|(from, to)| &bytes[from..to]);
        let authority = self.authority.map(|(from, to)| &bytes[from..to]);
        match (host, authority) {
            (None, _) if !self.old => return Err(Bad::Host),
            (_, Some(authority)) if !is_host(authority) => return Err(Bad::Target),
            (Some(host), Some(authority)) if !same_host(host, authority) => return Err(Bad::Authority),
            _ => {}
        }
        let body = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Bad::Both),
            (None, false) => Framing::Length(0),
            (Some(_), false) | (None, true) if self.connect => return Err(Bad::Target),
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked,
        };
        let switches = self.connect || (self.connection_upgrade && self.upgrade && !self.old);
        Ok(Head { bytes: end, body, switches })
    }
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// What each byte may be part of: a name of a field (RFC 9110 section 5.6.2), a host that is a name or an IPv4 address.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            class[byte] |= TOKEN | HOST;
        }
        if matches!(b, b'.' | b'-' | b'_') {
            class[byte] |= HOST;
        }
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < marks.len() {
        class[marks[i] as usize] |= TOKEN;
        i += 1;
    }
    class
};

/// Whether a byte may be part of a name.
pub fn is_token(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// Whether a byte may be part of a value (RFC 9110 section 5.5).
pub fn is_value(byte: u8) -> bool {
    (byte == b'\t') | ((byte >= b' ') & (byte != 0x7f))
}

/// `1*DIGIT` that fits.
fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// A name, an IPv4 address or a bracketed IPv6 address, and perhaps a port. No user, no list, no escapes.
pub fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|b| *b == b']') {
            Some(end) if end > 1 && rest[..end].iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) => {
                (&rest[..end], &rest[end + 1..])
            }
            _ => return false,
        },
        _ => {
            let end = text.iter().position(|b| CLASS[*b as usize] & HOST == 0).unwrap_or(text.len());
            text.split_at(end)
        }
    };
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => number(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    };
    !host.is_empty() && port_fits
}

/// Case aside, and a port that says nothing new aside.
pub fn same_host(one: &[u8], other: &[u8]) -> bool {
    let bare = |host: &[u8]| {
        let host = host.strip_suffix(b":80").or_else(|| host.strip_suffix(b":443")).unwrap_or(host);
        host.to_ascii_lowercase()
    };
    one.eq_ignore_ascii_case(other) || bare(one) == bare(other)
}

/// Whether a name pretends: with `_` read as `-` it would frame the message.
pub fn frames(name: &[u8]) -> bool {
    if !name.contains(&b'_') {
        return false;
    }
    let same = |wanted: &[u8]| {
        name.len() == wanted.len()
            && name.iter().zip(wanted).all(|(b, w)| b.eq_ignore_ascii_case(w) || (*b == b'_' && *w == b'-'))
    };
    same(b"content-length") || same(b"transfer-encoding")
}
