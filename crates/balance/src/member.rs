//! One candidate: an endpoint, or one address of a remote zone's gateways.

use crate::ask::Candidate;
use crate::compare::Tally;
use crate::connections::Connections;
use crate::fault::{Fault, planted};
use crate::key::hash_key;
use crate::limits::{LOAD_FRESH_US, MS, RAMP_FLOOR};
use crate::measure::{Failures, Latency};
use crate::standing::Standing;
use api::{Name, ZoneName};
use std::net::SocketAddr;
use std::sync::Arc;

/// What makes a candidate the same one in the next configuration.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Key {
    Endpoint(Name, SocketAddr),
    Gateway(ZoneName, SocketAddr),
}

impl Key {
    pub(crate) fn hash(&self) -> u64 {
        let text = match self {
            Self::Endpoint(workload, address) => format!("{workload}/{address}"),
            Self::Gateway(zone, address) => format!("{zone}/{address}"),
        };
        hash_key(text.as_bytes())
    }
}

/// Why a candidate gets less than its full share for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ramp {
    Done,
    /// Never seen before: it counts little in the place's total too, so that growing never looks like failing.
    New {
        since_us: u64,
    },
    /// It was here and is back.
    Back {
        since_us: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) generation: u32,
    pub(crate) key: Key,
    /// Number of `key`.
    pub(crate) hash: u64,
    pub(crate) zone: ZoneName,
    pub(crate) candidate: Arc<Candidate>,
    pub(crate) weight: f64,
    pub(crate) ready: bool,
    pub(crate) standing: Standing,
    pub(crate) ramp: Ramp,
    /// Share of its weight that counts, as of the last measuring.
    pub(crate) counts: f64,
    /// In the subset this proxy calls.
    pub(crate) chosen: bool,
    pub(crate) tally: Tally,
    pub(crate) in_flight: u32,
    pub(crate) latency: Latency,
    pub(crate) failures: Failures,
    pub(crate) load: Option<(f64, u64)>,
    pub(crate) connections: Connections,
    /// Index of its locality; set with each update.
    pub(crate) locality: usize,
}

impl Member {
    pub(crate) fn is_gateway(&self) -> bool {
        matches!(*self.candidate, Candidate::Gateway { .. })
    }

    pub(crate) fn usable(&self) -> bool {
        self.ready && self.chosen && self.standing.is_in()
    }

    /// Share of its weight that counts now, and that counts in the total.
    pub(crate) fn ramped(&mut self, slow_start_ms: u64, now_us: u64) -> (f64, f64) {
        let share = |since_us: u64| {
            let time = (slow_start_ms * MS) as f64;
            let passed = now_us.saturating_sub(since_us) as f64;
            if time <= 0.0 || planted(Fault::NoSlowStart) { 1.0 } else { RAMP_FLOOR.max(passed / time).min(1.0) }
        };
        let (counts, of) = match self.ramp {
            Ramp::Done => (1.0, 1.0),
            Ramp::New { since_us } => (share(since_us), share(since_us)),
            Ramp::Back { since_us } => (share(since_us), 1.0),
        };
        if counts >= 1.0 {
            self.ramp = Ramp::Done;
        }
        self.counts = counts;
        (counts, of)
    }

    pub(crate) fn fresh_load(&self, now_us: u64) -> Option<f64> {
        self.load.filter(|(_, at)| now_us.saturating_sub(*at) <= LOAD_FRESH_US).map(|(load, _)| load)
    }

    pub(crate) fn cost(&self, now_us: u64) -> f64 {
        self.latency.cost(self.in_flight, now_us)
    }
}
