//! How an app's connection ends while its proxy drains.
//!
//! HTTP/2 can say which requests were still taken (GOAWAY, RFC 9113 section 6.8). HTTP/1.1 can only say `close` in an
//! answer (RFC 9112 section 9.6): closing a connection on which nothing seems to happen loses the request that is on its
//! way. So a kept connection waits for one more request, and is closed without one only after a while.

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// What one connection needs to end well.
#[derive(Debug)]
pub struct Parting {
    drain: CancellationToken,
    http2: AtomicBool,
}

/// What is known of a request when its answer goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `close` in the answer ends the connection.
    Ends,
    /// The connection goes on as something else, or has other ways to end.
    GoesOn,
}

impl Parting {
    /// Ends when `drain` is cancelled.
    pub fn new(drain: CancellationToken) -> Self {
        Self { drain, http2: AtomicBool::new(false) }
    }

    /// A request came.
    pub fn begins<B>(&self, request: &Request<B>) -> Kind {
        match request.version() {
            Version::HTTP_2 => {
                self.http2.store(true, Ordering::Relaxed);
                Kind::GoesOn
            }
            _ if request.method() == Method::CONNECT => Kind::GoesOn,
            _ => Kind::Ends,
        }
    }

    /// Its answer goes out.
    pub fn ends<B>(&self, kind: Kind, response: &mut Response<B>) {
        let last = kind == Kind::Ends && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if last && self.drain.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Whether a drain waits for one more request.
    pub fn waits(&self) -> bool {
        !self.http2.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_http_1_says_close_and_only_in_a_drain() {
        let drain = CancellationToken::new();
        let parting = Parting::new(drain.clone());
        let said = |version: Version, method: Method, status: StatusCode| {
            let mut request = Request::new(());
            (*request.version_mut(), *request.method_mut()) = (version, method);
            let mut response = Response::new(());
            *response.status_mut() = status;
            parting.ends(parting.begins(&request), &mut response);
            response.headers().contains_key(CONNECTION)
        };
        assert!(!said(Version::HTTP_11, Method::GET, StatusCode::OK));
        drain.cancel();
        assert!(said(Version::HTTP_11, Method::GET, StatusCode::OK));
        assert!(!said(Version::HTTP_11, Method::GET, StatusCode::SWITCHING_PROTOCOLS));
        assert!(!said(Version::HTTP_11, Method::CONNECT, StatusCode::OK));
        assert!(parting.waits());
        assert!(!said(Version::HTTP_2, Method::GET, StatusCode::OK));
        assert!(!parting.waits());
    }
}
