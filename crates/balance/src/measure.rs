//! What is measured of a candidate or a connection: latency and failures, both fading with time.

use crate::limits::{FAILURE_DECAY_US, FAILURE_PRIOR, LATENCY_DECAY_US, LATENCY_UNKNOWN_US};

/// Peak-EWMA (Finagle): jumps up to a slow answer at once, forgets it slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    us: f64,
    at_us: u64,
}

impl Latency {
    pub(crate) fn new(now_us: u64) -> Self {
        Self { us: LATENCY_UNKNOWN_US, at_us: now_us }
    }

    pub(crate) fn observe(&mut self, sample_us: u64, now_us: u64) {
        let sample = sample_us as f64;
        if sample > self.us {
            self.us = sample;
        } else {
            let keep = fade(self.at_us, now_us, LATENCY_DECAY_US);
            self.us = self.us * keep + sample * (1.0 - keep);
        }
        self.at_us = now_us;
    }

    /// A fast failure is no fast answer: only a slow one counts.
    pub(crate) fn observe_failure(&mut self, sample_us: u64, now_us: u64) {
        if sample_us as f64 > self.us {
            self.observe(sample_us, now_us);
        }
    }

    /// What one more request costs here. Fades without answers, so that a once slow endpoint is asked again.
    pub(crate) fn cost(&self, in_flight: u32, now_us: u64) -> f64 {
        (self.us * fade(self.at_us, now_us, LATENCY_DECAY_US)).max(1.0) * f64::from(in_flight + 1)
    }
}

/// Share of recent requests that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failures {
    good: f64,
    bad: f64,
    at_us: u64,
}

impl Failures {
    pub(crate) fn observe(&mut self, failed: bool, now_us: u64) {
        let keep = fade(self.at_us, now_us, FAILURE_DECAY_US);
        self.good *= keep;
        self.bad *= keep;
        self.at_us = now_us;
        if failed {
            self.bad += 1.0;
        } else {
            self.good += 1.0;
        }
    }

    pub(crate) fn share(&self, now_us: u64) -> f64 {
        let keep = fade(self.at_us, now_us, FAILURE_DECAY_US);
        self.bad * keep / ((self.good + self.bad) * keep + FAILURE_PRIOR)
    }
}

fn fade(from_us: u64, to_us: u64, constant_us: f64) -> f64 {
    (-(to_us.saturating_sub(from_us) as f64) / constant_us).exp()
}
