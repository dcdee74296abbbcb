//! Who may use the API: the holder of the admin token, by header, or by a session cookie after a login.
//! Coming from this machine gives no right at all.

use crate::problem::{Answer, Refused};
use aws_lc_rs::{constant_time, digest, rand};
use http::{HeaderMap, Method, StatusCode, header};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// File of the admin token in the data folder.
pub const TOKEN_FILE: &str = "admin.token";
/// Name of the session cookie.
pub const COOKIE: &str = "weft_session";
/// Random bytes of a token or session: 256 bits, as RFC 6749 section 10.10 wants at least 128.
const SECRET_BYTES: usize = 32;
/// A session ends after a working day.
const SESSION_MS: u64 = 12 * 3_600_000;
/// Sessions at once; the oldest makes room.
const SESSIONS_MAX: usize = 64;
/// Wrong tokens in one minute before logins have to wait.
const FAILURES_PER_MINUTE: u32 = 30;

/// The admin token and the sessions it opened.
pub struct Auth {
    token: [u8; 32],
    /// Hosts, besides addresses and `localhost`, under which browsers may come.
    hosts: Vec<String>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// SHA-256 of the session's secret to the Unix millisecond at which it ends.
    sessions: BTreeMap<[u8; 32], u64>,
    failures: u32,
    failures_since_ms: u64,
}

/// How a request proved itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Bearer token.
    Token,
    /// Session cookie.
    Session,
}

/// The token file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the admin token in {path}: {source}; check owner and mode of the file")]
pub struct TokenFileError {
    path: String,
    source: std::io::Error,
}

impl Auth {
    /// Reads the admin token of a data folder, making it (mode 0600) at first start.
    pub fn open(data: &Path, hosts: Vec<String>) -> Result<Self, TokenFileError> {
        let path = data.join(TOKEN_FILE);
        let wrong = |source| TokenFileError { path: path.display().to_string(), source };
        let token = match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Ok(_) => return Err(wrong(std::io::Error::other("the file is empty"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let token = format!("weft-admin.{}", secret());
                process::write_atomic(&path, format!("{token}\n").as_bytes(), 0o600)
                    .map_err(|error| wrong(std::io::Error::other(error.to_string())))?;
                token
            }
            Err(error) => return Err(wrong(error)),
        };
        Ok(Self::with_token(&token, hosts))
    }

    /// With a token that is already known.
    pub fn with_token(token: &str, hosts: Vec<String>) -> Self {
        Self { token: hash(token), hosts, book: Mutex::default() }
    }

    /// Opens a session for the holder of the admin token; answers the cookie's value.
    pub fn login(&self, token: &str, now_ms: u64) -> Answer<String> {
        let mut book = self.book();
        if now_ms.saturating_sub(book.failures_since_ms) > 60_000 {
            (book.failures, book.failures_since_ms) = (0, now_ms);
        }
        if book.failures >= FAILURES_PER_MINUTE {
            let detail = "too many wrong tokens; wait a minute";
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "slow-down", "too many attempts", detail));
        }
        if !self.is_token(token) {
            book.failures += 1;
            return Err(Refused::unauthenticated(
                "this is not the admin token; it is in admin.token of the data folder",
            ));
        }
        book.sessions.retain(|_, until| *until > now_ms);
        if book.sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = book.sessions.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id)
        {
            book.sessions.remove(&oldest);
        }
        let session = secret();
        book.sessions.insert(hash(&session), now_ms + SESSION_MS);
        Ok(session)
    }

    /// Ends the session of these headers, if there is one.
    pub fn logout(&self, headers: &HeaderMap) {
        if let Some(session) = cookie(headers) {
            self.book().sessions.remove(&hash(session));
        }
    }

    /// Who asks. A cookie is only believed from our own page: host known and, for writes, origin equal.
    pub fn check(&self, method: &Method, headers: &HeaderMap, now_ms: u64) -> Answer<Caller> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            return match token {
                Some(token) if self.is_token(token.trim()) => Ok(Caller::Token),
                _ => Err(Refused::unauthenticated("the bearer token is not the admin token of this control plane")),
            };
        }
        let Some(session) = cookie(headers) else {
            return Err(Refused::unauthenticated("no token was sent; send `Authorization: Bearer TOKEN`, or log in"));
        };
        if self.book().sessions.get(&hash(session)).is_none_or(|until| *until <= now_ms) {
            return Err(Refused::unauthenticated("the session has ended; log in again"));
        }
        self.check_page(method, headers)?;
        Ok(Caller::Session)
    }

    /// Refuses requests that another site's page could have caused, or that reached us under a foreign name.
    pub fn check_page(&self, method: &Method, headers: &HeaderMap) -> Answer<()> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_host(host) {
            let detail = format!("the host name `{host}` is not known here; name it with --api-host");
            return Err(Refused::forbidden(detail));
        }
        if method.is_safe() {
            return Ok(());
        }
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        let same = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
        if same {
            Ok(())
        } else {
            Err(Refused::forbidden(
                "the request does not come from this control plane's own page (Origin and Host differ)",
            ))
        }
    }

    fn is_token(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(&hash(token), &self.token).is_ok()
    }

    fn is_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// A new secret as hexadecimal text.
pub fn secret() -> String {
    hex(&random::<SECRET_BYTES>())
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source does not fail once it is seeded");
    bytes
}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads [`hex`] back.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

fn hash(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests;
