//! Why a request went where it went, or why it failed. One enum for access log, metrics, explain, GUI and CLI.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $about:literal;)*) => {
        /// The deciding reason of a routing decision or a failure; sent to callers in the `weft-reason` header.
        #[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        pub enum RouteReason { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl RouteReason {
            /// Every reason, for reference pages and tables.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Stable text, as in headers, logs and metrics.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),* } }

            /// One sentence for people.
            pub const fn about(self) -> &'static str { match self { $(Self::$variant => $about),* } }
        }
    };
}

reasons! {
    /// Default.
    Local = "LOCAL", "answered by the caller's own zone, as usual";
    /// No local endpoint exists.
    LocalNone = "LOCAL_NONE", "the caller's zone has no endpoint of this service";
    /// Local endpoints exist, none is ready.
    LocalUnready = "LOCAL_UNREADY", "too few local endpoints are ready";
    /// Local endpoints are at their limit.
    LocalOverloaded = "LOCAL_OVERLOADED", "local endpoints are at their limit";
    /// An explicit weight.
    Split = "SPLIT", "a route's weights sent it there";
    /// The name or the backend named the zone.
    Pinned = "PINNED", "the caller or a route named the zone";
    /// The zone is being drained.
    Draining = "DRAINING", "the usual zone is draining";
    /// Endpoints are ejected.
    Ejected = "EJECTED", "the usual endpoints are ejected after failures";
    /// No gateway answers.
    Unreachable = "UNREACHABLE", "no gateway of the zone answers";
    /// A policy excludes it.
    PolicyForbids = "POLICY_FORBIDS", "a policy excludes the usual place";
    /// Nothing is healthy; spread over all.
    Panic = "PANIC", "nothing is healthy, so everything is tried";
    /// Another try after a failure.
    RetryElsewhere = "RETRY_ELSEWHERE", "an earlier try failed elsewhere";
    /// No route or service has this name.
    NoRoute = "NO_ROUTE", "no service or route has this name";
    /// A service without any endpoint.
    NoEndpoint = "NO_ENDPOINT", "the service has no endpoint anywhere";
    /// Connecting failed everywhere it was tried.
    ConnectFailed = "CONNECT_FAILED", "no connection to an endpoint could be made";
    /// The other side closed before an answer.
    UpstreamReset = "UPSTREAM_RESET", "the upstream closed the connection before it answered";
    /// Total deadline passed.
    RequestTimeout = "REQUEST_TIMEOUT", "the request took longer than its timeout";
    /// Nothing moved for too long.
    StreamIdle = "STREAM_IDLE", "nothing moved in either direction for as long as a stream may stand still";
    /// Authorization refused.
    Denied = "DENIED", "an Authorization policy refused the caller";
    /// The peer's identity did not verify.
    IdentityRefused = "IDENTITY_REFUSED", "the other side's certificate was refused";
    /// The app behind the inbound proxy does not answer.
    AppUnreachable = "APP_UNREACHABLE", "the application behind the proxy does not accept connections";
    /// A limit of the proxy was reached.
    Overloaded = "OVERLOADED", "a limit of the proxy was reached";
    /// A limit of a CircuitBreaker was reached.
    CircuitOpen = "CIRCUIT_OPEN", "a circuit breaker's limit was reached: too much of the service is in use already";
    /// A copy of a request, which nobody waits for.
    Mirrored = "MIRRORED", "a copy of a request; its answer was dropped";
    /// A Fault policy did it.
    FaultInjected = "FAULT_INJECTED", "a Fault policy delayed, slowed or failed it on purpose";
    /// A RateLimit policy's count is used up.
    RateLimited = "RATE_LIMITED", "a RateLimit policy allows no more at this moment";
    /// A TLS connection for one host, and a request for another.
    Misdirected = "MISDIRECTED", "the request is for a host that its TLS connection was not made for";
    /// The request is not valid.
    BadRequest = "BAD_REQUEST", "the request is malformed or exceeds a limit";
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
