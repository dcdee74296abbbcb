//! How long work waits in a worker's queue.
//!
//! As in CoDel (RFC 8289) the shortest wait within an interval counts, not the longest: a burst makes a queue that goes
//! away again, and only one that stands is overload.

use super::Load;
use crate::limits::{DELAY_SAMPLE, DELAY_STANDS, DELAY_TARGET, SHED_MAX, SHED_STEP_DOWN, SHED_STEP_UP};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A queue, as its samples tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// For how long every sample was above the target.
    stands: Duration,
    shed: u32,
}

impl Standing {
    /// Takes in a wait, `passed` after the one before.
    pub fn sample(&mut self, wait: Duration, passed: Duration) {
        if wait < DELAY_TARGET {
            self.stands = Duration::ZERO;
            self.shed = self.shed.saturating_sub(SHED_STEP_DOWN);
            return;
        }
        // One sample tells of one wait, however long: a process that was frozen and thawed has no queue yet.
        self.stands += passed.min(DELAY_STANDS);
        // Others had one interval to go elsewhere.
        if self.stands >= DELAY_STANDS * 2 {
            self.shed = (self.shed + SHED_STEP_UP).min(SHED_MAX);
        }
    }

    /// Whether others had better go elsewhere.
    pub fn is_late(&self) -> bool {
        self.stands >= DELAY_STANDS || self.shed > 0
    }

    /// Share of requests to refuse, in thousandths.
    pub fn shed(&self) -> u32 {
        self.shed
    }
}

/// Samples the queue of the present runtime: a timer is due, and comes to its turn when everybody before it has.
pub async fn measure(load: &Load) {
    let mut standing = Standing::default();
    let mut last = Instant::now();
    loop {
        let due = last + DELAY_SAMPLE;
        sleep_until(due).await;
        let now = Instant::now();
        standing.sample(now - due, now - last);
        load.learn(&standing);
        last = now;
    }
}
