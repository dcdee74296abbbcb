//! Randomness for epochs and jitter: unpredictable enough to spread load, not for secrets.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// 64 random bits: every `RandomState` is keyed from the operating system's randomness.
pub(crate) fn bits() -> u64 {
    RandomState::new().hash_one(std::time::SystemTime::now())
}

/// A uniform share of `limit`.
pub(crate) fn up_to(limit: Duration) -> Duration {
    limit.mul_f64((bits() >> 11) as f64 / (1u64 << 53) as f64)
}
