//! How places and endpoints of a service are chosen, as proxies are told.

use crate::name::ZoneName;
use crate::share::Share;
use serde::{Deserialize, Serialize};

/// How places and endpoints are chosen. The algorithm is defined in the `balance` crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balancing {
    /// Within a tier.
    pub algorithm: Algorithm,
    /// What a hash algorithm keeps together. The first one a request has decides; a request that has none goes anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_on: Vec<HashOn>,
    /// Most points of a hash ring; see [`RING_POINTS`].
    #[serde(default = "ring_points")]
    pub ring_points: u32,
    /// With a hash algorithm: requests in flight an endpoint may have, in percent of its fair share; above it, its keys
    /// go to the next. `None`: as many as come (consistent hashing with bounded loads, Mirrokni and others 2016).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_percent: Option<u32>,
    /// How many endpoints of its own zone one proxy calls, at most. `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<u32>,
    /// A tier spills below this share of its capacity.
    pub threshold: Share,
    /// How much moves when it does.
    pub mode: SpillMode,
    /// A tier also spills above this utilisation.
    pub spill_at: Share,
    /// Below this share of all capacity everywhere, everything is tried. At 0 % only when nothing is healthy.
    #[serde(default)]
    pub panic: Share,
    /// Zones in the order they take over from the caller's zone; computed for that zone. Zones not listed never do.
    pub failover: Vec<FailoverTier>,
    /// Ejection of failing endpoints.
    pub ejection: Ejection,
    /// Time over which a returning endpoint or zone gets its full share, milliseconds.
    pub slow_start_ms: u64,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            hash_on: Vec::new(),
            ring_points: RING_POINTS,
            bound_percent: None,
            subset: None,
            threshold: Share::percent(70),
            mode: SpillMode::default(),
            spill_at: Share::percent(90),
            panic: Share::NONE,
            failover: Vec::new(),
            ejection: Ejection::default(),
            slow_start_ms: 10_000,
        }
    }
}

/// Most points of a hash ring unless set: 1 MiB a service and worker (Envoy allows 8,388,608).
pub const RING_POINTS: u32 = 65_536;

fn ring_points() -> u32 {
    RING_POINTS
}

/// Zones of equal rank.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FailoverTier {
    /// Their names.
    pub zones: Vec<ZoneName>,
}

/// How an endpoint is chosen within a tier.
#[derive(Clone, Copy, Debug, Default, Eq, schemars::JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Better of two random ones by peak-EWMA latency times requests in flight.
    #[default]
    PeakEwma,
    /// Better of two random ones by requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// By a key of the request, on a ring of points (ketama).
    RingHash,
    /// By a key of the request, in a table of equal parts (Maglev, NSDI 2016).
    Maglev,
}

impl Algorithm {
    /// Whether requests of one key go to one endpoint.
    pub fn hashes(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
    }
}

/// A part of a request that makes it belong together with others.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashOn {
    /// The value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(HashCookie),
    /// The value of this parameter of the query.
    Query(String),
    /// The caller: a workload, or for a gateway's clients their address.
    Source,
}

/// A cookie, and whether it is made for those who have none.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// Made with this age in seconds; 0: until the browser closes. `None`: never made.
    pub ttl_s: Option<u64>,
    /// `Path` of the one that is made.
    pub path: String,
}

/// How much moves when a tier spills.
#[derive(Clone, Copy, Debug, Default, Eq, schemars::JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum SpillMode {
    /// Only what the tier cannot carry.
    #[default]
    Proportional,
    /// Everything.
    Switch,
}

/// When failing endpoints are taken out, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ejection {
    /// Failed answers (5xx or none) in a row.
    pub consecutive: u32,
    /// First time out; grows with each one.
    pub base_ms: u64,
    /// Longest time out.
    pub max_ms: u64,
    /// Share of a service's endpoints that may be out at once; at least one always stays in.
    pub share_max: Share,
    /// Between two comparisons of endpoints with each other.
    pub interval_ms: u64,
    /// Comparison with the others.
    pub success_rate: SuccessRate,
    /// Comparison with a fixed share.
    pub failure_share: FailureShare,
}

impl Default for Ejection {
    /// 5 in a row, 30 s to 300 s, compared every 10 s (Envoy), at most half.
    fn default() -> Self {
        Self {
            consecutive: 5,
            base_ms: 30_000,
            max_ms: 300_000,
            share_max: Share::percent(50),
            interval_ms: 10_000,
            success_rate: SuccessRate::default(),
            failure_share: FailureShare::default(),
        }
    }
}

/// Takes out who answers worse than the others: below the mean success rate by so many standard deviations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuccessRate {
    /// How many standard deviations. 0: never.
    pub deviations: f64,
    /// Endpoints with enough requests that are needed for a comparison.
    pub endpoints_min: u32,
    /// Requests within an interval that are enough.
    pub requests_min: u32,
}

impl Default for SuccessRate {
    /// 1.9 deviations, 5 endpoints, 100 requests (Envoy).
    fn default() -> Self {
        Self { deviations: 1.9, endpoints_min: 5, requests_min: 100 }
    }
}

/// Takes out who fails this share of its requests within an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureShare {
    /// At or above this share. 0 %: never.
    pub share: Share,
    /// Requests within an interval that are enough.
    pub requests_min: u32,
}

impl Default for FailureShare {
    /// 85 % of 50 requests (Envoy).
    fn default() -> Self {
        Self { share: Share::percent(85), requests_min: 50 }
    }
}
