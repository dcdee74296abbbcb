//! How places and endpoints of a service are chosen, as proxies are told.

use crate::name::ZoneName;
use crate::share::Share;
use serde::{Deserialize, Serialize};

/// How places and endpoints are chosen. The algorithm is defined in the `balance` crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balancing {
    /// Within a tier.
    pub algorithm: Algorithm,
    /// A tier spills below this share of its capacity.
    pub threshold: Share,
    /// How much moves when it does.
    pub mode: SpillMode,
    /// A tier also spills above this utilisation.
    pub spill_at: Share,
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
            threshold: Share::percent(70),
            mode: SpillMode::default(),
            spill_at: Share::percent(90),
            failover: Vec::new(),
            ejection: Ejection::default(),
            slow_start_ms: 10_000,
        }
    }
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
pub struct Ejection {
    /// Failed answers (5xx or none) in a row.
    pub consecutive: u32,
    /// First time out; grows with each one.
    pub base_ms: u64,
    /// Longest time out.
    pub max_ms: u64,
    /// Share of a service's endpoints that may be out at once; at least one always stays in.
    pub share_max: Share,
}

impl Default for Ejection {
    /// 5 in a row, 30 s to 300 s (Envoy), at most half.
    fn default() -> Self {
        Self { consecutive: 5, base_ms: 30_000, max_ms: 300_000, share_max: Share::percent(50) }
    }
}
