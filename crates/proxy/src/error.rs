//! What can go wrong on the way, and how the caller hears of it.

use crate::http::body::Answer;
use crate::http::gate::Bad;
use crate::http::headers;
use api::RouteReason;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use std::time::Duration;

/// gRPC's INTERNAL, which HTTP's 400 is mapped to (gRPC's table of HTTP statuses).
const GRPC_INTERNAL: u8 = 13;

/// Ends a request with an answer of our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Why; in `weft-reason`, records and metrics.
    pub reason: RouteReason,
    /// For people, in the body.
    pub text: String,
    /// `NAMESPACE/NAME` of the policy that refused.
    pub policy: Option<String>,
    /// After which time it is worth asking again.
    pub retry_after: Option<Duration>,
    /// Statuses that are not those of the reason.
    pub instead: Option<Instead>,
}

/// Statuses of an answer, whatever its reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instead {
    /// HTTP.
    pub status: StatusCode,
    /// gRPC.
    pub grpc: u8,
}

impl Failure {
    /// With words of its own.
    pub fn new(reason: RouteReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), policy: None, retry_after: None, instead: None }
    }

    /// Refused by a policy, or by the mesh's default.
    pub fn denied(caller: &str, policy: Option<&str>) -> Self {
        let text = match policy {
            Some(policy) => format!("Authorization policy {policy} refuses {caller}"),
            None => format!("no Authorization policy allows {caller}, and the mesh denies by default"),
        };
        Self { policy: policy.map(str::to_owned), ..Self::new(RouteReason::Denied, text) }
    }

    /// Refused before anybody looked whom it was for.
    pub fn refused(bad: Bad) -> Self {
        let instead = Some(Instead { status: bad.status(), grpc: GRPC_INTERNAL });
        Self { instead, ..Self::new(RouteReason::BadRequest, bad.to_string()) }
    }

    /// HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        if let Some(instead) = self.instead {
            return instead.status;
        }
        match self.reason {
            RouteReason::NoRoute => StatusCode::NOT_FOUND,
            RouteReason::BadRequest => StatusCode::BAD_REQUEST,
            RouteReason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            RouteReason::Denied => StatusCode::FORBIDDEN,
            RouteReason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            RouteReason::UpstreamReset => StatusCode::BAD_GATEWAY,
            RouteReason::RequestTimeout | RouteReason::StreamIdle => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// gRPC's status for the same (<https://grpc.io/docs/guides/status-codes/>).
    fn grpc_status(&self) -> &'static str {
        match self.reason {
            RouteReason::NoRoute => "12",
            RouteReason::BadRequest => "13",
            RouteReason::Denied => "7",
            RouteReason::RequestTimeout | RouteReason::StreamIdle => "4",
            RouteReason::Overloaded | RouteReason::CircuitOpen | RouteReason::RateLimited => "8",
            _ => "14",
        }
    }

    /// The answer. A gRPC caller gets a status it understands, in a head that is also the end.
    pub fn answer<G>(&self, dialect: &Dialect) -> Response<Answer<G>> {
        let text = format!("{} {}\n", self.reason, self.text);
        let mut response = Response::new(Answer::text(if dialect.is_grpc() { String::new() } else { text }));
        let fields = response.headers_mut();
        fields.insert(headers::REASON, HeaderValue::from_static(self.reason.as_str()));
        if let Some(policy) = &self.policy {
            fields.insert(headers::POLICY, headers::value(policy));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never too early (RFC 9110 section 10.2.3).
            let seconds = wait.as_millis().div_ceil(1_000).max(1) as u64;
            fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Dialect::Grpc(kind) = dialect {
            fields.insert(CONTENT_TYPE, kind.clone());
            let status = HeaderValue::from_static(self.grpc_status());
            fields.insert(
                "grpc-status",
                self.instead.map_or(status, |instead| HeaderValue::from(u16::from(instead.grpc))),
            );
            fields.insert("grpc-message", headers::value(&format!("{}: {}", self.reason, self.text)));
        } else {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            *response.status_mut() = self.status();
        }
        response
    }
}

/// How a caller hears of failures.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialect {
    /// By the status of HTTP, and a text.
    Http,
    /// By gRPC's status. With the content type of the request: gRPC, gRPC-Web and each codec have their own, and clients
    /// take another one for a broken answer.
    Grpc(HeaderValue),
}

impl Dialect {
    /// Of a request.
    pub fn of(request: &HeaderMap) -> Self {
        let kind = request.get(CONTENT_TYPE).filter(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        kind.map_or(Self::Http, |kind| Self::Grpc(kind.clone()))
    }

    /// Whether it is gRPC's.
    pub fn is_grpc(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }
}

/// No connection to a peer. Nothing was sent, so another endpoint may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Refused or unreachable.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Of the peer's proxy or of a gateway.
        address: std::net::SocketAddr,
        /// The kernel's words.
        source: std::io::Error,
    },
    /// Neither yes nor no in time.
    #[error("{address} did not answer within {ms} ms; is it frozen, or is a firewall in the way?")]
    Late {
        /// Of the peer's proxy or of a gateway.
        address: std::net::SocketAddr,
        /// The rule's connect timeout.
        ms: u64,
    },
    /// TLS failed: wrong or unknown identity, or no TLS at all.
    #[error("{address} failed the handshake as {server_name}: {}", verdict(source))]
    Handshake {
        /// Of the peer's proxy or of a gateway.
        address: std::net::SocketAddr,
        /// Whom we asked for.
        server_name: String,
        /// The verifier's words.
        source: std::io::Error,
    },
}

/// The verifier's own sentence, where it ended the handshake: rustls only quotes it for debugging.
fn verdict(source: &std::io::Error) -> String {
    identity::VerifyError::of_io(source).map_or_else(|| source.to_string(), |error| error.to_string())
}

impl ConnectError {
    /// What a caller is told when nothing else could be tried.
    pub fn reason(&self) -> RouteReason {
        match self {
            Self::Connect { .. } | Self::Late { .. } => RouteReason::ConnectFailed,
            // Only a refused certificate is one; a connection that closes within the handshake is a broken peer.
            Self::Handshake { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                RouteReason::IdentityRefused
            }
            Self::Handshake { .. } => RouteReason::ConnectFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_policy_in_head_and_text() {
        let failure = Failure::denied("spiffe://west.default/ns/a/sa/b", Some("shop/locked"));
        let response = failure.answer::<()>(&Dialect::Http);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["weft-reason"], "DENIED");
        assert_eq!(response.headers()["weft-policy"], "shop/locked");
    }

    #[test]
    fn a_grpc_caller_hears_a_grpc_status() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web+json"] {
            let request = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let response = Failure::new(RouteReason::RequestTimeout, "too slow").answer::<()>(&Dialect::of(&request));
            let fields = response.headers();
            assert_eq!(
                (response.status().as_u16(), &fields["grpc-status"], &fields[CONTENT_TYPE]),
                (200, &HeaderValue::from_static("4"), &HeaderValue::from_static(kind))
            );
        }
    }
}
