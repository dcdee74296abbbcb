//! A token bucket in one number: the moment at which it will be full again (GCRA, ITU-T I.371 annex A).
//!
//! Time is an argument, in microseconds of any clock. Arithmetic is in ticks, of which a whole number makes a
//! microsecond and a whole number pays for one unit, so that nothing is rounded: a rate of 3 a second admits three
//! in every second for as long as the proxy runs. Workers share a bucket by its atomic; there is no lock.
//!
//! Ticks wrap around. A bucket untouched for a whole turn, 203 days or more, may be found as it was left, which is at
//! worst `SLACK_US` of waiting.

use api::config::Rate;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most ticks in a microsecond, for a turn of at least 203 days. Rates that would need more are rounded down, by less
/// than 1 in a thousand below 1 GB/s.
const TICKS_PER_US_MAX: u64 = 1 << 20;
/// How far ahead of a full bucket its moment may lie before it counts as long past: further than
/// [`PATIENCE_US_MAX`], and than one worker's reading of the clock may lag behind another's.
const SLACK_US: u64 = 60_000_000;
/// Longest patience that may be asked for.
pub const PATIENCE_US_MAX: u64 = 30_000_000;

/// A rate, in ticks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Meter {
    ticks_per_us: u64,
    ticks_each: u64,
    window: u64,
}

/// When it will be full again, in ticks. Begins full.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// Not now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Later {
    /// Microseconds after which the same would be granted, if nobody else took anything.
    pub wait_us: u64,
}

impl Meter {
    /// Of a rate; zeros count as one.
    pub fn new(rate: &Rate) -> Self {
        let Rate { count, per_ms, burst } = *rate;
        let (count, per_us) = (count.max(1), per_ms.max(1).saturating_mul(1_000));
        let divisor = gcd(count, per_us);
        let (mut ticks_each, mut ticks_per_us) = (per_us / divisor, count / divisor);
        if ticks_per_us > TICKS_PER_US_MAX {
            let exact = u128::from(ticks_each) * u128::from(TICKS_PER_US_MAX);
            ticks_each = exact.div_ceil(u128::from(ticks_per_us)) as u64;
            ticks_per_us = TICKS_PER_US_MAX;
        }
        // A quarter of the turn is left for the past.
        let window = burst.max(1).saturating_mul(ticks_each).min(u64::MAX / 4);
        Self { ticks_per_us, ticks_each, window }
    }

    /// Takes `units`. With patience, they may be promised for later: `Ok` says in how many microseconds.
    pub fn take(&self, bucket: &Bucket, units: u64, now_us: u64, patience_us: u64) -> Result<u64, Later> {
        let now = now_us.wrapping_mul(self.ticks_per_us);
        let cost = units.saturating_mul(self.ticks_each);
        let room = self.window + patience_us.min(PATIENCE_US_MAX) * self.ticks_per_us;
        let mut full_at = bucket.0.load(Ordering::Relaxed);
        loop {
            let then = self.ahead(full_at, now).saturating_add(cost);
            if then > room {
                return Err(Later { wait_us: (then - room).div_ceil(self.ticks_per_us) });
            }
            let next = now.wrapping_add(then);
            match bucket.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(then.saturating_sub(self.window).div_ceil(self.ticks_per_us)),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, bucket: &Bucket, units: u64, now_us: u64) {
        let now = now_us.wrapping_mul(self.ticks_per_us);
        let cost = units.saturating_mul(self.ticks_each);
        let give = |full_at| Some(now.wrapping_add(self.ahead(full_at, now).saturating_sub(cost)));
        // Never refused: the closure always answers.
        let _ = bucket.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// Whether nothing is missing from it.
    pub fn is_full(&self, bucket: &Bucket, now_us: u64) -> bool {
        self.ahead(bucket.0.load(Ordering::Relaxed), now_us.wrapping_mul(self.ticks_per_us)) == 0
    }

    /// Ticks until it is full. What lies further ahead than anybody could have taken is the past.
    fn ahead(&self, full_at: u64, now: u64) -> u64 {
        let ahead = full_at.wrapping_sub(now);
        if ahead > self.window + SLACK_US * self.ticks_per_us { 0 } else { ahead }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[path = "bucket/tests.rs"]
mod tests;
