//! How often a workload may be called, as its proxy is told.

use super::{PeerMatch, RequestMatch};
use serde::{Deserialize, Serialize};

/// One rule of a RateLimit policy. Each proxy counts for itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RateLimitRule {
    /// Namespace and name of the policy, as answers name it: `NAMESPACE/NAME`.
    pub policy: String,
    /// Any of these callers. Empty: anybody, without a verified identity too.
    pub from: Vec<PeerMatch>,
    /// Any of these requests. Empty: all.
    pub to: Vec<RequestMatch>,
    /// Who shares a count.
    pub each: RateLimitEach,
    /// Requests.
    pub requests: Option<Rate>,
    /// New connections.
    pub connections: Option<Rate>,
    /// Bytes towards callers.
    pub bandwidth: Option<Rate>,
}

/// Who shares a count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum RateLimitEach {
    /// All callers together.
    #[default]
    All,
    /// Every verified identity has its own; those without one share one.
    Caller,
}

/// So many in a time: on average `count` in every `per_ms`, and up to `burst` at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests, connections or bytes; at least one.
    pub count: u64,
    /// Milliseconds; at least one.
    pub per_ms: u64,
    /// Requests, connections or bytes; at least one.
    pub burst: u64,
}
